"""The cookbook's scripts, each with a client of a real cache."""

import asyncio
from io import BytesIO

from PIL import Image

from tests.support.pictures import encoded, jpeg
from tests.support.readme import does


def sizes_of_one_picture(filled):
    """Store the first picture in two more sizes; return the URLs, the smallest one first."""
    picture = Image.open(BytesIO(filled.originals["1.jpg"].body))
    with filled.client() as client:
        for width in (32, 256):
            data = encoded(picture.resize((width, width * 3 // 4)), "JPEG", quality=95)
            client.store(f"{filled.url}?w={width}", data, "me")
    return [f"{filled.url}?w=32", filled.url, f"{filled.url}?w=256"]


@does("show a picture in a notebook")
def test_notebook(shop, job):
    """The lines work while an event loop runs, as in a notebook, and give a picture."""

    async def cell():
        return shop.script(job)

    assert asyncio.run(cell()).size == (160, 120)
    assert asyncio.run(cell()).size == (160, 120)
    assert shop.asked == 1


@does("see in which sizes I have a picture")
def test_sizes(filled, job):
    """All sizes of the picture are listed, each with its URL."""
    urls = sizes_of_one_picture(filled)
    found = sorted(filled.script(job))
    assert found == [(32, 24, urls[0]), (160, 120, urls[1]), (256, 192, urls[2])]


@does("get the best copy of a picture")
def test_best_copy(filled, job):
    """The largest of the pictures that look alike is found."""
    assert filled.script(job)["url"] == filled.url
    *_, largest = sizes_of_one_picture(filled)
    assert filled.script(job)["url"] == largest


@does("find duplicates")
def test_duplicates(filled, job):
    """A picture that several URLs have given is found."""
    assert filled.script(job) == {}
    with filled.client() as client:
        entry = client.store(f"{filled.url}?again", filled.originals["1.jpg"].body, "me")
    assert filled.script(job) == {entry["content_hash"]: 2}


@does("find what looks like a file")
def test_similar_to_a_file(filled, job, monkeypatch):
    """The picture is found by a file with other bytes, which is not stored."""
    monkeypatch.chdir(filled.project)
    picture = Image.open(BytesIO(filled.originals["1.jpg"].body))
    (filled.project / "photo.jpg").write_bytes(encoded(picture, "PNG"))
    assert [each["url"] for each in filled.script(job)] == [filled.url]
    (filled.project / "photo.jpg").write_bytes(jpeg(7))
    assert filled.script(job) == []


@does("get the bytes of a URL in a script")
def test_bytes(shop, job):
    """The first call fetches and stores the picture, the second one asks no site."""
    for _ in range(2):
        assert shop.script(job) == shop.originals["1.jpg"].body
    assert shop.asked == 1


@does("see all URLs of a picture")
def test_all_urls(filled, job):
    """Each URL that has given these bytes is found."""
    with filled.client() as client:
        client.store("http://b.example/x", filled.originals["1.jpg"].body, "me")
    assert filled.script(job) == {filled.url, "http://b.example/x"}


@does("see which page used a picture (with `IMGCACHE_PROVENANCE`)")
def test_page(shop, job):
    """The page whose item has the picture is found."""
    shop.write_settings(more="IMGCACHE_PROVENANCE = True")
    shop.crawl()
    assert shop.script(job) == {f"{shop.site.url}/"}


@does("see which item used a picture (with `IMGCACHE_PROVENANCE`)")
def test_item(shop, job):
    """The number of the item is found."""
    shop.write_settings(more="IMGCACHE_PROVENANCE = True")
    shop.crawl()
    assert shop.script(job) == {"s5"}

"""`imgcache import` of what crawls without the cache have left: feeds, stores, HttpCache."""

import dbm.dumb
import gzip
import json
import pickle
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from imgcache_scrapy import ImgCacheClient
from tests.cli.transfer.test_import import counts, entries, numbers, write, write_jsonl
from tests.support.crawling import run_crawl
from tests.support.originals import Original
from tests.support.pictures import jpeg, picture
from tests.support.site import Site, redirect, respond

IMAGES = {
    "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1},
    "IMAGES_STORE": "images",
}
FILES = {
    "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1},
    "FILES_STORE": "files",
    "FILES_URLS_FIELD": "image_urls",
}
OURS = {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1}, "IMAGES_STORE": "images"}
STORAGES = {
    "files": {},
    "gzip": {"HTTPCACHE_GZIP": True},
    "dbm": {
        "HTTPCACHE_STORAGE": "scrapy.extensions.httpcache.DbmCacheStorage",
        "HTTPCACHE_DBM_MODULE": "dbm.dumb",
    },
}


@pytest.fixture
def site():
    """Return a site with three pictures."""
    site = Site()
    site.answers |= {"/1.png": picture(1), "/2.jpg": jpeg(2), "/3.jpg": jpeg(3)}
    yield site
    site.close()


@pytest.fixture
def crawl(tmp_path, site):
    """Return a function that runs a crawl; its feeds and stores are in `tmp_path`."""
    return partial(run_crawl, tmp_path, site)


def items_of(site):
    """Return an item with the pictures of the site."""
    return [{"image_urls": [site.url + path for path in ("/1.png", "/2.jpg", "/3.jpg")]}]


def feed(kind):
    """Return the settings for a feed."""
    formats = {"jsonl": "jsonlines", "json": "json", "csv": "csv"}
    return {"FEEDS": {f"items.{kind}": {"format": formats[kind]}}}


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_an_images_store_with_its_feed(run, crawl, site, tmp_path, kind):
    """Each picture is imported under its URL, and marked as converted; twice is once."""
    crawl(items_of(site), IMAGES | feed(kind))
    options = ("import", "images", "--items", f"items.{kind}", "--cache", "new", "--json")
    assert counts(run(*options))[0] == numbers(files=3, stored=3)
    assert counts(run(*options))[0] == numbers(files=3, known=3)
    found = entries(tmp_path / "new")
    assert {entry["url"] for entry in found} == {*items_of(site)[0]["image_urls"]}
    assert all(entry["converted"] and entry["content_type"] == "image/jpeg" for entry in found)


def test_a_files_store_has_the_bytes_of_the_site(run, crawl, site, tmp_path):
    """They are not converted; the options decide otherwise."""
    crawl(items_of(site), FILES | feed("jsonl"))
    run("import", "files", "--items", "items.jsonl", "--cache", "new")
    assert not any("converted" in entry for entry in entries(tmp_path / "new"))
    run("import", "files", "--items", "items.jsonl", "--cache", "forced", "--converted")
    marked = [entry for entry in entries(tmp_path / "forced") if entry.get("converted")]
    assert {entry["content_type"] for entry in marked} == {"image/jpeg"}
    assert len(marked) == 2
    run("import", "files", "--items", "items.jsonl", "--cache", "other", "--field", "images")
    assert not (tmp_path / "other").exists()


def test_a_hostile_item_is_told(run, tmp_path):
    """Lines that are no items, and results of other types, break nothing."""
    write(tmp_path / "store", "a.jpg", jpeg(1))
    good = {"url": "http://h.example/a.jpg", "path": "a.jpg", "checksum": None}
    items = [
        ["no item"],
        {"images": "[{'url': 1, 'path': {}}]", "other": "[" * 5000, "deep": {"url": 1}},
        {"images": [good, {**good, "path": 3}, None, {**good, "lookup_time": "never"}]},
        {"images": [{**good, "url": "http://[", "lookup_time": ["x"]}, {**good, "url": "a.jpg"}]},
    ]
    feed_path = write_jsonl(tmp_path / "items.jsonl", items)
    done = run("import", "store", "--items", feed_path, "--cache", "new", "--json")
    assert counts(done)[0] == numbers(files=4, stored=1, bad=3)


def test_a_converted_picture_is_never_changed(run, crawl, site, tmp_path):
    """The site sends other bytes than those that were imported: that is no change of the picture.

    Its next capture is the original, and a real change after that counts.
    """
    original = site.answers["/2.jpg"] = Original(jpeg(2))
    items = [{"image_urls": [f"{site.url}/2.jpg"]}]
    crawl(items, IMAGES | feed("jsonl"))
    run("import", "images", "--items", "items.jsonl", "--cache", "cache")
    always = {"IMGCACHE_MAX_AGE": 0, "ITEM_PIPELINES": {"imgcache_scrapy.ImgCachePipeline": 1}}
    first = crawl(items, always)
    assert first.fates == {"stored": 1}
    (result,) = first.items[0]["images"]
    assert "changed" not in result
    assert "converted" not in result
    assert crawl(items, always).fates == {"revalidated": 1}
    original.body = jpeg(5)
    assert crawl(items, always).items[0]["images"][0]["changed"] is True


def test_the_drop_in_does_not_encode_a_converted_picture_again(run, crawl, site, tmp_path):
    """Its file is byte for byte the imported one, with thumbnails; originals are encoded."""
    crawl(items_of(site), IMAGES | feed("jsonl"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "images/full").iterdir()}
    run("import", "images", "--items", "items.jsonl", "--cache", "cache")
    settings = OURS | {"WITHOUT_FILES": True, "IMAGES_THUMBS": {"s": (8, 8)}}
    done = crawl(items_of(site), settings)
    assert done.fates == {"hit": 3}
    after = {path.name: path.read_bytes() for path in (tmp_path / "images/full").iterdir()}
    assert after == before
    thumbs = []
    for path in (tmp_path / "images/thumbs/s").iterdir():
        with Image.open(path) as thumb:
            thumbs.append(thumb.size)
    assert len(thumbs) == 3
    assert all(max(size) == 8 for size in thumbs)


def test_the_feed_of_our_drop_in_says_what_the_site_sent(run, crawl, site, tmp_path):
    """Its results have the hash of the original: only files with other bytes are converted."""
    crawl(items_of(site), OURS | feed("jsonl"))
    done = run("import", "images", "--items", "items.jsonl", "--cache", "new", "--json")
    assert counts(done)[0] == numbers(files=3, stored=3)
    assert all(entry["converted"] for entry in entries(tmp_path / "new"))
    settings = {
        "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1},
        "FILES_STORE": "files",
        "FILES_URLS_FIELD": "image_urls",
        "FILES_RESULT_FIELD": "images",
        "FEEDS": {"ours.jsonl": {"format": "jsonlines"}},
    }
    crawl(items_of(site), settings)
    run("import", "files", "--items", "ours.jsonl", "--cache", "originals")
    assert not any("converted" in entry for entry in entries(tmp_path / "originals"))


@pytest.mark.parametrize("storage", STORAGES)
def test_an_http_cache(run, crawl, site, tmp_path, storage):
    """Pictures keep URL, headers and spider; pages, errors and redirects are left out."""
    site.answers["/1.png"] = lambda handler: respond(
        handler, picture(1), content_type="image/png", headers={"ETag": '"one"', "Vary": "Accept"}
    )
    site.answers["/gz.svg"] = lambda handler: respond(
        handler,
        gzip.compress(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        content_type="image/svg+xml",
        headers={"Content-Encoding": "gzip"},
    )
    site.answers["/moved.jpg"] = redirect("/2.jpg")
    paths = ("/1.png", "/2.jpg", "/gz.svg", "/moved.jpg", "/404.jpg")
    settings = IMAGES | {"HTTPCACHE_ENABLED": True, "MEDIA_ALLOW_REDIRECTS": True}
    settings |= {"HTTPCACHE_DIR": str(tmp_path / "httpcache"), **STORAGES[storage]}
    settings["DEFAULT_REQUEST_HEADERS"] = {"Accept": "image/png"}
    crawl([{"image_urls": [site.url + path for path in paths]}], settings)
    dry, _ = counts(run("import", "httpcache", "--cache", "new", "--json", "--dry-run"))
    done = run("import", "httpcache", "--cache", "new", "--json")
    assert done.returncode == 0, done.stdout
    # The page, the redirect and the error.
    assert counts(done)[0] == dry == numbers(files=3, stored=3, other=3)
    again = run("import", "httpcache", "--cache", "new", "--json")
    assert counts(again)[0] == numbers(files=3, known=3, other=3)
    found = {entry["url"]: entry for entry in entries(tmp_path / "new")}
    assert set(found) == {site.url + path for path in paths[:3]}
    entry = found[f"{site.url}/1.png"]
    assert entry["headers"]["ETag"] == '"one"'
    assert entry["client_name"] == "items"
    # A database of Scrapy has no headers of requests.
    assert entry.get("accept") == (None if storage == "dbm" else "image/png")
    with ImgCacheClient(str(tmp_path / "new")) as client:
        assert client.get_bytes(entry["content_hash"]) == picture(1)


@pytest.mark.parametrize("storage", ["files", "gzip"])
def test_an_answer_to_a_body_is_not_imported(run, crawl, site, tmp_path, storage):
    """The URL of a request with a body does not name its picture."""

    def answer(handler):
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        respond(handler, jpeg(1))

    site.answers["/1.jpg"] = answer
    pipelines = {"ITEM_PIPELINES": {"custom.NumbersStockPipeline": 1}}
    settings = FILES | pipelines | STORAGES[storage] | {"HTTPCACHE_ENABLED": True}
    settings["HTTPCACHE_DIR"] = str(tmp_path / "httpcache")
    crawl([{"image_urls": [f"{site.url}/1.jpg"], "numbered": "body"}], settings)
    done = run("import", "httpcache", "--cache", "new", "--json")
    assert counts(done)[0] == numbers(files=0, other=2)


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_trusted(run, tmp_path):
    """A hostile pickle in a database or beside `meta` runs nothing, and the rest is imported."""
    marker = tmp_path / "marker"
    folder = tmp_path / "httpcache"
    folder.mkdir()
    good = {"url": "http://h.example/1.png", "status": 200, "headers": {}, "body": picture(1)}
    with dbm.dumb.open(str(folder / "spider.db"), "c") as database:
        database["a_data"] = pickle.dumps(Evil(marker))
        database["b_data"] = pickle.dumps({**good, "headers": Evil(marker)})
        database["c_data"] = pickle.dumps({**good, "body": "text"})
        database["d_data"] = b"\x80\x04garbage"
        database["e_data"] = pickle.dumps(good)
    name = "spider/ab/" + "a" * 40
    for part in ("pickled_meta", "response_data"):
        write(folder, f"{name}/{part}", pickle.dumps(Evil(marker)))
    meta = {"url": "http://h.example/2.png", "status": 200, "method": "GET", "timestamp": 1.0}
    write(folder, f"{name}/meta", repr(meta).encode())
    write(folder, f"{name}/response_headers", b"Content-Type: image/png\r\n")
    write(folder, f"{name}/response_body", picture(2))
    for number, text in enumerate((b"__import__('os')", b"{'url': 1}", b"(" * 9999, b"\xff")):
        bad = f"spider/ab/{number:040x}"
        write(folder, f"{bad}/meta", text)
        write(folder, f"{bad}/response_headers", b"")
        write(folder, f"{bad}/response_body", picture(3))
    done = run("import", "httpcache", "--cache", "new", "--json")
    assert counts(done)[0] == numbers(files=10, stored=2, bad=8)
    assert not marker.exists()


def test_a_compressed_file_that_is_too_large_is_told(run, tmp_path):
    """A few kilobytes must not become gigabytes."""
    bomb = BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb") as file:
        for _ in range(101):
            file.write(bytes(2**20))
    name = "spider/ab/" + "a" * 40
    meta = {"url": "http://h.example/2.png", "status": 200, "method": "GET", "timestamp": 1.0}
    write(tmp_path / "h", f"{name}/meta", gzip.compress(repr(meta).encode()))
    write(tmp_path / "h", f"{name}/response_headers", gzip.compress(b""))
    write(tmp_path / "h", f"{name}/response_body", bomb.getvalue())
    done = run("import", "h", "--cache", "new", "--json")
    assert (done.returncode, counts(done)[0]) == (1, numbers(files=1, bad=1))
    reason = json.loads(done.stdout.splitlines()[0])
    assert "more than" in reason["reason"]

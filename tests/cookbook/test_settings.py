"""The cookbook's settings, each in a real project."""

import shutil

from PIL import Image

from tests.support.originals import status as answer_with
from tests.support.pictures import jpeg
from tests.support.readme import does
from tests.support.shop import Shop


def statuses(item):
    """Return the status of each picture of an item."""
    return [each["status"] for each in item["images"]]


@does("use the cache in a whole project")
def test_addon(shop, job):
    """The second crawl asks for no picture."""
    shop.write_settings(job, addon=False)
    assert statuses(shop.crawl()) == ["downloaded", "downloaded"]
    assert statuses(shop.crawl()) == ["cached", "cached"]
    assert shop.asked == 2


@does("get thumbnails and local files")
def test_thumbnails(shop, job):
    """Files and thumbnails are made, and made again without a request."""
    shop.write_settings(job)
    for _ in range(2):
        shop.crawl()
        assert len(list((shop.project / "images" / "full").iterdir())) == 2
        small = next((shop.project / "images" / "thumbs" / "small").iterdir())
        with Image.open(small) as thumbnail:
            assert max(thumbnail.size) == 120
        shutil.rmtree(shop.project / "images")
    assert shop.asked == 2


@does("share a cache between two spiders")
def test_two_spiders(shop, job, tmp_path):
    """The other spider hits what the first one has fetched, also in another project."""
    other = Shop(tmp_path / "other", shop.site)
    other.replaced = shop.replaced
    for project, spider, status in (
        (shop, "shop", "downloaded"),
        (shop, "outlet", "cached"),
        (other, "shop", "cached"),
    ):
        project.write_settings(job)
        assert statuses(project.crawl(spider=spider)) == [status, status]
    assert (tmp_path / "imgcache" / "catalog.sqlite3").exists()
    assert shop.asked == 2


@does("name the files myself")
def test_names(shop, job):
    """The files have the names of the template."""
    shop.write_settings(job)
    shop.crawl()
    names = [path.name for path in (shop.project / "images").iterdir()]
    assert sorted(names) == ["s5-1.jpg", "s5-2.jpg"]


@does("get the failed URLs in the item")
def test_failures(shop, job):
    """A missing picture is listed with the reason, the others are delivered."""
    shop.originals["1.jpg"].trouble = answer_with(404)
    shop.write_settings(job)
    item = shop.crawl()
    assert item["failures"] == [{"url": shop.url, "reason": "http_404", "http_status": 404}]
    assert statuses(item) == ["downloaded"]


@does("cap the size of the cache")
def test_cap(filled, job):
    """A new picture takes the place of the one that was not used for the longest time."""
    size = sum(len(each.body) for each in filled.originals.values())
    filled.replaced["10GB"] = str(size)
    filled.set_last_use("2.jpg", days=9)
    filled.set_last_use("1.jpg", days=5)
    filled.site.answers["/3.jpg"] = jpeg(3)
    filled.show("3.jpg")
    filled.write_settings(job)
    filled.crawl()
    with filled.client() as client:
        assert sorted(each["url"][-5:] for each in client.list()) == ["1.jpg", "3.jpg"]


@does("have a bucket for each customer")
def test_bucket(shop, job):
    """The pictures of the crawl are in that bucket alone."""
    shop.write_settings(job)
    shop.crawl()
    with shop.client() as client:
        assert client.buckets() == {"customer-1": 2}


@does("ask the site whether a picture has changed")
def test_revalidation(filled, job):
    """The site confirms one picture without sending it; the other one has changed."""
    filled.originals["2.jpg"].body = jpeg(9)
    filled.write_settings(job)
    same, other = filled.crawl()["images"]
    assert (same["status"], filled.originals["1.jpg"].sent_bytes) == ("cached", 0)
    assert (other["status"], other["changed"]) == ("downloaded", True)


@does("refresh what is older than 30 days")
def test_expiry(shop, job):
    """Only the old picture is asked for, and replaced."""
    shop.store({"1.jpg": 31, "2.jpg": 29})
    shop.originals["1.jpg"].body = jpeg(9)
    shop.write_settings(job)
    images = shop.crawl()["images"]
    assert [each.get("changed") for each in images] == [True, None]
    assert shop.asked == 1


@does("keep hitting when signatures change")
def test_signatures(shop, job):
    """The same picture with a new token is a hit."""
    shop.write_settings(job)
    for token in "ab":
        shop.show(f"1.jpg?token={token}&expires=1")
        images = shop.crawl()["images"]
    assert (images[0]["status"], shop.asked) == ("cached", 1)


@does("ask the cache in an `async def` callback")
def test_async_callback(filled, job):
    """The callback finds the pictures that the cache has."""
    filled.show("1.jpg", "3.jpg")
    filled.write_spiders(job, "async def")
    assert filled.crawl()["known"] == [filled.url]


@does("ask the cache in a plain callback")
def test_plain_callback(filled, job):
    """The callback finds the pictures that the cache has."""
    filled.show("1.jpg", "3.jpg")
    filled.write_spiders(job, "def")
    assert filled.crawl()["known"] == [filled.url]

"""Takedowns and real crawls: what is blocked is not even asked for, and does not come back."""

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import redirect

IMAGES = {
    "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
    "IMAGES_STORE": "images",
}
COMPONENTS = {"pipeline": PIPELINE, "files": FILES, "images": IMAGES, "middleware": STOCK}


@pytest.fixture
def client(tmp_path):
    """Open the cache of the crawls."""
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        yield client


@pytest.fixture
def elsewhere(site):
    """Return the address of the site under another host name."""
    return site.url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_blocked_host_is_not_asked(crawl, site, client, elsewhere, component):
    """Its images are rejected without a request; the same bytes of another host still hit."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    client.store(f"{site.url}/a.jpg", jpeg(1), "me")
    client.store(f"{elsewhere}/a.jpg", jpeg(1), "me")
    assert client.delete_captures(host="127.0.0.1", block=True)["captures"] == 1
    urls = [f"{site.url}/a.jpg", f"{site.url}/b.jpg", f"{elsewhere}/a.jpg"]
    settings = {"IMGCACHE_MODE": "refresh"} if component == "pipeline" else {}
    done = crawl([{"image_urls": urls[:2]}], COMPONENTS[component] | settings)
    assert done.stats["imgcache/rejected/blocked"] == 2
    assert done.fates == {"rejected": 2}
    assert not site.images_asked()
    done = crawl([{"image_urls": urls}], COMPONENTS[component])
    assert done.fates == {"rejected": 2, "hit": 1}
    assert not site.images_asked()
    assert not done.warnings
    assert "Traceback" not in done.log


@pytest.mark.parametrize("crawls", [2, pytest.param(10, marks=pytest.mark.endurance)])
def test_nothing_comes_back_until_it_is_unblocked(crawl, site, client, crawls):
    """Crawls later nothing is back; after `unblock`, the pictures come again."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(3)}
    urls = [f"{site.url}/{n}.jpg" for n in range(3)]
    items = [{"image_urls": urls}]
    assert crawl(items, PIPELINE).fates == {"stored": 3}
    client.delete_captures(url=urls[0], block=True)
    client.delete_captures(url_contains="/1.jpg", block=True)
    for _ in range(crawls):
        assert crawl(items, PIPELINE).fates == {"hit": 1, "rejected": 2}
    # The URL is not asked for; the picture is known only once it is here.
    assert site.images_asked() == {"/0.jpg": 1, "/1.jpg": 1 + crawls, "/2.jpg": 1}
    assert [entry["url"] for entry in client.list()] == urls[2:]
    client.unblock(url=urls[0])
    for each in client.blocked():
        client.unblock(each["content_hash"])
    assert crawl(items, PIPELINE).fates == {"hit": 1, "stored": 2}


def test_a_redirect_to_a_blocked_host_is_rejected(crawl, site, client, elsewhere):
    """The picture is neither stored nor delivered, with and without the middleware."""
    site.answers |= {"/a.jpg": redirect(f"{elsewhere}/b.jpg"), "/b.jpg": jpeg(1)}
    client.delete_captures(host="localhost", block=True)
    both = PIPELINE | {"DOWNLOADER_MIDDLEWARES": STOCK["DOWNLOADER_MIDDLEWARES"]}
    for settings in (PIPELINE, both):
        done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], settings)
        assert done.fates == {"rejected": 1}
        assert done.stats["imgcache/rejected/blocked"] == 1
        assert client.list() == []
    assert site.images_asked() == {"/a.jpg": 2, "/b.jpg": 1}


def test_a_service_tells_crawls_what_is_blocked(crawl, site, service):
    """Over a service, a blocked URL is not asked for, and the spool keeps nothing of it."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    with ImgCacheClient(service.url) as client:
        client.delete_captures(url=f"{site.url}/a.jpg", block=True)
    items = [{"image_urls": [f"{site.url}/a.jpg", f"{site.url}/b.jpg"]}]
    done = crawl(items, PIPELINE | {"IMGCACHE_URL": service.url})
    assert done.fates == {"rejected": 1, "stored": 1}
    assert site.images_asked() == {"/b.jpg": 1}


def test_images_of_a_blocked_host_leave_the_spool(crawl, site, client, tmp_path):
    """A replay sets them aside: the cache does not take them."""
    site.answers |= {"/a.jpg": jpeg(1)}
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    down = {"IMGCACHE_URL": "http://127.0.0.1:9"}
    assert crawl(items, PIPELINE | down).fates == {"spooled": 1}
    client.delete_captures(host="127.0.0.1", block=True)
    (record,) = tmp_path.glob(".scrapy/imgcache-spool/*")
    line, _, data = record.read_bytes().partition(b"\n")
    assert data == jpeg(1)
    assert b"127.0.0.1" in line


def test_a_local_file_of_a_blocked_host_is_not_delivered(crawl, site, client):
    """The drop-in has the file of an earlier crawl, and does not deliver it."""
    site.answers |= {"/a.jpg": jpeg(1)}
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    assert crawl(items, FILES).fates == {"stored": 1}
    client.delete_captures(host="127.0.0.1", block=True)
    done = crawl(items, FILES)
    assert done.fates == {"rejected": 1}
    assert done.items[0]["images"] == []
    assert site.images_asked() == {"/a.jpg": 1}

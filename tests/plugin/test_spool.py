"""Crawls that share a spool, and crawls that the cache refuses."""

import pytest

from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.proxy import Proxy

NOWHERE = "http://127.0.0.1:9"
COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@pytest.fixture
def items(site):
    """Put 20 images on the site, and return four items with five of them each."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(20)}
    urls = [f"{site.url}/{n}.jpg" for n in range(20)]
    return [{"image_urls": urls[first : first + 5]} for first in range(0, 20, 5)]


@pytest.mark.parametrize("component", COMPONENTS)
def test_spooled_images_are_not_fetched_again(items, crawl, site, component):
    """While the cache is down, the second crawl gets its images from the spool."""
    settings = COMPONENTS[component] | {"IMGCACHE_URL": NOWHERE, "WITHOUT_FILES": True}
    assert crawl(items, settings).fates == {"spooled": 20}
    again = crawl(items, settings)
    assert (again.fates, site.images_asked().total()) == ({"hit": 20}, 20)
    assert [len(item["images"]) for item in again.items] == [5] * 4
    if component != "middleware":
        assert {image["status"] for item in again.items for image in item["images"]} == {"cached"}
    assert len(again.warnings) == 1


def test_spooled_images_belong_to_one_cache(items, crawl, site, tmp_path):
    """A crawl with another cache neither stores these images nor counts them as hits."""
    down = PIPELINE | {"IMGCACHE_URL": NOWHERE}
    crawl(items, down)
    other = crawl(items, PIPELINE | {"IMGCACHE_URL": str(tmp_path / "other")})
    assert other.fates == {"stored": 20}
    assert "imgcache/replayed" not in other.stats
    assert crawl(items, down).fates == {"hit": 20}
    assert site.images_asked().total() == 40


@pytest.mark.parametrize("component", [*COMPONENTS, "no reactor"])
def test_a_refused_token_stops_the_crawl(items, crawl, site, stopped_service, component):
    """The log says once what to do, and nothing is fetched or spooled."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    no_reactor = PIPELINE | {"TWISTED_REACTOR_ENABLED": False}
    settings = (COMPONENTS | {"no reactor": no_reactor})[component] | {
        "IMGCACHE_URL": stopped_service.url
    }
    for token in ({}, {"IMGCACHE_TOKEN": "wrong"}):
        done = crawl(items, settings | token)
        assert (done.items, site.asked.total()) == ([], 0)
        assert done.log.count("set IMGCACHE_TOKEN to the token of its service") == 1
        assert done.stats["finish_reason"] == "imgcache_unauthorized"
        assert "Traceback" not in done.log
    # The spool is empty: a record in it would be replayed.
    done = crawl(items, settings | {"IMGCACHE_TOKEN": "secret"})
    assert (done.fates, done.stats.get("imgcache/replayed")) == ({"stored": 20}, None)


def test_an_unknown_host_name_stops_the_crawl(items, crawl, site, service):
    """One sentence names the option of the service; nothing is fetched, and nothing is spooled."""
    proxy = Proxy(service.url)
    settings = PIPELINE | {"IMGCACHE_URL": proxy.url}
    proxy.host = b"cache.example.com"
    done = crawl(items, settings)
    assert (done.items, site.asked.total()) == ([], 0)
    assert done.log.count("--allowed-host cache.example.com") == 1
    assert done.stats["finish_reason"] == "imgcache_host"
    assert "Traceback" not in done.log
    proxy.host = b"cache"
    assert crawl(items, settings).fates == {"stored": 20}
    proxy.close()


def test_small_spooled_images_are_rejected(crawl, site):
    """A spooled image is not decoded: its header gives the size, after a fetch and for a hit."""
    site.answers |= {
        "/large.jpg": jpeg(1, size=(64, 48)),
        "/small.jpg": jpeg(2, size=(40, 30)),
        "/unknown.jpg": b"8BPS\0\1 a picture of a format without a known header",
    }
    items = [{"image_urls": [site.url + path for path in site.answers]}]
    limits = {"IMGCACHE_MIN_WIDTH": 50, "IMGCACHE_MIN_HEIGHT": 40}
    for _ in range(2):
        done = crawl(items, PIPELINE | {"IMGCACHE_URL": NOWHERE} | limits)
        urls = [image["url"].rpartition("/")[2] for image in done.items[0]["images"]]
        assert urls[:1] == ["large.jpg"]
        assert "small.jpg" not in urls
        assert done.stats["imgcache/rejected/too_small"] == 1


def test_a_crawl_without_images_opens_no_cache(crawl, tmp_path):
    """Neither the check of the token nor an empty spool opens the cache."""
    crawl([], PIPELINE)
    assert not (tmp_path / "cache").exists()

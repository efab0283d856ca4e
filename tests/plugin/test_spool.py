"""Crawls that share a spool, and crawls whose token the cache refuses."""

import pytest

from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK

NOWHERE = "http://127.0.0.1:9"
ROADS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@pytest.fixture
def items(site):
    """Four items with five images each, all of them on the site."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(20)}
    urls = [f"{site.url}/{n}.jpg" for n in range(20)]
    return [{"image_urls": urls[first : first + 5]} for first in range(0, 20, 5)]


@pytest.mark.parametrize("road", ROADS)
def test_what_waits_is_not_fetched_again(items, crawl, site, road):
    """While the cache is down, the second crawl has its images from the spool."""
    settings = ROADS[road] | {"IMGCACHE_URL": NOWHERE, "FILES_EXPIRES": -1}
    assert crawl(items, settings).fates == {"spooled": 20}
    again = crawl(items, settings)
    assert (again.fates, site.images_asked().total()) == ({"hit": 20}, 20)
    assert [len(item["images"]) for item in again.items] == [5] * 4
    if road != "middleware":
        assert {image["status"] for item in again.items for image in item["images"]} == {"cached"}
    assert len(again.warnings) == 1


def test_what_waits_for_another_cache_stays(items, crawl, site, tmp_path):
    """A crawl with another cache neither takes it nor has it for a hit."""
    down = PIPELINE | {"IMGCACHE_URL": NOWHERE}
    crawl(items, down)
    other = crawl(items, PIPELINE | {"IMGCACHE_URL": str(tmp_path / "other")})
    assert other.fates == {"stored": 20}
    assert "imgcache/replayed" not in other.stats
    assert crawl(items, down).fates == {"hit": 20}
    assert site.images_asked().total() == 40


@pytest.mark.parametrize("road", [*ROADS, "no reactor"])
def test_a_refused_token_stops_the_crawl(items, crawl, site, stopped_service, road):
    """One sentence says what to do; nothing is fetched, and nothing is spooled."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    no_reactor = PIPELINE | {"TWISTED_REACTOR_ENABLED": False}
    settings = (ROADS | {"no reactor": no_reactor})[road] | {"IMGCACHE_URL": stopped_service.url}
    for token in ({}, {"IMGCACHE_TOKEN": "wrong"}):
        done = crawl(items, settings | token)
        assert (done.items, site.asked.total()) == ([], 0)
        assert done.log.count("set IMGCACHE_TOKEN to the token of its service") == 1
        assert done.stats["finish_reason"] == "imgcache_unauthorized"
        assert "Traceback" not in done.log
    # Nothing is in the spool: it would be replayed.
    done = crawl(items, settings | {"IMGCACHE_TOKEN": "secret"})
    assert (done.fates, done.stats.get("imgcache/replayed")) == ({"stored": 20}, None)


def test_the_size_of_what_waits_is_judged(crawl, site):
    """It is not decoded, but its header tells the size: when it is fetched, and as a hit."""
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
    """Neither the check of the token nor an empty spool needs it."""
    crawl([], PIPELINE)
    assert list((tmp_path / "cache").iterdir()) == []

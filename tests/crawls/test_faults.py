"""Crawls through every fault of the cache: no image is lost, and the next crawl stores them."""

from itertools import cycle
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.crawls.roads import FILES, PIPELINE, STOCK
from tests.crawls.site import jpeg, respond
from tests.proxy import FAULTS, Proxy

TIMEOUT = 1
ROADS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@pytest.fixture
def proxy(shared_service):
    """A proxy in front of a service."""
    proxy = Proxy(shared_service.url)
    yield proxy
    proxy.close()


@pytest.fixture
def settings(proxy):
    """What all crawls of a test share; their bucket is their own."""
    return {
        "IMGCACHE_URL": proxy.url,
        "IMGCACHE_BUCKET": uuid4().hex,
        "IMGCACHE_TIMEOUT": TIMEOUT,
        "FILES_EXPIRES": -1,
    }


def items_of(site, count):
    """Items with five images each."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(count)}
    urls = [f"{site.url}/{n}.jpg" for n in range(count)]
    return [{"image_urls": urls[first : first + 5]} for first in range(0, count, 5)]


def spooled_in(tmp_path):
    """The records in the spool, without those that were refused."""
    return [path for path in tmp_path.glob(".scrapy/imgcache-spool/*") if path.is_file()]


def assert_nothing_is_lost(crawl, site, tmp_path, settings, proxy, *, fault, at, count):
    """Crawl through a fault, then again without images: all are stored under their URLs."""
    items = items_of(site, count)

    def turn(handler):
        proxy.fault = fault
        respond(handler, jpeg(at))

    if at:
        site.answers[f"/{at}.jpg"] = turn
    else:
        proxy.fault = fault
    done = crawl(items, settings)
    assert [len(item["images"]) for item in done.items] == [5] * (count // 5)
    assert sum(done.fates.values()) == count
    assert set(done.fates) <= {"stored", "spooled"}
    assert done.fates["spooled"] == len(spooled_in(tmp_path)) > 0
    assert len(done.warnings) == 1, done.warnings
    assert "Traceback" not in done.log
    proxy.fault = None
    after = crawl([], settings)
    assert after.stats["imgcache/replayed"] == done.fates["spooled"]
    assert spooled_in(tmp_path) == []
    assert after.warnings == []
    with ImgCacheClient(proxy.url, bucket=settings["IMGCACHE_BUCKET"]) as client:
        entries = client.lookup_many(url for item in items for url in item["image_urls"])
    assert len(entries) == count
    return done


@pytest.mark.parametrize(
    ("fault", "at", "road"),
    [
        (fault, at, road)
        for road, (fault, at) in zip(
            cycle(ROADS), [(f, at) for at in (0, 20) for f in FAULTS], strict=False
        )
    ],
)
def test_a_fault_costs_no_image(crawl, site, tmp_path, settings, proxy, fault, at, road):
    """At the start or in the middle: each image is delivered, warned of once, and stored later."""
    done = assert_nothing_is_lost(
        crawl, site, tmp_path, settings | ROADS[road], proxy, fault=fault, at=at, count=50
    )
    assert done.stats["elapsed_time_seconds"] < 2 * TIMEOUT + 3
    asked = [path for _, path in proxy.asked]
    assert "/health" not in asked


@pytest.mark.endurance
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("at", [0, 200])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_none_of_many_images(crawl, site, tmp_path, settings, proxy, fault, at, road):
    """500 images on every road, through every fault."""
    assert_nothing_is_lost(
        crawl, site, tmp_path, settings | ROADS[road], proxy, fault=fault, at=at, count=500
    )

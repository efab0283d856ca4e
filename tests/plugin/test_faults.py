"""Crawls through every fault of the cache: no image is lost, and the next crawl stores them."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.plugin.memory import MAX_IMAGES
from tests.support.crawling import CrawlResult
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.proxy import FAULTS, POISON, Proxy
from tests.support.site import Site, respond
from tests.support.waiting import PATIENCE, wait_until

# Seconds. Where the cache gives good answers first, a busy machine may take long over them.
TIMEOUT = 2
LATER_TIMEOUT = 10
ROADS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@dataclass
class World:
    """A site, a service behind a proxy, and crawls of the one through the other."""

    site: Site
    proxy: Proxy
    spool: Path
    crawl: Any
    settings: dict[str, Any]
    seed: int = field(default_factory=lambda: uuid4().int)

    def picture(self, number: int) -> bytes:
        """A picture that no other test has stored in the service."""
        return jpeg(self.seed + number)

    @property
    def spooled(self) -> list[Path]:
        """The records in the spool, without those that were refused."""
        return [path for path in self.spool.glob("*") if path.is_file()]

    def run(
        self,
        items: list[dict[str, Any]],
        road: str,
        interrupt_when: Any = None,
        **settings: Any,
    ) -> CrawlResult:
        """Crawl."""
        settings = self.settings | ROADS[road] | settings
        return self.crawl(items, settings, interrupt_when=interrupt_when)

    def items(self, count: int) -> list[dict[str, Any]]:
        """Items with five images each, which the site has."""
        self.site.answers |= {f"/{n}.jpg": self.picture(n) for n in range(count)}
        urls = [f"{self.site.url}/{n}.jpg" for n in range(count)]
        return [{"image_urls": urls[first : first + 5]} for first in range(0, count, 5)]

    def fail(self, fault: str | None, *, at: int) -> None:
        """Have the cache fail when the image of that number is asked for; 0 for at once."""

        if fault in {"hang", "drip"}:
            self.settings["IMGCACHE_TIMEOUT"] = LATER_TIMEOUT if at else TIMEOUT

        def turn(handler):
            self.proxy.fault = fault
            respond(handler, self.picture(at))

        if at:
            self.site.answers[f"/{at}.jpg"] = turn
        else:
            self.proxy.fault = fault


@pytest.fixture
def world(crawl, site, shared_service, tmp_path):
    """All of it; the bucket is the test's own."""
    proxy = Proxy(shared_service.url)
    settings = {
        "IMGCACHE_URL": proxy.url,
        "IMGCACHE_BUCKET": uuid4().hex,
        "IMGCACHE_TIMEOUT": PATIENCE,
        "FILES_EXPIRES": -1,
    }
    yield World(site, proxy, tmp_path / ".scrapy" / "imgcache-spool", crawl, settings)
    proxy.close()


def assert_nothing_is_lost(world, fault, road, *, at, count):
    """Crawl through a fault, then again without images: all are stored under their URLs."""
    items = world.items(count)
    world.fail(fault, at=at)
    done = world.run(items, road)
    assert [len(item["images"]) for item in done.items] == [5] * (count // 5)
    assert sum(done.fates.values()) == count
    assert set(done.fates) <= {"stored", "spooled"}
    assert done.fates["spooled"] == len(world.spooled) > 0
    assert len(done.warnings) == 1, done.warnings
    assert "Traceback" not in done.log
    world.proxy.fault = None
    after = world.run([], road, IMGCACHE_TIMEOUT=PATIENCE)
    assert after.stats["imgcache/replayed"] == done.fates["spooled"]
    assert world.spooled == []
    assert after.warnings == []
    with ImgCacheClient(world.proxy.url, bucket=world.settings["IMGCACHE_BUCKET"]) as client:
        entries = client.lookup_many(url for item in items for url in item["image_urls"])
    assert len(entries) == count


@pytest.mark.parametrize(
    ("fault", "road", "at"),
    [
        ("refuse", "pipeline", 0),
        ("refuse", "drop-in", 20),
        ("hang", "drop-in", 0),
        ("hang", "middleware", 20),
        ("drip", "middleware", 0),
        ("drip", "pipeline", 20),
        ("reset", "pipeline", 0),
        ("reset", "middleware", 20),
        ("error", "drop-in", 0),
        ("error", "pipeline", 20),
        ("garbage", "middleware", 0),
        ("garbage", "drop-in", 20),
    ],
)
def test_a_fault_costs_no_image(world, fault, road, at):
    """At the start or in the middle: each image is delivered, warned of once, and stored later."""
    assert_nothing_is_lost(world, fault, road, at=at, count=50)


@pytest.mark.endurance
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("at", [0, 200])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_none_of_many_images(world, fault, road, at):
    """500 images on every road, through every fault."""
    assert_nothing_is_lost(world, fault, road, at=at, count=500)


def test_a_cache_that_is_left_alone_is_asked_no_more(world):
    """Three failures are enough: what is under way ends, and no image waits for it again."""
    world.fail("hang", at=0)
    done = world.run(world.items(300), "pipeline")
    assert len(world.proxy.asked) < 50
    assert done.stats["elapsed_time_seconds"] < PATIENCE


def test_a_cache_that_comes_back_is_used_again(world):
    """A probe finds out; the spool is stored in the background, and the crawl goes on with it."""
    items = world.items(60)
    world.fail("refuse", at=20)

    def back(handler):
        world.proxy.fault = None
        before = len(world.proxy.asked)
        while ("POST", "/images") not in world.proxy.asked[before:]:
            world.proxy.wait()
        respond(handler, world.picture(30))

    world.site.answers["/30.jpg"] = back
    done = world.run(items, "pipeline", CONCURRENT_ITEMS=1)
    assert sum(len(item["images"]) for item in done.items) == 60
    assert len(done.warnings) == 1, done.warnings
    assert done.log.count("The image cache works again") == 1
    assert done.stats["imgcache/replayed"] == done.fates["spooled"] > 0
    assert done.fates["stored"] >= 20 + 25
    assert world.spooled == []


def test_the_spool_is_stored_when_a_crawl_starts(world):
    """In the background: while its first page is on its way, and even if it has no images."""
    world.fail("refuse", at=0)
    world.run(world.items(5), "pipeline")
    world.proxy.fault = None

    def page(handler):
        while world.spooled:
            world.proxy.wait()
        respond(handler, b"<title>page</title>", content_type="text/html")

    world.site.answers["/"] = page
    assert world.run([], "pipeline").stats["imgcache/replayed"] == 5


def test_the_spool_is_stored_when_a_crawl_ends(world):
    """What failed once, and opened nothing, waits no longer than that."""
    items = world.items(50)
    world.proxy.poison = world.picture(7)
    world.proxy.fault = POISON

    def heal(handler):
        while not world.spooled:
            world.proxy.wait()
        world.proxy.fault = None
        respond(handler, world.picture(49))

    world.site.answers["/49.jpg"] = heal
    done = world.run(items, "pipeline")
    assert done.fates == {"stored": 49, "spooled": 1}
    assert done.stats["imgcache/replayed"] == 1
    assert (world.spooled, len(done.warnings)) == ([], 1)


def test_what_is_spooled_says_so(world):
    """The result has what is known without the cache, and Scrapy's keys."""
    world.fail("refuse", at=0)
    (item,) = world.run(world.items(5), "pipeline").items
    image = item["images"][2]
    assert image["status"] == "spooled"
    assert image["url"] == f"{world.site.url}/2.jpg"
    assert image["path"] == f"{image['checksum'][:2]}/{image['checksum'][2:]}"
    assert (image["content_hash"], image["content_type"]) == (image["checksum"], "image/jpeg")
    assert image["file_size_bytes"] == len(world.picture(2))
    assert image["width"] is image["height"] is image["perceptual_hash"] is None
    world.proxy.fault = None
    world.run([], "pipeline")
    with ImgCacheClient(world.proxy.url, bucket=world.settings["IMGCACHE_BUCKET"]) as client:
        entry = client.lookup(image["url"])
        assert client.get_bytes(image["content_hash"]) == world.picture(2)
    for name in ("content_hash", "content_type", "lookup_time", "client_name", "bucket"):
        assert entry[name] == image[name]
    assert entry["width"] == 64


def test_a_spooled_image_is_fetched_once(world):
    """Later items with its URL get it too, and it is in the spool once."""
    world.fail("refuse", at=0)
    done = world.run(world.items(5) * 10, "pipeline", CONCURRENT_ITEMS=1)
    assert sum(len(item["images"]) for item in done.items) == 50
    assert (done.fates, len(world.spooled)) == ({"spooled": 5}, 5)
    assert world.site.images_asked().total() == 5


@pytest.mark.parametrize("road", ROADS)
def test_a_full_spool_is_told_once(world, road):
    """The drop-in and the middleware deliver all the same; the plain pipeline has no place left."""
    world.fail("refuse", at=0)
    world.spool.mkdir(parents=True)
    with (world.spool / "large").open("wb") as file:
        file.truncate(2**30)
    done = world.run(world.items(50), road)
    assert len(done.items) == 10
    assert (done.fates, done.stats["imgcache/failed/store"]) == ({"failed": 50}, 50)
    delivered = sum(len(item["images"]) for item in done.items)
    assert delivered == (0 if road == "pipeline" else 50)
    told = [line for line in done.warnings if "is full" in line]
    assert len(told) == 1


@pytest.mark.parametrize("road", ROADS)
def test_a_strict_crawl_fails_images_instead(world, road):
    """IMGCACHE_STRICT: the site is not asked, the items leave, and say why they have no images."""
    world.fail("error", at=0)
    failures = {"IMGCACHE_FAILURES_FIELD": "failures"}
    done = world.run(world.items(50), road, IMGCACHE_STRICT=True, **failures)
    assert [item["images"] for item in done.items] == [[]] * 10
    assert (done.fates, done.stats["imgcache/failed/cache"]) == ({"failed": 50}, 50)
    assert world.site.images_asked().total() == 0
    assert world.spooled == []
    if road != "middleware":
        assert {f["reason"] for item in done.items for f in item["failures"]} == {"cache"}


def test_a_strict_crawl_does_not_spool(world):
    """What was fetched when the trouble began is failed as well."""
    items = world.items(50)
    world.fail("error", at=20)
    done = world.run(items, "middleware", IMGCACHE_STRICT=True)
    stored = done.fates.get("stored", 0)
    assert sum(len(item["images"]) for item in done.items) == stored
    assert done.fates["failed"] == 50 - stored
    assert world.spooled == []


@pytest.mark.parametrize("road", ["drop-in", "middleware"])
def test_a_strict_crawl_fetches_nothing_that_cannot_be_read(world, road):
    """The cache knows the images, and fails at giving their bytes."""
    items = world.items(50)
    world.run(items, road)
    asked = world.site.images_asked()
    world.proxy.poison, world.proxy.fault = b"GET /images/", POISON
    done = world.run(items, road, IMGCACHE_STRICT=True)
    assert [item["images"] for item in done.items] == [[]] * 10
    assert (done.fates, done.stats["imgcache/failed/cache"]) == ({"failed": 50}, 50)
    assert world.site.images_asked() == asked


def test_a_wrong_token_is_told_once(world, service):
    """In mid-crawl it is trouble as any other: the images are fetched, and wait for the right."""

    def page(handler):
        service.stop()
        service.environment = {"IMGCACHE_TOKEN": "right"}
        service.start()
        respond(handler, b"<title>page</title>", content_type="text/html")

    world.site.answers["/"] = page
    world.settings |= {"IMGCACHE_URL": service.url, "IMGCACHE_TOKEN": "wrong"}
    done = world.run(world.items(50), "drop-in")
    assert sum(len(item["images"]) for item in done.items) == 50
    assert done.fates == {"spooled": 50}
    (warning,) = done.warnings
    assert "token" in warning
    del world.site.answers["/"]
    after = world.run([], "drop-in", IMGCACHE_TOKEN="right")
    assert after.stats["imgcache/replayed"] == 50


def test_an_embedded_cache_in_trouble_costs_no_image(world, tmp_path):
    """Its storage fails: the images wait until somebody has repaired it."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "blobs").write_bytes(b"no folder")
    world.settings |= {"IMGCACHE_URL": str(tmp_path / "cache")}
    done = world.run(world.items(50), "pipeline")
    assert sum(len(item["images"]) for item in done.items) == 50
    assert done.fates == {"spooled": 50}
    assert len(done.warnings) == 1, done.warnings
    (tmp_path / "cache" / "blobs").unlink()
    assert world.run([], "pipeline").stats["imgcache/replayed"] == 50


def test_what_the_cache_refuses_is_not_spooled(world, site):
    """An image that it will never take opens no breaker, and waits for nothing."""
    site.answers["/images/lookup"] = lambda handler: respond(
        handler, b'{"entries": {}}', content_type="application/json"
    )
    site.answers["/images"] = lambda handler: respond(
        handler, b'{"detail": "too large"}', status=413, content_type="application/json"
    )
    done = world.run(world.items(50), "drop-in", IMGCACHE_URL=site.url)
    assert sum(len(item["images"]) for item in done.items) == 50
    assert (done.fates, world.spooled) == ({"failed": 50}, [])
    assert done.stats["imgcache/error/too_large"] == 50


@pytest.mark.parametrize("road", ROADS)
def test_a_slow_cache_holds_the_site_back(world, site, road):
    """Bytes wait in memory until they are stored: no more are fetched than may be there."""
    urls = [url for item in world.items(100) for url in item["image_urls"]]
    waiting = []

    def fetched():
        return sum(count for path, count in site.asked.items() if path.endswith(".jpg"))

    def take(handler):
        wait_until(lambda: fetched() >= MAX_IMAGES)
        so_far = None
        while so_far != fetched():
            so_far = fetched()
            time.sleep(0.1)
        waiting.append(so_far - len(waiting))
        respond(handler, b'{"detail": "no"}', status=422, content_type="application/json")

    site.answers["/images/lookup"] = lambda handler: respond(
        handler, b'{"entries": {}}', content_type="application/json"
    )
    site.answers["/images"] = take
    done = world.run([{"image_urls": urls}], road, IMGCACHE_URL=site.url)
    assert fetched() == len(waiting) == 100
    assert max(waiting) == MAX_IMAGES
    assert done.fates == {"failed": 100}


@pytest.mark.parametrize("fault", [None, "hang", "refuse"])
def test_an_interrupt_loses_nothing(world, fault):
    """One SIGINT: what was begun is stored or spooled, and no item is exported before."""
    items = world.items(150)
    world.fail(fault, at=20)
    pipelines = PIPELINE["ITEM_PIPELINES"] | {"custom.SpoolReader": 2}
    interrupt_when = lambda: world.site.asked.total() > 40  # noqa: E731
    done = world.run(items, "pipeline", interrupt_when, ITEM_PIPELINES=pipelines)
    assert done.stats["finish_reason"] == "shutdown"
    assert set(done.fates) <= {"stored", "spooled"}
    assert sum(done.fates.values()) == done.stats["imgcache/lookup"] == 5 * len(done.items)
    assert len(world.spooled) == done.fates.get("spooled", 0)
    assert (len(world.spooled) > 0) == (fault is not None)
    assert all(item["kept"] for item in done.items)
    images = [image for item in done.items for image in item["images"]]
    assert len(images) == 5 * len(done.items)
    world.proxy.fault = None
    world.run([], "pipeline", IMGCACHE_TIMEOUT=PATIENCE)
    with ImgCacheClient(world.proxy.url, bucket=world.settings["IMGCACHE_BUCKET"]) as client:
        found = client.lookup_many(image["url"] for image in images)
    hashes = {image["url"]: image["content_hash"] for image in images}
    assert {url: entry["content_hash"] for url, entry in found.items()} == hashes

"""Crawls with every fault of the cache: no image is lost, and the next crawl stores them."""

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

# Seconds. Before a later fault the cache gives good answers, which take long on a busy machine.
TIMEOUT = 2
LATER_TIMEOUT = 10
COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@dataclass
class ProxiedCrawls:
    """Crawls of a site; their service is behind a proxy that can make it fail."""

    site: Site
    proxy: Proxy
    spool: Path
    crawl: Any
    settings: dict[str, Any]
    seed: int = field(default_factory=lambda: uuid4().int)

    def picture(self, number: int) -> bytes:
        """Return a picture that no other test has stored in the service."""
        return jpeg(self.seed + number)

    @property
    def spooled(self) -> list[Path]:
        """The files of the spool's records, without the refused records."""
        return [path for path in self.spool.glob("*") if path.is_file()]

    def run(
        self,
        items: list[dict[str, Any]],
        component: str,
        interrupt_when: Any = None,
        **settings: Any,
    ) -> CrawlResult:
        """Run a crawl with a component."""
        settings = self.settings | COMPONENTS[component] | settings
        return self.crawl(items, settings, interrupt_when=interrupt_when)

    def items(self, count: int) -> list[dict[str, Any]]:
        """Put images on the site, and return items with five of them each."""
        self.site.answers |= {f"/{n}.jpg": self.picture(n) for n in range(count)}
        urls = [f"{self.site.url}/{n}.jpg" for n in range(count)]
        return [{"image_urls": urls[first : first + 5]} for first in range(0, count, 5)]

    def fail(self, fault: str | None, *, at: int) -> None:
        """Make the cache fail when the image with this number is requested; 0 means at once."""

        if fault in {"hang", "drip"}:
            self.settings["IMGCACHE_TIMEOUT"] = LATER_TIMEOUT if at else TIMEOUT

        def start_to_fail(handler):
            self.proxy.fault = fault
            respond(handler, self.picture(at))

        if at:
            self.site.answers[f"/{at}.jpg"] = start_to_fail
        else:
            self.proxy.fault = fault


@pytest.fixture
def crawls(crawl, site, shared_service, tmp_path):
    """Return crawls with a bucket that no other test uses."""
    proxy = Proxy(shared_service.url)
    settings = {
        "IMGCACHE_URL": proxy.url,
        "IMGCACHE_BUCKET": uuid4().hex,
        "IMGCACHE_TIMEOUT": PATIENCE,
        "WITHOUT_FILES": True,
    }
    yield ProxiedCrawls(site, proxy, tmp_path / ".scrapy" / "imgcache-spool", crawl, settings)
    proxy.close()


def assert_nothing_is_lost(crawls, fault, component, *, at, count):
    """Crawl with a fault, then without one and without images: all images must be stored."""
    items = crawls.items(count)
    crawls.fail(fault, at=at)
    done = crawls.run(items, component)
    assert [len(item["images"]) for item in done.items] == [5] * (count // 5)
    assert sum(done.fates.values()) == count
    assert set(done.fates) <= {"stored", "spooled"}
    assert done.fates["spooled"] == len(crawls.spooled) > 0
    assert len(done.warnings) == 1, done.warnings
    assert "Traceback" not in done.log
    crawls.proxy.fault = None
    after = crawls.run([], component, IMGCACHE_TIMEOUT=PATIENCE)
    assert after.stats["imgcache/replayed"] == done.fates["spooled"]
    assert crawls.spooled == []
    assert after.warnings == []
    with ImgCacheClient(crawls.proxy.url, bucket=crawls.settings["IMGCACHE_BUCKET"]) as client:
        entries = client.lookup_many(url for item in items for url in item["image_urls"])
    assert len(entries) == count


@pytest.mark.parametrize(
    ("fault", "component", "at"),
    [
        ("refuse", "pipeline", 0),
        ("refuse", "drop-in", 10),
        ("hang", "drop-in", 0),
        ("hang", "middleware", 10),
        ("drip", "middleware", 0),
        ("drip", "pipeline", 10),
        ("reset", "pipeline", 0),
        ("reset", "middleware", 10),
        ("error", "drop-in", 0),
        ("error", "pipeline", 10),
        ("garbage", "middleware", 0),
        ("garbage", "drop-in", 10),
    ],
)
def test_a_fault_loses_no_image(crawls, fault, component, at):
    """All images are delivered and stored later, with one warning, whenever the fault begins."""
    assert_nothing_is_lost(crawls, fault, component, at=at, count=25)


@pytest.mark.endurance
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("at", [0, 200])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_loses_none_of_many_images(crawls, fault, component, at):
    """None of 500 images is lost, with every component and every fault."""
    assert_nothing_is_lost(crawls, fault, component, at=at, count=500)


def test_a_failing_cache_gets_no_more_calls(crawls):
    """Failures open the breaker: running calls end, and no image waits for the cache again."""
    crawls.fail("hang", at=0)
    done = crawls.run(crawls.items(100), "pipeline")
    assert len(crawls.proxy.asked) < 50
    assert done.stats["elapsed_time_seconds"] < PATIENCE


def test_a_repaired_cache_is_used_again(crawls):
    """A probe notices the repair; then the spool is replayed, and later images are stored."""
    items = crawls.items(60)
    crawls.fail("refuse", at=20)

    def repair(handler):
        crawls.proxy.fault = None
        before = len(crawls.proxy.asked)
        while ("POST", "/images") not in crawls.proxy.asked[before:]:
            crawls.proxy.wait()
        respond(handler, crawls.picture(30))

    crawls.site.answers["/30.jpg"] = repair
    done = crawls.run(items, "pipeline", CONCURRENT_ITEMS=1)
    assert sum(len(item["images"]) for item in done.items) == 60
    assert len(done.warnings) == 1, done.warnings
    assert done.log.count("The image cache works again") == 1
    assert done.stats["imgcache/replayed"] == done.fates["spooled"] > 0
    assert done.fates["stored"] >= 20 + 25
    assert crawls.spooled == []


def test_the_spool_is_replayed_when_a_crawl_starts(crawls):
    """The replay runs while the first page is requested, even in a crawl without images."""
    crawls.fail("refuse", at=0)
    crawls.run(crawls.items(5), "pipeline")
    crawls.proxy.fault = None

    def page(handler):
        while crawls.spooled:
            crawls.proxy.wait()
        respond(handler, b"<title>page</title>", content_type="text/html")

    crawls.site.answers["/"] = page
    assert crawls.run([], "pipeline").stats["imgcache/replayed"] == 5


def test_the_spool_is_replayed_when_a_crawl_ends(crawls):
    """An image of a single failure, which opens no breaker, is stored in the same crawl."""
    items = crawls.items(50)
    crawls.proxy.poison = crawls.picture(7)
    crawls.proxy.fault = POISON

    def repair(handler):
        while not crawls.spooled:
            crawls.proxy.wait()
        crawls.proxy.fault = None
        respond(handler, crawls.picture(49))

    crawls.site.answers["/49.jpg"] = repair
    done = crawls.run(items, "pipeline")
    assert done.fates == {"stored": 49, "spooled": 1}
    assert done.stats["imgcache/replayed"] == 1
    assert (crawls.spooled, len(done.warnings)) == ([], 1)


def test_the_result_of_a_spooled_image(crawls):
    """The result has Scrapy's keys, and all that is known without the cache."""
    crawls.fail("refuse", at=0)
    (item,) = crawls.run(crawls.items(5), "pipeline").items
    image = item["images"][2]
    assert image["status"] == "spooled"
    assert image["url"] == f"{crawls.site.url}/2.jpg"
    assert image["path"] == f"{image['checksum'][:2]}/{image['checksum'][2:]}"
    assert (image["content_hash"], image["content_type"]) == (image["checksum"], "image/jpeg")
    assert image["file_size_bytes"] == len(crawls.picture(2))
    assert image["width"] is image["height"] is image["perceptual_hash"] is None
    crawls.proxy.fault = None
    crawls.run([], "pipeline")
    with ImgCacheClient(crawls.proxy.url, bucket=crawls.settings["IMGCACHE_BUCKET"]) as client:
        entry = client.lookup(image["url"])
        assert client.get_bytes(image["content_hash"]) == crawls.picture(2)
    for name in ("content_hash", "content_type", "lookup_time", "client_name", "bucket"):
        assert entry[name] == image[name]
    assert entry["width"] == 64


def test_a_spooled_image_is_fetched_once(crawls):
    """Later items with the same URL get the image too, and the spool contains it once."""
    crawls.fail("refuse", at=0)
    done = crawls.run(crawls.items(5) * 10, "pipeline", CONCURRENT_ITEMS=1)
    assert sum(len(item["images"]) for item in done.items) == 50
    assert (done.fates, len(crawls.spooled)) == ({"spooled": 5}, 5)
    assert crawls.site.images_asked().total() == 5


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_full_spool_is_reported_once(crawls, component):
    """The drop-in and the middleware still deliver; the plain pipeline cannot keep the images."""
    crawls.fail("refuse", at=0)
    crawls.spool.mkdir(parents=True)
    with (crawls.spool / "large").open("wb") as file:
        file.truncate(2**30)
    done = crawls.run(crawls.items(50), component)
    assert len(done.items) == 10
    assert (done.fates, done.stats["imgcache/failed/store"]) == ({"failed": 50}, 50)
    delivered = sum(len(item["images"]) for item in done.items)
    assert delivered == (0 if component == "pipeline" else 50)
    lines = [line for line in done.warnings if "is full" in line]
    assert len(lines) == 1


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_strict_crawl_fails_images(crawls, component):
    """With IMGCACHE_STRICT, nothing is fetched, and items say why they have no images."""
    crawls.fail("error", at=0)
    failures = {"IMGCACHE_FAILURES_FIELD": "failures"}
    done = crawls.run(crawls.items(50), component, IMGCACHE_STRICT=True, **failures)
    assert [item["images"] for item in done.items] == [[]] * 10
    assert (done.fates, done.stats["imgcache/failed/cache"]) == ({"failed": 50}, 50)
    assert crawls.site.images_asked().total() == 0
    assert crawls.spooled == []
    if component != "middleware":
        assert {f["reason"] for item in done.items for f in item["failures"]} == {"cache"}


def test_a_strict_crawl_does_not_spool(crawls):
    """Images that were already being fetched when the cache failed also fail."""
    items = crawls.items(50)
    crawls.fail("error", at=20)
    done = crawls.run(items, "middleware", IMGCACHE_STRICT=True)
    stored = done.fates.get("stored", 0)
    assert sum(len(item["images"]) for item in done.items) == stored
    assert done.fates["failed"] == 50 - stored
    assert crawls.spooled == []


@pytest.mark.parametrize("component", ["drop-in", "middleware"])
def test_a_strict_crawl_does_not_fetch_unreadable_images(crawls, component):
    """Images that the cache knows but cannot read fail, and are not fetched."""
    items = crawls.items(50)
    crawls.run(items, component)
    asked = crawls.site.images_asked()
    crawls.proxy.poison, crawls.proxy.fault = b"GET /images/", POISON
    done = crawls.run(items, component, IMGCACHE_STRICT=True)
    assert [item["images"] for item in done.items] == [[]] * 10
    assert (done.fates, done.stats["imgcache/failed/cache"]) == ({"failed": 50}, 50)
    assert crawls.site.images_asked() == asked


def test_a_wrong_token_is_reported_once(crawls, service):
    """A token that becomes wrong during a crawl is a fault: images are fetched and spooled."""

    def page(handler):
        service.stop()
        service.environment = {"IMGCACHE_TOKEN": "right"}
        service.start()
        respond(handler, b"<title>page</title>", content_type="text/html")

    crawls.site.answers["/"] = page
    crawls.settings |= {"IMGCACHE_URL": service.url, "IMGCACHE_TOKEN": "wrong"}
    done = crawls.run(crawls.items(50), "drop-in")
    assert sum(len(item["images"]) for item in done.items) == 50
    assert done.fates == {"spooled": 50}
    (warning,) = done.warnings
    assert "token" in warning
    del crawls.site.answers["/"]
    after = crawls.run([], "drop-in", IMGCACHE_TOKEN="right")
    assert after.stats["imgcache/replayed"] == 50


def test_a_broken_embedded_cache_loses_no_image(crawls, tmp_path):
    """Images are spooled while the storage fails, and stored after its repair."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "blobs").write_bytes(b"no folder")
    crawls.settings |= {"IMGCACHE_URL": str(tmp_path / "cache")}
    done = crawls.run(crawls.items(50), "pipeline")
    assert sum(len(item["images"]) for item in done.items) == 50
    assert done.fates == {"spooled": 50}
    assert len(done.warnings) == 1, done.warnings
    (tmp_path / "cache" / "blobs").unlink()
    assert crawls.run([], "pipeline").stats["imgcache/replayed"] == 50


def test_refused_images_are_not_spooled(crawls, site):
    """An image that the cache will never accept does not open the breaker, and is not spooled."""
    site.answers["/images/lookup"] = lambda handler: respond(
        handler, b'{"entries": {}}', content_type="application/json"
    )
    site.answers["/images"] = lambda handler: respond(
        handler, b'{"detail": "too large"}', status=413, content_type="application/json"
    )
    done = crawls.run(crawls.items(50), "drop-in", IMGCACHE_URL=site.url)
    assert sum(len(item["images"]) for item in done.items) == 50
    assert (done.fates, crawls.spooled) == ({"failed": 50}, [])
    assert done.stats["imgcache/error/too_large"] == 50


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_slow_cache_limits_the_downloads(crawls, site, component):
    """Images that wait for their store stay in memory, so their number must be limited."""
    urls = [url for item in crawls.items(100) for url in item["image_urls"]]
    waiting = []

    def fetched():
        return sum(count for path, count in site.asked.copy().items() if path.endswith(".jpg"))

    def refuse(handler):
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
    site.answers["/images"] = refuse
    done = crawls.run([{"image_urls": urls}], component, IMGCACHE_URL=site.url)
    assert fetched() == len(waiting) == 100
    assert max(waiting) == MAX_IMAGES
    assert done.fates == {"failed": 100}


@pytest.mark.parametrize("fault", [None, "hang", "refuse"])
def test_an_interrupt_loses_nothing(crawls, fault):
    """After a SIGINT, started images are stored or spooled before their items are exported."""
    items = crawls.items(80)
    crawls.fail(fault, at=20)
    pipelines = PIPELINE["ITEM_PIPELINES"] | {"custom.SpoolReader": 2}
    interrupt_when = lambda: crawls.site.asked.total() > 40  # noqa: E731
    done = crawls.run(items, "pipeline", interrupt_when, ITEM_PIPELINES=pipelines)
    assert done.stats["finish_reason"] == "shutdown"
    assert set(done.fates) <= {"stored", "spooled"}
    assert sum(done.fates.values()) == done.stats["imgcache/lookup"] == 5 * len(done.items)
    assert len(crawls.spooled) == done.fates.get("spooled", 0)
    assert (len(crawls.spooled) > 0) == (fault is not None)
    assert all(item["kept"] for item in done.items)
    images = [image for item in done.items for image in item["images"]]
    assert len(images) == 5 * len(done.items)
    crawls.proxy.fault = None
    crawls.run([], "pipeline", IMGCACHE_TIMEOUT=PATIENCE)
    with ImgCacheClient(crawls.proxy.url, bucket=crawls.settings["IMGCACHE_BUCKET"]) as client:
        found = client.lookup_many(image["url"] for image in images)
    hashes = {image["url"]: image["content_hash"] for image in images}
    assert {url: entry["content_hash"] for url, entry in found.items()} == hashes

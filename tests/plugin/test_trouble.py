"""Crawls with a killed service, bad answers, damaged blobs, and stores that are too slow."""

from threading import Lock

import pytest

from imgcache_scrapy.core.entry import blob_key, content_hash_of
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import respond

IMAGES = 60
DAMAGED = 15


@pytest.fixture
def items(site):
    """Put images on the site, and return items with five of them each."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(IMAGES)}
    return [
        {"image_urls": [f"{site.url}/{n}.jpg" for n in range(first, first + 5)]}
        for first in range(0, IMAGES, 5)
    ]


def test_a_killed_service_loses_no_image(items, crawl, service, site):
    """Stored images stay stored, and the next crawl stores the others."""

    pictures = {path: body for path, body in site.answers.items() if path.endswith(".jpg")}
    first = Lock()

    def kill_in_the_middle(handler):
        # Only one of the site's threads kills, because two at once would disturb each other.
        if site.images_asked().total() >= IMAGES // 2 and first.acquire(blocking=False):
            service.process.kill()
        respond(handler, pictures[handler.path])

    site.answers |= dict.fromkeys(pictures, kill_in_the_middle)
    settings = FILES | {"IMGCACHE_URL": service.url, "WITHOUT_FILES": True}
    done = crawl(items, settings)
    site.answers |= pictures
    assert sum(len(item["images"]) for item in done.items) == IMAGES, done.log
    assert done.fates.get("stored", 0) + done.fates["spooled"] == IMAGES
    service.process.join()
    service.start()
    assert crawl([], settings).stats["imgcache/replayed"] == done.fates["spooled"]
    assert crawl(items, settings).fates == {"hit": IMAGES}


def test_an_answer_that_is_not_an_entry_is_a_miss(items, crawl, site):
    """If the address belongs to another service, images are delivered without a traceback."""

    def answer(handler):
        body = b'{"entries": {"%b": {"content_hash": 1}}}' % items[0]["image_urls"][0].encode()
        respond(handler, body, content_type="application/json")

    site.answers["/images/lookup"] = site.answers["/images"] = answer
    done = crawl(items, STOCK | {"IMGCACHE_URL": site.url})
    assert sum(len(item["images"]) for item in done.items) == IMAGES, done.log
    assert "Traceback" not in done.log


def test_a_wrong_path_in_the_address_is_told(items, crawl, shared_service):
    """There, every answer is a 404, as for a miss; the images wait in the spool."""
    done = crawl(items, PIPELINE | {"IMGCACHE_URL": f"{shared_service.url}/wrong"})
    (warning,) = done.warnings
    assert "its address is wrong" in warning
    assert done.fates == {"spooled": IMAGES}


def test_a_damaged_image_is_fetched_again(items, crawl, tmp_path, site):
    """A damaged blob is a miss, and the next store repairs it."""
    crawl(items, FILES)
    blobs = list((tmp_path / "cache" / "blobs").glob("*/*"))
    for path in blobs[:DAMAGED]:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    asked = site.images_asked().total()
    again = crawl(items, FILES | {"WITHOUT_FILES": True})
    assert site.images_asked().total() == asked + DAMAGED
    assert again.fates == {"hit": IMAGES - DAMAGED, "duplicate": DAMAGED}
    assert crawl(items, FILES | {"WITHOUT_FILES": True}).fates == {"hit": IMAGES}


@pytest.mark.parametrize(
    ("settings", "count", "bound"),
    [
        (PIPELINE, 250, 330),
        (STOCK, 350, 450),
        pytest.param(PIPELINE, 600, 500, marks=pytest.mark.endurance),
        pytest.param(STOCK, 1000, 900, marks=pytest.mark.endurance),
    ],
)
def test_memory_is_bounded_if_stores_are_slower_than_downloads(site, crawl, settings, count, bound):
    """With images of 1 MB, few bodies wait for their store, and no store times out."""
    padding = bytes(2**20)

    def large(handler):
        number = handler.path.strip("/").removesuffix(".jpg").encode()
        respond(handler, jpeg(1) + number + padding)

    site.answers |= {f"/{n}.jpg": large for n in range(count)}
    urls = [f"{site.url}/{n}.jpg" for n in range(count)]
    done = crawl([{"image_urls": urls}], settings | {"LOG_LEVEL": "INFO"})
    assert done.fates == {"stored": count}
    assert not [key for key in done.stats if key.startswith("imgcache/error")]
    assert done.max_rss < bound * 2**20


@pytest.mark.parametrize("component", [FILES, STOCK])
def test_images_that_cannot_be_read_cost_no_other(items, crawl, tmp_path, site, component):
    """The blobs of some images cannot be read: only these are fetched again, and once."""
    settings = component | {"WITHOUT_FILES": True}
    crawl(items, settings)
    for number in range(DAMAGED):
        content_hash = content_hash_of(site.answers[f"/{number}.jpg"])
        path = tmp_path / "cache" / "blobs" / blob_key(content_hash)
        path.unlink()
        path.symlink_to("/proc/self/mem")  # The first read of it fails with EIO.
    asked = site.images_asked().total()
    assert crawl(items, settings).fates == {"hit": IMAGES - DAMAGED, "duplicate": DAMAGED}
    assert site.images_asked().total() == asked + DAMAGED
    assert crawl(items, settings).fates == {"hit": IMAGES}


@pytest.mark.parametrize("component", [PIPELINE, FILES])
def test_images_whose_blobs_are_lost_are_fetched_again(items, crawl, tmp_path, site, component):
    """After a backup without the newest blobs was restored, no hit is without bytes."""
    settings = component | {"WITHOUT_FILES": True}
    crawl(items, settings)
    for path in list((tmp_path / "cache" / "blobs").glob("*/*"))[:DAMAGED]:
        path.unlink()
    asked = site.images_asked().total()
    again = crawl(items, settings)
    assert again.fates == {"hit": IMAGES - DAMAGED, "duplicate": DAMAGED}
    assert not [key for key in again.stats if key.startswith("imgcache/error")]
    assert site.images_asked().total() == asked + DAMAGED
    assert crawl(items, settings).fates == {"hit": IMAGES}

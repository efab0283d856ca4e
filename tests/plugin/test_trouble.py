"""Crawls while the cache is in trouble, and crawls that would bring it into some."""

import pytest

from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import respond


@pytest.fixture
def items(site):
    """Forty items with five images each, all of them on the site."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(200)}
    return [
        {"image_urls": [f"{site.url}/{n}.jpg" for n in range(first, first + 5)]}
        for first in range(0, 200, 5)
    ]


def test_a_service_that_is_killed_costs_no_image(items, crawl, service, site):
    """In mid-crawl: what was stored is stored, and the next crawl stores the rest."""

    pictures = {path: body for path, body in site.answers.items() if path.endswith(".jpg")}

    def kill_at_the_hundredth(handler):
        if site.images_asked().total() >= 100:
            service.process.kill()
        respond(handler, pictures[handler.path])

    site.answers |= dict.fromkeys(pictures, kill_at_the_hundredth)
    settings = FILES | {"IMGCACHE_URL": service.url, "FILES_EXPIRES": -1}
    done = crawl(items, settings)
    site.answers |= pictures
    assert sum(len(item["images"]) for item in done.items) == 200
    assert done.fates["stored"] + done.fates["spooled"] == 200
    service.start()
    assert crawl([], settings).stats["imgcache/replayed"] == done.fates["spooled"]
    assert crawl(items, settings).fates == {"hit": 200}


def test_an_answer_that_is_no_entry_is_a_miss(items, crawl, site):
    """Another service under the address costs no image, and never raises into Scrapy."""

    def answer(handler):
        body = b'{"entries": {"%b": {"content_hash": 1}}}' % items[0]["image_urls"][0].encode()
        respond(handler, body, content_type="application/json")

    site.answers["/images/lookup"] = site.answers["/images"] = answer
    done = crawl(items, STOCK | {"IMGCACHE_URL": site.url})
    assert sum(len(item["images"]) for item in done.items) == 200
    assert "Traceback" not in done.log


def test_a_damaged_image_is_fetched_again(items, crawl, tmp_path, site):
    """A reader that meets a bad blob takes it for a miss; the store that follows heals it."""
    crawl(items, FILES)
    blobs = list((tmp_path / "cache" / "blobs").glob("*/*"))
    for path in blobs[:50]:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    asked = site.images_asked().total()
    again = crawl(items, FILES | {"FILES_EXPIRES": -1})
    assert site.images_asked().total() == asked + 50
    assert again.fates == {"hit": 150, "duplicate": 50}
    assert crawl(items, FILES | {"FILES_EXPIRES": -1}).fates == {"hit": 200}


@pytest.mark.parametrize(
    ("settings", "count", "bound"), [(PIPELINE, 1000, 500), (STOCK, 1000, 900)]
)
def test_memory_is_bounded_where_stores_are_slower_than_downloads(
    site, crawl, settings, count, bound
):
    """Misses of 1 MB each: bodies do not pile up behind the stores, and no store times out."""
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

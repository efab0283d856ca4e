"""Crawls with a cache that can only be read."""

from itertools import product

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.read_only import ReadOnlyFolder

ROADS = {"pipeline": PIPELINE, "files": FILES, "middleware": STOCK}
# Crawls are slow, so some combinations are left to the long tests.
USUAL = {
    *(("embedded", "folder", road) for road in ROADS),
    ("embedded", "mount", "pipeline"),
    ("service", "folder", "pipeline"),
}
COMBINATIONS = [
    pytest.param(*each, marks=[] if each in USUAL else pytest.mark.endurance)
    for each in product(["embedded", "service"], ["folder", "mount"], ROADS)
]


@pytest.fixture
def read_only(kind, tmp_path):
    """Return the folder of a cache that can be read only."""
    folder = ReadOnlyFolder(tmp_path / "cache", kind)
    yield folder
    folder.unlock()


@pytest.fixture
def crawl_reading(transport, crawl, read_only, stopped_service):
    """Return a function that crawls with the cache, embedded or over a service."""

    def run(items, settings):
        read_only.lock()
        if transport == "embedded":
            return crawl(items, settings, environment=read_only.environment)
        stopped_service.options = (str(read_only.path),)
        stopped_service.environment = read_only.environment
        stopped_service.start()
        return crawl(items, settings | {"IMGCACHE_URL": stopped_service.url})

    return run


@pytest.mark.parametrize(("transport", "kind", "road"), COMBINATIONS)
def test_a_read_only_cache_gives_hits_and_costs_no_image(
    crawl_reading, site, tmp_path, read_only, road
):
    """There is one warning, nothing is spooled, and the images are delivered."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(20)}
    urls = [f"{site.url}/{n}.jpg" for n in range(20)]
    with ImgCacheClient(str(read_only.path)) as client:
        for n in range(10):
            client.store(urls[n], jpeg(n), "me")
    done = crawl_reading([{"image_urls": [url]} for url in urls], ROADS[road])
    assert done.fates == {"hit": 10, "failed": 10}
    assert done.stats["imgcache/failed/store"] == 10
    assert done.stats["imgcache/error/read_only"] == 10
    assert not list((tmp_path / ".scrapy").rglob("*.*"))
    trouble = [line for line in done.warnings if "read" in line]
    assert len(trouble) == 1
    assert "Image cache: 20 images" in done.log
    assert "Traceback" not in done.log
    delivered = sum(bool(item["images"]) for item in done.items)
    assert delivered == (10 if road == "pipeline" else 20)
    assert len(done.items) == 20
    with ImgCacheClient(str(read_only.path)) as client:
        assert client.stats()["images"] == 10


def test_a_broken_catalog_is_told_once_and_the_crawl_sums_up(crawl, site, tmp_path):
    """The images are spooled, there is one warning, and the last line is there."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "catalog.sqlite3").write_bytes(b"my thesis " * 1000)
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(10)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg"]} for n in range(10)]
    done = crawl(items, PIPELINE)
    assert done.fates == {"spooled": 10}
    (warning,) = done.warnings
    assert "imgcache rebuild" in warning
    assert "Image cache: 10 images" in done.log
    assert "Traceback" not in done.log

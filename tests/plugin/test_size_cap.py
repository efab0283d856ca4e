"""A maximum size holds while crawls store images and `prune` runs beside them."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.rows import today
from imgcache_scrapy.engine.catalog.tables import image
from imgcache_scrapy.engine.pruning import prune
from tests.support import lists, many_captures
from tests.support.crawling import CrawlResult, run_crawl
from tests.support.pictures import picture
from tests.support.programs import assert_recovers
from tests.support.site import Site

PIPELINE = {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCachePipeline": 1}}
# What follows behind the end of a PNG makes it larger.
START = picture(0, 8) + bytes(4_000)
OLD_FOR_EACH_NEW = 20


@pytest.mark.parametrize(
    ("count", "is_timed"),
    [(30, False), pytest.param(2_000, True, marks=pytest.mark.endurance)],
)
def test_a_maximum_size_holds_while_two_crawls_and_prune_run(
    tmp_path: Path, site: Site, count: int, is_timed: bool
) -> None:
    """The cache is at most 1 % larger at any time; no image of today goes, no row lacks bytes."""
    old = [f"http://old.example/{number:06}" for number in range(OLD_FOR_EACH_NEW * count)]
    cap = len(old) * len(START + old[0].encode())
    paths = [[f"/{crawl}/{number:06}.png" for number in range(count)] for crawl in range(2)]
    site.answers |= {path: START + path.encode() for each in paths for path in each}

    def crawl(number: int) -> CrawlResult:
        folder = tmp_path / f"crawl{number}"
        folder.mkdir()
        settings = PIPELINE | {"IMGCACHE_URL": str(tmp_path / "cache"), "IMGCACHE_MAX_BYTES": cap}
        items = [{"image_urls": [f"{site.url}{path}"]} for path in paths[number]]
        return run_crawl(folder, site, items, settings)

    with closing(ImageCache.in_folder(tmp_path / "cache")) as cache, ThreadPoolExecutor(3) as run:
        many_captures.fill(cache, tmp_path / "cache" / "blobs", old, START)
        with cache.catalog.exclusive([]) as transaction:
            transaction.connection.execute(image.update().values(last_used=today() - 9))
        running = [run.submit(crawl, number) for number in range(2)]

        def prune_meanwhile() -> None:
            while not all(each.done() for each in running):
                for _ in prune(cache, max_bytes=cap):
                    pass
                time.sleep(0.1)

        pruning, sizes = run.submit(prune_meanwhile), []
        while not pruning.done():
            sizes.append(cache.catalog.total_bytes())
            time.sleep(0.01)
        pruning.result()
        assert [each.result().fates for each in running] == [{"stored": count}] * 2
        assert [each.result().warnings for each in running] == [[], []]
        # What the other crawl has stored is counted after a moment: few images are then a tenth.
        most = (1.01 if is_timed else 1.1) * cap
        assert 0.98 * cap <= cache.catalog.total_bytes() <= most
        assert max(sizes) <= most
        new = [f"{site.url}{path}" for each in paths for path in each]
        assert sorted(each["url"] for each in lists.search(cache.catalog, site.url)) == new
    assert_recovers(tmp_path / "cache")

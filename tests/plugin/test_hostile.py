"""A crawl of hostile and damaged pictures."""

import pytest

from tests.support.bombs import BOMBS, SLOW, bombs, damaged

PIPELINE = "imgcache_scrapy.plugin.pipeline.ImgCachePipeline"
REASONS = ("empty", "html", "not_image", "truncated")


@pytest.mark.parametrize("count", [30, pytest.param(100, marks=pytest.mark.endurance)])
def test_damaged_pictures_and_bombs_do_not_harm_a_crawl(crawl, site, count):
    """Each picture gets one fate, each item is delivered, and the log contains no error."""
    pictures = [*damaged(count), *bombs(len(BOMBS)), *bombs(len(SLOW), SLOW)]
    site.answers = {f"/{number}.png": data for number, data in enumerate(pictures)}
    items = [{"image_urls": [site.url + path]} for path in site.answers]
    done = crawl(items, {"ITEM_PIPELINES": {PIPELINE: 1}})
    assert done.returncode == 0
    assert len(done.items) == len(pictures)
    assert sum(done.fates.values()) == len(pictures)
    assert set(done.fates) <= {"stored", "rejected", "duplicate"}
    assert (
        sum(done.stats.get(f"imgcache/rejected/{reason}", 0) for reason in REASONS)
        == (done.fates["rejected"])
    )
    assert done.stats.get("log_count/ERROR", 0) == 0
    assert "Traceback" not in done.log
    assert not [name for name in done.stats if name.startswith("imgcache/error")]

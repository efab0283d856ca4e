"""Crawls with a hook that blocks the event loop: the cache is not blamed for it."""

import pytest

from tests.support.pictures import jpeg

SLOW = {
    "ITEM_PIPELINES": {"tests.support.custom.SlowImages": 1},
    "IMAGES_STORE": "images",
    "IMGCACHE_TIMEOUT": 3,
}


@pytest.mark.parametrize("is_served", [False, True])
def test_a_hook_that_blocks_makes_no_timeout(crawl, site, shared_service, is_served):
    """It stands still for longer than a call may take, while other images are being stored."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(5)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(5)]}]
    settings = SLOW | ({"IMGCACHE_URL": shared_service.url} if is_served else {})
    done = crawl(items, settings)
    assert (done.warnings, sum(done.fates.values())) == ([], 5)
    assert set(done.fates) <= {"stored", "duplicate"}
    assert len(done.items[0]["images"]) == 5

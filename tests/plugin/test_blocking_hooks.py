"""Crawls with a hook that blocks the event loop: this is not counted as a fault of the cache."""

import pytest

from tests.support.pictures import jpeg

SLOW = {
    "ITEM_PIPELINES": {"tests.support.custom.SlowImages": 1},
    "IMAGES_STORE": "images",
    "IMGCACHE_TIMEOUT": 3,
}


@pytest.mark.parametrize("is_served", [False, True])
def test_a_blocking_hook_causes_no_timeout(crawl, site, shared_service, is_served):
    """The hook blocks the loop for longer than a call may take, while other images are stored."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(3)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(3)]}]
    settings = SLOW | ({"IMGCACHE_URL": shared_service.url} if is_served else {})
    done = crawl(items, settings)
    assert (done.warnings, sum(done.fates.values())) == ([], 3)
    assert set(done.fates) <= {"stored", "duplicate"}
    assert len(done.items[0]["images"]) == 3

"""Crawls with the service for which the reference client was written, instead of our own."""

import pytest

from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.reference_service import serving


@pytest.mark.parametrize(
    "settings", [PIPELINE, FILES, STOCK], ids=["plain", "drop-in", "middleware"]
)
def test_a_crawl_works_with_the_reference_service(site, crawl, settings):
    """In later crawls the first URL of an image hits; the service forgets its second URL."""
    site.answers |= {f"/{number}.jpg": jpeg(number) for number in range(5)}
    site.answers["/again.jpg"] = site.answers["/0.jpg"]
    urls = [f"{site.url}/{number}.jpg" for number in range(5)]
    items = [{"image_urls": urls}, {"image_urls": [f"{site.url}/again.jpg"]}]
    settings = settings | {"WITHOUT_FILES": True}
    with serving(strict=True) as address:
        cold = crawl(items[:1], settings | {"IMGCACHE_URL": address})
        warm = [crawl(items, settings | {"IMGCACHE_URL": address}) for _ in range(2)]
    assert cold.fates == {"stored": 5}
    for done in warm:
        assert done.fates == {"hit": 5, "duplicate": 1}
        assert sorted(len(item["images"]) for item in done.items) == [1, 5]
        assert not [key for key in done.stats if key.startswith("imgcache/error")]
    fetched_once = {path: 1 for path in site.answers if path != "/again.jpg"}
    assert site.images_asked() == fetched_once | {"/again.jpg": 2}

"""Crawls with a cache on PostgreSQL and an object store, embedded and as a service."""

from uuid import uuid4

import pytest

from tests.support.pictures import jpeg
from tests.support.service import new_storage_environment

PIPELINES = {
    "plain": {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCachePipeline": 1}},
    "drop-in": {
        "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
        "IMAGES_STORE": "images",
        "WITHOUT_FILES": True,
    },
}


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("transport", ["embedded", "service"])
def test_the_second_crawl_hits(request, site, crawl, pipeline, transport):
    """The first crawl fetches each image once, and later crawls hit."""
    settings = dict(PIPELINES[pipeline])
    if transport == "service":
        environment = {}
        settings["IMGCACHE_URL"] = request.getfixturevalue("shared_postgresql_service").url
        settings["IMGCACHE_BUCKET"] = uuid4().hex
    else:
        environment = new_storage_environment(
            request.getfixturevalue("postgresql"), request.getfixturevalue("object_store")
        )
    # The service is shared with other tests, so these images differ from theirs.
    mark = uuid4().bytes
    site.answers |= {f"/{n}.jpg": jpeg(n) + mark for n in range(5)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(5)]}]
    assert crawl(items, settings, environment=environment).fates == {"stored": 5}
    again = crawl(items, settings, environment=environment)
    assert again.fates == {"hit": 5}
    assert len(again.items[0]["images"]) == 5
    assert site.images_asked().total() == 5

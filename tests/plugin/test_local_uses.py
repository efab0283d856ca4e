"""The use of local files: with a size cap, it keeps their images in the cache."""

from contextlib import closing

import pytest
import sqlalchemy as sa

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.rows import today
from imgcache_scrapy.engine.catalog.tables import capture, image
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES

DAYS = {"/a.jpg": 9, "/b.jpg": 5}


def last_uses(folder, new=None):
    """Return how many days ago the image of each path was used; first set some of them."""
    with closing(ImageCache.in_folder(folder)) as cache, cache.catalog.exclusive([]) as work:
        query = sa.select(capture.c.url, image.c.content_hash, image.c.last_used).join_from(
            capture, image, capture.c.content_hash == image.c.content_hash
        )
        rows = {"/" + url.rsplit("/")[-1]: each for url, *each in work.connection.execute(query)}
        for path, ago in (new or {}).items():
            is_it = image.c.content_hash == rows[path][0]
            work.connection.execute(image.update().where(is_it).values(last_used=today() - ago))
    return {path: today() - day for path, (_, day) in rows.items()}


@pytest.mark.parametrize("pipeline", ["Files", "Images"])
@pytest.mark.parametrize("provenance", [False, True])
def test_an_image_that_is_only_up_to_date_is_not_removed_first(
    crawl, site, tmp_path, pipeline, provenance
):
    """Its local file needs no lookup, but the use of the file is that of the image."""
    site.answers |= {f"/{name}.jpg": jpeg(ord(name), (320, 240)) for name in "abc"}
    settings = FILES | {"ITEM_PIPELINES": {f"imgcache_scrapy.ImgCache{pipeline}Pipeline": 1}}
    settings |= {"IMAGES_STORE": "images"}
    crawl([{"image_urls": [f"{site.url}/{name}.jpg" for name in "ab"]}], settings)
    last_uses(tmp_path / "cache", DAYS)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    done = crawl(items, settings)
    assert (done.fates, done.items[0]["images"][0]["status"]) == ({"hit": 1}, "uptodate")
    assert last_uses(tmp_path / "cache") == DAYS
    settings |= {"IMGCACHE_PROVENANCE": provenance}
    capped = settings | {"IMGCACHE_MAX_BYTES": sum(map(len, list(site.answers.values())[:2]))}
    done = crawl(items, capped)
    assert (done.fates, done.stats.get("imgcache/lookup", 0)) == ({"hit": 1}, 0)
    assert last_uses(tmp_path / "cache") == DAYS | {"/a.jpg": 0}
    crawl([{"image_urls": [f"{site.url}/c.jpg"]}], capped)
    assert last_uses(tmp_path / "cache").keys() == {"/a.jpg", "/c.jpg"}
    assert site.images_asked() == {"/a.jpg": 1, "/b.jpg": 1, "/c.jpg": 1}

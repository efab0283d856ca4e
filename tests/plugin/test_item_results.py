"""IMGCACHE_PATHS_FIELD and IMGCACHE_DROP_EMPTY, in all three pipelines."""

import pytest

from tests.support.pictures import jpeg

PIPELINES = {
    "cache": ("ImgCachePipeline", "image_urls", "images"),
    "files": ("ImgCacheFilesPipeline", "file_urls", "files"),
    "images": ("ImgCacheImagesPipeline", "image_urls", "images"),
}
STORES = {"FILES_STORE": "files", "IMAGES_STORE": "files"}


def settings_of(kind, **more):
    """Return the settings of a crawl with a pipeline."""
    return {"ITEM_PIPELINES": {f"imgcache_scrapy.{PIPELINES[kind][0]}": 1}, **STORES, **more}


@pytest.mark.parametrize("kind", PIPELINES)
def test_the_paths_are_in_a_field_of_their_own(kind, site, crawl):
    """The list has the paths of the images in the order of the URLs; it may be empty."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    urls = [f"{site.url}/{name}.jpg" for name in ("a", "missing", "b", "a")]
    _, urls_field, results_field = PIPELINES[kind]
    items = [{"name": "x", urls_field: urls}, {"name": "y", urls_field: []}]
    done = crawl(items, settings_of(kind, IMGCACHE_PATHS_FIELD="paths"))
    found = {one["name"]: one for one in done.items}
    assert found["x"]["paths"] == [result["path"] for result in found["x"][results_field]]
    assert len(found["x"]["paths"]) == 3
    assert found["y"]["paths"] == []


def test_an_item_without_urls_stays_as_it_is(site, crawl):
    """ImgCachePipeline adds no field to an item that has nothing to do with images."""
    done = crawl([{"name": "x"}], settings_of("cache", IMGCACHE_PATHS_FIELD="paths"))
    assert done.items == [{"name": "x"}]


@pytest.mark.parametrize("kind", PIPELINES)
def test_items_without_any_image_are_dropped(kind, site, crawl):
    """Also those that never had an URL, as in the usual pipelines of Scrapy projects."""
    site.answers["/a.jpg"] = jpeg(1)
    _, urls_field, _ = PIPELINES[kind]
    good, bad = f"{site.url}/a.jpg", f"{site.url}/missing.jpg"
    items = [
        {"name": name, urls_field: urls}
        for name, urls in (("both", [bad, good]), ("bad", [bad]), ("empty", []))
    ]
    done = crawl([*items, {"name": "none"}], settings_of(kind, IMGCACHE_DROP_EMPTY=True))
    assert [one["name"] for one in done.items] == ["both"]
    assert done.stats["item_dropped_count"] == 3
    assert done.stats["item_dropped_reasons_count/DropItem"] == 3
    assert "Dropped: The item has no image." in done.log
    assert done.fates == {"stored": 1, "failed": 1}


def test_an_own_hook_finds_the_paths(site, crawl):
    """`item_completed` of a subclass is called before an item is dropped, and has the paths."""
    site.answers["/a.jpg"] = jpeg(1)
    more = {"IMGCACHE_PATHS_FIELD": "paths", "IMGCACHE_DROP_EMPTY": True}
    settings = settings_of("cache", **more) | {"ITEM_PIPELINES": {"custom.CountingPipeline": 1}}
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}, {"image_urls": []}], settings)
    (item,) = done.items
    assert (item["count"], len(item["paths"])) == (1, 1)

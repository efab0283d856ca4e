"""Revalidation with caches that fail or can only be read, and by two spiders of one process."""

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.originals import Original, status
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.read_only import ReadOnlyFolder

COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}
ALWAYS = {"IMGCACHE_MAX_AGE": 0, "FILES_EXPIRES": -1, "RETRY_ENABLED": False}


@pytest.mark.parametrize("component", COMPONENTS)
def test_strict_mode(crawl, site, service, component):
    """Stale images are asked for as usual; without the cache they fail, and nothing is asked."""
    site.answers["/a.jpg"] = original = Original(jpeg(1))
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    settings = COMPONENTS[component] | ALWAYS
    settings |= {"IMGCACHE_STRICT": True, "IMGCACHE_URL": service.url}
    assert crawl(items, settings).fates == {"stored": 1}
    assert crawl(items, settings).fates == {"revalidated": 1}
    original.trouble = status(503)
    assert crawl(items, settings).stats["imgcache/stale"] == 1
    original.trouble, original.body = None, jpeg(2)
    assert crawl(items, settings).fates == {"stored": 1}
    asked = original.requests
    service.stop()
    done = crawl(items, settings)
    assert done.stats["imgcache/failed/cache"] == 1
    assert done.fates == {"failed": 1}
    assert original.requests == asked


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("has_validators", [True, False])
def test_a_read_only_cache(crawl, site, tmp_path, component, has_validators):
    """The same image is revalidated, although its capture cannot be renewed."""
    site.answers["/a.jpg"] = original = Original(jpeg(1), has_validators=has_validators)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    settings = COMPONENTS[component] | ALWAYS
    crawl(items, settings)
    folder = ReadOnlyFolder(tmp_path / "cache", "folder")
    folder.lock()
    done = crawl(items, settings, environment=folder.environment)
    folder.unlock()
    assert done.fates == {"revalidated": 1}
    assert len(done.items[0]["images"]) == 1
    assert original.requests == 2
    assert not list((tmp_path / ".scrapy").rglob("*.*"))


@pytest.mark.parametrize("component", COMPONENTS)
def test_two_spiders_ask_once(crawl, site, tmp_path, component):
    """The second one finds the capture that the first one has renewed."""
    site.answers["/a.jpg"] = original = Original(jpeg(1))
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(
            f"{site.url}/a.jpg", original.body, "me", "2026-01-01T00:00:00Z",
            headers={"ETag": original.etag},
        )  # fmt: skip
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    settings = COMPONENTS[component] | {"IMGCACHE_MAX_AGE": 3600}
    spiders = [{"name": name, "items": items} for name in ("a", "b")]
    if component != "pipeline":
        # Each spider has its own folder: a file that is up to date needs no cache.
        for spider in spiders:
            spider["custom_settings"] = {"FILES_STORE": f"files-{spider['name']}"}
    done = crawl(settings=settings, spiders=spiders)
    stats = [{name: n for name, n in each.items() if "/" in name} for each in done.all_stats]
    assert sum(each.get("imgcache/revalidated", 0) for each in stats) == 1
    assert sum(each.get("imgcache/hit", 0) for each in stats) == 1
    assert original.requests == 1

"""ImgCacheFilesPipeline and ImgCacheImagesPipeline beside Scrapy's own, in real crawls."""

from pathlib import Path
from shutil import rmtree

import pytest

from tests.support.pictures import jpeg
from tests.support.site import redirect, respond

IMAGES = {"IMAGES_STORE": "files", "IMAGES_THUMBS": {"small": [20, 20]}}
FILES = {"FILES_STORE": "files"}
SWAPS = {
    "images": ("scrapy.pipelines.images.ImagesPipeline", "ImgCacheImagesPipeline", IMAGES),
    "files": ("scrapy.pipelines.files.FilesPipeline", "ImgCacheFilesPipeline", FILES),
}


def fields(kind, urls):
    """An item of the kind that a pipeline looks after."""
    return {"name": "x", "image_urls" if kind == "images" else "file_urls": urls}


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def pictures(site, photos):
    """A site with photographs and made pictures, and their URLs."""
    site.answers |= {f"/{name}": data for name, data in photos.items()}
    site.answers |= {"/made.jpg": jpeg(5), "/no-suffix": jpeg(6)}
    return [site.url + path for path in site.answers]


@pytest.mark.parametrize("kind", SWAPS)
def test_swapping_gives_the_same_files_and_results(kind, pictures, crawl, tmp_path, site):
    """Byte-equal files, the same result keys and values, and no fetch the second time."""
    stock, ours, settings = SWAPS[kind]
    items = [fields(kind, pictures)]
    swapped = settings | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}}
    expected = crawl(items, settings | {"ITEM_PIPELINES": {stock: 1}})
    files = files_in(tmp_path / "files")
    rmtree(tmp_path / "files")
    fetched = crawl(items, swapped)
    assert files_in(tmp_path / "files") == files
    asked = site.images_asked()
    rmtree(tmp_path / "files")
    cached = crawl(items, swapped)
    assert files_in(tmp_path / "files") == files
    assert site.images_asked() == asked
    for done, status in ((fetched, "downloaded"), (cached, "cached")):
        for before, after in zip(results(expected), results(done), strict=True):
            assert after.items() >= (before | {"status": status}).items()
            assert len(after["content_hash"]) == 64
    assert cached.fates == {"hit": len(pictures)}


def results(done):
    """The results of the only item, whatever its field."""
    (item,) = done.items
    return item.get("images") or item["files"]


@pytest.mark.parametrize("kind", SWAPS)
def test_an_up_to_date_file_needs_no_lookup(kind, site, crawl):
    """Scrapy's own check comes first; it counts as a hit."""
    site.answers["/a.jpg"] = jpeg(1)
    _, ours, settings = SWAPS[kind]
    settings = settings | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}}
    items = [fields(kind, [f"{site.url}/a.jpg"])]
    crawl(items, settings)
    second = crawl(items, settings)
    assert results(second)[0]["status"] == "uptodate"
    assert second.fates == {"hit": 1}
    assert "imgcache/lookup" not in second.stats


@pytest.mark.parametrize("kind", SWAPS)
def test_a_new_naming_scheme_costs_no_download(kind, site, crawl, tmp_path):
    """After file_path changed, every file is written anew from the cache."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    _, ours, settings = SWAPS[kind]
    items = [fields(kind, [f"{site.url}/a.jpg", f"{site.url}/b.jpg"])]
    crawl(items, settings | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}})
    named = "custom.NamedImages" if kind == "images" else "custom.NamedFiles"
    done = crawl(items, settings | {"ITEM_PIPELINES": {named: 1}})
    assert [found["path"].split("/")[0] for found in results(done)] == ["x", "x"]
    assert all((tmp_path / "files" / found["path"]).exists() for found in results(done))
    assert site.images_asked().total() == 2


def test_too_small_images_are_rejected_as_by_scrapy(site, crawl):
    """IMAGES_MIN_WIDTH holds: the image is stored, and not delivered, both times."""
    site.answers |= {"/small.jpg": jpeg(1, size=(30, 30)), "/fine.jpg": jpeg(2, size=(60, 60))}
    settings = IMAGES | {
        "IMAGES_MIN_WIDTH": 50,
        "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
    }
    items = [{"image_urls": [f"{site.url}/small.jpg", f"{site.url}/fine.jpg"]}]
    assert crawl(items, settings).fates == {"stored": 1, "rejected": 1}
    second = crawl(items, settings)
    assert second.stats["imgcache/rejected/too_small"] == 1
    assert site.images_asked().total() == 2


def test_a_201_is_delivered(site, crawl):
    """Scrapy's pipelines take a 200 alone; a 201 with an image is one to them."""
    site.answers["/a.jpg"] = lambda handler: respond(handler, jpeg(1), status=201)
    settings = FILES | {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1}}
    done = crawl([{"file_urls": [f"{site.url}/a.jpg"]}], settings)
    assert (done.fates, len(done.items[0]["files"])) == ({"stored": 1}, 1)


@pytest.mark.parametrize(("allowed", "fates"), [(None, {"stored": 1}), (False, {"failed": 1})])
def test_redirects_are_followed_unless_forbidden(site, crawl, allowed, fates):
    """MEDIA_ALLOW_REDIRECTS, where the project sets it, is obeyed."""
    site.answers |= {"/go": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    settings = FILES | {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1}}
    if allowed is not None:
        settings |= {"MEDIA_ALLOW_REDIRECTS": allowed}
    assert crawl([{"file_urls": [f"{site.url}/go"]}], settings).fates == fates


@pytest.mark.parametrize("kind", SWAPS)
def test_switched_off_they_are_scrapys_own(kind, site, crawl, tmp_path):
    """IMGCACHE_ENABLED False: no cache is made, no key is added."""
    site.answers["/a.jpg"] = jpeg(1)
    stock, ours, settings = SWAPS[kind]
    items = [fields(kind, [f"{site.url}/a.jpg"])]
    expected = crawl(items, settings | {"ITEM_PIPELINES": {stock: 1}})
    rmtree(tmp_path / "files")
    off = settings | {"IMGCACHE_ENABLED": False}
    done = crawl(items, off | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}})
    assert done.items == expected.items
    assert not (tmp_path / "cache").exists()


def test_two_of_them_ask_the_site_once(site, crawl):
    """An item with files and images under one URL is fetched once, and counted once."""
    site.answers["/a.jpg"] = jpeg(1)
    pipelines = ["ImgCacheFilesPipeline", "ImgCacheImagesPipeline"]
    settings = FILES | IMAGES | {"IMAGES_STORE": "images"}
    settings |= {"ITEM_PIPELINES": {f"imgcache_scrapy.{p}": n for n, p in enumerate(pipelines)}}
    url = f"{site.url}/a.jpg"
    done = crawl([{"file_urls": [url], "image_urls": [url]}], settings)
    (item,) = done.items
    assert (item["files"][0]["status"], item["images"][0]["status"]) == ("downloaded", "cached")
    assert done.fates == {"stored": 1}
    assert site.images_asked().total() == 1


def test_other_files_are_delivered_and_not_cached(site, crawl, tmp_path):
    """Whatever Scrapy's FilesPipeline delivers is delivered, with the reason it is not cached."""
    site.answers |= {
        "/a.pdf": b"%PDF-1.7 and so on",
        "/page.html": b"<!doctype html><title>x</title>",
        "/robot.jpg": b"<!doctype html><title>x</title>",
        "/cut.jpg": jpeg(1)[:-40],
    }
    settings = FILES | {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1}}
    done = crawl([{"file_urls": [site.url + path for path in site.answers]}], settings)
    files = done.items[0]["files"]
    assert [found["url"] for found in files] == [site.url + path for path in site.answers]
    assert [found["reason"] for found in files] == ["not_image", "html", "html", "truncated"]
    assert [found["status"] for found in files] == ["downloaded"] * 4
    assert done.fates == {"rejected": 4}
    assert done.stats["imgcache/rejected/html"] == 2
    assert not list((tmp_path / "cache" / "blobs").glob("*/*"))


def test_pillow_decides_what_the_cache_doubts(site, crawl):
    """What Pillow opens is delivered, uncached; what it cannot open fails with the reason."""
    cut, page = jpeg(1) + b"\xff\xd8", b"<!doctype html><title>x</title>"
    site.answers |= {"/doubt.jpg": cut[:-4] + b"\0\0", "/page.jpg": page, "/cut.jpg": cut[:200]}
    settings = IMAGES | {
        "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
        "IMGCACHE_FAILURES_FIELD": "failures",
    }
    done = crawl([{"image_urls": [site.url + path for path in site.answers]}], settings)
    (item,) = done.items
    assert [image["url"] for image in item["images"]] == [f"{site.url}/doubt.jpg"]
    assert [failure["reason"] for failure in item["failures"]] == ["html", "truncated"]
    assert done.fates["rejected"] >= 2


def test_a_format_that_pillow_alone_knows_is_delivered(site, crawl):
    """The images drop-in leaves to Scrapy what it does not know."""
    site.answers["/a.ppm"] = b"P6 2 2 255 " + bytes(range(12))
    settings = IMAGES | {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1}}
    done = crawl([{"image_urls": [f"{site.url}/a.ppm"]}], settings)
    assert len(done.items[0]["images"]) == 1
    assert done.fates == {"rejected": 1}


def test_the_hook_decides_of_a_bad_status(site, crawl):
    """media_downloaded is called with a 404, as it is by Scrapy."""
    settings = FILES | {"ITEM_PIPELINES": {"custom.PlaceholderFiles": 1}}
    done = crawl([{"file_urls": [f"{site.url}/missing.jpg"]}], settings)
    assert done.items[0]["files"][0]["status"] == "none"
    assert done.fates == {"failed": 1}


def test_hooks_may_ask_for_more_images(site, crawl):
    """However many: a hook never waits for what its own image holds."""
    site.answers |= {f"/{kind}{n}.jpg": jpeg(n) for kind in "ab" for n in range(150)}
    settings = FILES | {
        "ITEM_PIPELINES": {"custom.NestedFiles": 1},
        "DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585},
    }
    urls = [f"{site.url}/a{n}.jpg" for n in range(150)]
    done = crawl([{"file_urls": urls}], settings)
    assert len(done.items[0]["files"]) == 150
    assert sum(done.fates.values()) == 300


def test_a_failure_keeps_no_response_in_memory(site, crawl):
    """A remembered failure would otherwise keep the body, by the tracebacks of its causes."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(5)}
    settings = FILES | {"ITEM_PIPELINES": {"custom.ForgottenFiles": 1}}
    done = crawl([{"file_urls": [site.url + path for path in site.answers]}], settings)
    assert done.items[0]["failed"] == ["FileException"] * 5
    assert done.items[0]["in_memory"] == 0
    assert done.fates == {"failed": 5}
    assert done.stats["imgcache/failed/hook"] == 5
    assert done.stats["log_count/ERROR"] == 10


@pytest.mark.parametrize("meta", [{"imgcache": False}, {"dont_cache": True}])
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_request_can_keep_the_cache_out(site, crawl, meta, is_ours, tmp_path):
    """The cache is neither asked nor given what comes, in a drop-in or with the middleware."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = FILES | {"ITEM_PIPELINES": {f"custom.{'' if is_ours else 'Stock'}MetaFiles": 1}}
    if not is_ours:
        settings |= {"DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585}}
    done = crawl([{"file_urls": [f"{site.url}/a.jpg"], "meta": meta}], settings)
    assert len(done.items[0]["files"]) == 1
    assert "imgcache/lookup" not in done.stats
    assert done.fates == {}
    assert not list((tmp_path / "cache").glob("blobs/*/*"))

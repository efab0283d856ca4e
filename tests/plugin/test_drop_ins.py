"""ImgCacheFilesPipeline and ImgCacheImagesPipeline, compared with Scrapy's own in real crawls."""

from pathlib import Path
from shutil import rmtree

import pytest

from tests.support.pictures import jpeg
from tests.support.site import redirect, respond

IMAGES = {"IMAGES_STORE": "files", "IMAGES_THUMBS": {"small": [20, 20]}}
FILES = {"FILES_STORE": "files"}
# Scrapy's pipeline, our drop-in for it, and the settings of both.
DROP_INS = {
    "images": ("scrapy.pipelines.images.ImagesPipeline", "ImgCacheImagesPipeline", IMAGES),
    "files": ("scrapy.pipelines.files.FilesPipeline", "ImgCacheFilesPipeline", FILES),
}


def fields(kind, urls):
    """Return the fields of an item with these URLs for a pipeline."""
    return {"name": "x", "image_urls" if kind == "images" else "file_urls": urls}


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def pictures(site, photos):
    """Put photographs and generated pictures on the site, and return their URLs."""
    site.answers |= {f"/{name}": data for name, data in photos.items()}
    site.answers |= {"/generated.jpg": jpeg(5), "/no-suffix": jpeg(6)}
    return [site.url + path for path in site.answers]


@pytest.mark.parametrize("kind", DROP_INS)
def test_a_drop_in_gives_the_same_files_and_results(kind, pictures, crawl, tmp_path, site):
    """Files, result keys and values are equal, and the second crawl fetches nothing."""
    stock, ours, settings = DROP_INS[kind]
    items = [fields(kind, pictures)]
    with_ours = settings | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}}
    expected = crawl(items, settings | {"ITEM_PIPELINES": {stock: 1}})
    files = files_in(tmp_path / "files")
    rmtree(tmp_path / "files")
    fetched = crawl(items, with_ours)
    assert files_in(tmp_path / "files") == files
    asked = site.images_asked()
    rmtree(tmp_path / "files")
    cached = crawl(items, with_ours)
    assert files_in(tmp_path / "files") == files
    assert site.images_asked() == asked
    for done, status in ((fetched, "downloaded"), (cached, "cached")):
        for before, after in zip(results(expected), results(done), strict=True):
            assert after.items() >= (before | {"status": status}).items()
            assert len(after["content_hash"]) == 64
    assert cached.fates == {"hit": len(pictures)}


def results(done):
    """Return the results of the only item, from either field."""
    (item,) = done.items
    return item.get("images") or item["files"]


@pytest.mark.parametrize("kind", DROP_INS)
def test_an_up_to_date_file_needs_no_lookup(kind, site, crawl):
    """Scrapy checks its own files first, and a file that it finds up to date counts as a hit."""
    site.answers["/a.jpg"] = jpeg(1)
    _, ours, settings = DROP_INS[kind]
    settings = settings | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}}
    items = [fields(kind, [f"{site.url}/a.jpg"])]
    crawl(items, settings)
    second = crawl(items, settings)
    assert results(second)[0]["status"] == "uptodate"
    assert second.fates == {"hit": 1}
    assert "imgcache/lookup" not in second.stats


@pytest.mark.parametrize("kind", DROP_INS)
def test_new_file_names_need_no_download(kind, site, crawl, tmp_path):
    """After file_path has changed, the files are written from the cache under their new names."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    _, ours, settings = DROP_INS[kind]
    items = [fields(kind, [f"{site.url}/a.jpg", f"{site.url}/b.jpg"])]
    crawl(items, settings | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}})
    named = "custom.NamedImages" if kind == "images" else "custom.NamedFiles"
    done = crawl(items, settings | {"ITEM_PIPELINES": {named: 1}})
    assert [found["path"].split("/")[0] for found in results(done)] == ["x", "x"]
    assert all((tmp_path / "files" / found["path"]).exists() for found in results(done))
    assert site.images_asked().total() == 2


def test_too_small_images_are_rejected_as_in_scrapy(site, crawl):
    """IMAGES_MIN_WIDTH applies in both crawls: a small image is stored, but not delivered."""
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
    """Scrapy's pipelines accept only a 200; the drop-in also accepts a 201 with an image."""
    site.answers["/a.jpg"] = lambda handler: respond(handler, jpeg(1), status=201)
    settings = FILES | {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1}}
    done = crawl([{"file_urls": [f"{site.url}/a.jpg"]}], settings)
    assert (done.fates, len(done.items[0]["files"])) == ({"stored": 1}, 1)


@pytest.mark.parametrize("name", ["ImgCachePipeline", "ImgCacheFilesPipeline"])
@pytest.mark.parametrize(("allowed", "fates"), [(None, {"stored": 1}), (False, {"failed": 1})])
def test_redirects_are_followed_unless_forbidden(site, crawl, name, allowed, fates):
    """Redirects are followed by default; MEDIA_ALLOW_REDIRECTS False forbids them."""
    site.answers |= {"/go": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    settings = FILES | {"ITEM_PIPELINES": {f"imgcache_scrapy.{name}": 1}}
    if allowed is not None:
        settings |= {"MEDIA_ALLOW_REDIRECTS": allowed}
    urls = [f"{site.url}/go"]
    assert crawl([{"file_urls": urls, "image_urls": urls}], settings).fates == fates


@pytest.mark.parametrize("kind", DROP_INS)
def test_a_disabled_drop_in_behaves_as_scrapys_pipeline(kind, site, crawl, tmp_path):
    """With IMGCACHE_ENABLED False, no cache is created and no key is added to results."""
    site.answers["/a.jpg"] = jpeg(1)
    stock, ours, settings = DROP_INS[kind]
    items = [fields(kind, [f"{site.url}/a.jpg"])]
    expected = crawl(items, settings | {"ITEM_PIPELINES": {stock: 1}})
    rmtree(tmp_path / "files")
    off = settings | {"IMGCACHE_ENABLED": False}
    done = crawl(items, off | {"ITEM_PIPELINES": {f"imgcache_scrapy.{ours}": 1}})
    assert done.items == expected.items
    assert not (tmp_path / "cache").exists()


def test_two_drop_ins_fetch_a_url_once(site, crawl):
    """A URL in the files field and in the images field is fetched once and counted once."""
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
    """Files that are not images are delivered, with the reason why they are not cached."""
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


def test_a_broken_data_url_is_a_bad_url(crawl):
    """It is the fault of the URL, not of the cache."""
    settings = FILES | {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1}}
    done = crawl([{"file_urls": ["data:image/png;base64,xx", "data:,good"]}], settings)
    assert [found["path"][-4:] for found in done.items[0]["files"]] == [".txt"]
    assert done.fates == {"failed": 1, "rejected": 1}
    assert done.stats["imgcache/failed/bad_url"] == 1


def test_pillow_decides_about_doubtful_pictures(site, crawl):
    """A picture that Pillow opens is delivered but not cached; others fail with their reason."""
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


def test_a_format_that_only_pillow_knows_is_delivered(site, crawl):
    """The images drop-in leaves formats that it does not know to Scrapy."""
    site.answers["/a.ppm"] = b"P6 2 2 255 " + bytes(range(12))
    settings = IMAGES | {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1}}
    done = crawl([{"image_urls": [f"{site.url}/a.ppm"]}], settings)
    assert len(done.items[0]["images"]) == 1
    assert done.fates == {"rejected": 1}


def test_a_hook_decides_about_a_bad_status(site, crawl):
    """media_downloaded is called for a 404, as in Scrapy."""
    settings = FILES | {"ITEM_PIPELINES": {"custom.PlaceholderFiles": 1}}
    done = crawl([{"file_urls": [f"{site.url}/missing.jpg"]}], settings)
    assert done.items[0]["files"][0]["status"] == "none"
    assert done.fates == {"failed": 1}


def test_hooks_may_fetch_more_images(site, crawl):
    """A hook that fetches another image never waits for the memory that its own image uses."""
    site.answers |= {f"/{kind}{n}.jpg": jpeg(n) for kind in "ab" for n in range(80)}
    settings = FILES | {
        "ITEM_PIPELINES": {"custom.NestedFiles": 1},
        "DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585},
    }
    urls = [f"{site.url}/a{n}.jpg" for n in range(80)]
    done = crawl([{"file_urls": urls}], settings)
    assert len(done.items[0]["files"]) == 80
    assert sum(done.fates.values()) == 160


def test_a_failure_keeps_no_response_in_memory(site, crawl):
    """A remembered failure does not keep the response by the tracebacks of its causes."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(5)}
    settings = FILES | {"ITEM_PIPELINES": {"custom.FailingFiles": 1}}
    done = crawl([{"file_urls": [site.url + path for path in site.answers]}], settings)
    assert done.items[0]["failed"] == ["FileException"] * 5
    assert done.items[0]["in_memory"] == 0
    assert done.fates == {"failed": 5}
    assert done.stats["imgcache/failed/hook"] == 5
    assert done.stats["log_count/ERROR"] == 10


@pytest.mark.parametrize("meta", [{"imgcache": False}, {"dont_cache": True}])
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_request_can_bypass_the_cache(site, crawl, meta, is_ours, tmp_path):
    """Nothing is looked up or stored, neither with a drop-in nor with the middleware."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = FILES | {"ITEM_PIPELINES": {f"custom.{'' if is_ours else 'Stock'}MetaFiles": 1}}
    if not is_ours:
        settings |= {"DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585}}
    done = crawl([{"file_urls": [f"{site.url}/a.jpg"], "meta": meta}], settings)
    assert len(done.items[0]["files"]) == 1
    assert "imgcache/lookup" not in done.stats
    assert done.fates == {}
    assert not list((tmp_path / "cache").glob("blobs/*/*"))


def test_the_hooks_of_a_second_base_are_called(site, crawl, tmp_path):
    """A drop-in that is put in front of a pipeline of the project uses its `get_images`."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = {"ITEM_PIPELINES": {"custom.SecondBasePipeline": 1}, "IMAGES_STORE": "images"}
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], settings)
    (image,) = done.items[0]["images"]
    assert (tmp_path / "images" / "mine" / image["path"]).exists()

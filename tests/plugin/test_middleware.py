"""ImgCacheMiddleware in real crawls, with Scrapy's own pipelines and with requests of spiders."""

import gzip
import time

import pytest

from tests.support.pictures import jpeg
from tests.support.site import redirect, respond
from tests.support.sites import compressed

MIDDLEWARE = {"DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585}}
STOCK = MIDDLEWARE | {
    "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1},
    "IMAGES_STORE": "images",
    "WITHOUT_FILES": True,
}


def test_scrapys_images_pipeline_fetches_each_image_once(site, crawl):
    """With only our middleware, the second crawl fetches no image and gives the same results."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(5)} | {"/no-suffix": jpeg(9)}
    items = [{"image_urls": [site.url + path for path in site.answers]}]
    first = crawl(items, STOCK)
    asked = site.images_asked()
    second = crawl(items, STOCK)
    assert site.images_asked() == asked
    assert first.fates == {"stored": 6}
    assert second.fates == {"hit": 6}
    before, after = first.items[0]["images"], second.items[0]["images"]
    assert [image["status"] for image in after] == ["cached"] * 6
    assert [image["checksum"] for image in after] == [image["checksum"] for image in before]


def test_a_spiders_request_can_hit(site, crawl):
    """A URL with an image suffix uses the cache; a hit has our flags, and its entry in the meta."""
    site.answers["/a.jpg"] = jpeg(1)
    first = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
    second = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
    assert first.items[0]["flags"] == []
    assert second.items[0]["flags"] == ["cached", "imgcache"]
    assert first.items[0]["content_hash"] == second.items[0]["content_hash"] is not None
    assert first.items[0]["type"] == second.items[0]["type"]
    assert site.images_asked().total() == 1


@pytest.mark.parametrize(
    ("path", "meta", "asked"),
    [
        ("/a", {}, 2),
        ("/a", {"imgcache": True}, 1),
        ("/a.jpg", {"imgcache": False}, 2),
        ("/a.jpg", {"dont_cache": True}, 2),
        ("/a.JPG?x=1", {}, 1),
    ],
)
def test_meta_can_force_or_bypass_the_cache(site, crawl, path, meta, asked):
    """The meta key `imgcache` forces or bypasses the cache, and `dont_cache` bypasses it."""
    site.answers |= {path: jpeg(1)}
    for _ in range(2):
        crawl(settings=MIDDLEWARE, requests=[[site.url + path, meta]])
    assert site.images_asked().total() == asked


def test_a_page_is_rejected(site, crawl):
    """A page under the URL of an image is delivered and counted, but not stored."""
    site.answers |= {
        path: lambda handler: respond(handler, b"<html>", content_type="text/html")
        for path in ("/a.jpg", "/b")
    }
    requests = [[f"{site.url}/a.jpg", {}], [f"{site.url}/b", {"imgcache": True}]]
    done = crawl(settings=MIDDLEWARE, requests=requests)
    assert len(done.items) == 2
    assert (done.fates, done.stats["imgcache/rejected/html"]) == ({"rejected": 2}, 2)


def test_attempts_of_one_url_count_once(site, crawl):
    """Retries and redirects of a URL count as one image and one lookup."""
    attempts = iter([503, 503])

    def fail_twice(handler):
        status = next(attempts, 200)
        respond(handler, jpeg(1) if status == 200 else b"", status=status)

    site.answers |= {
        "/flaky.jpg": fail_twice,
        "/go.jpg": redirect("/on.jpg"),
        "/on.jpg": redirect("/a.jpg"),
        "/a.jpg": jpeg(2),
        "/down.jpg": lambda handler: respond(handler, b"", status=503),
    }
    paths = ("flaky", "go", "down")
    requests = [[f"{site.url}/{path}.jpg", {}] for path in paths]
    done = crawl(settings=MIDDLEWARE, requests=requests)
    assert done.fates == {"stored": 2, "failed": 1}
    assert done.stats["imgcache/failed/http_503"] == 1
    assert done.stats["imgcache/lookup"] == 3
    assert site.asked["/down.jpg"] == site.asked["/flaky.jpg"] == 3


def test_the_requested_url_is_stored_after_a_redirect(site, crawl):
    """The next crawl requests neither the redirect nor its target."""
    site.answers |= {"/go.jpg": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/go.jpg", {}]])
        assert done.fates == fates
    assert site.images_asked() == {"/go.jpg": 1, "/a.jpg": 1}


def test_a_redirect_may_lead_to_a_url_without_an_image_suffix(site, crawl):
    """The image is stored under the requested URL, and a page has its own fate."""
    site.answers |= {"/go.jpg": redirect("/file/1"), "/file/1": jpeg(1), "/no.jpg": redirect("/")}
    requests = [[f"{site.url}/{name}.jpg", {}] for name in ("go", "no")]
    first, second = (crawl(settings=MIDDLEWARE, requests=requests) for _ in range(2))
    assert first.fates == {"stored": 1, "rejected": 1}
    assert second.fates == {"hit": 1, "rejected": 1}
    assert second.stats["imgcache/rejected/html"] == 1
    assert site.asked["/file/1"] == 1


def test_a_redirect_to_a_known_image_counts_once(site, crawl):
    """The target comes from the cache, and only the requested URL gets a fate."""
    site.answers |= {"/go.jpg": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
    for _ in range(2):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/go.jpg", {}]])
        assert done.fates == {"hit": 1}
        assert done.stats["imgcache/bytes_saved"] == len(jpeg(1))
    assert site.images_asked() == {"/go.jpg": 1, "/a.jpg": 1}


def test_a_compressed_picture_is_stored_decoded(site, crawl, tmp_path):
    """Content-Length is the length of the encoded body, so the decoded picture is not truncated."""
    body = jpeg(1)
    packed = gzip.compress(body, compresslevel=0)
    assert len(packed) > len(body)
    site.answers["/a.jpg"] = lambda handler: respond(
        handler, packed, headers={"Content-Encoding": "gzip"}
    )
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
        assert (done.fates, done.items[0]["size"]) == (fates, len(body))


def test_pipeline_and_middleware_look_up_each_url_once(site, crawl, tmp_path):
    """With the add-on both are on, and only one of them looks up and stores each URL."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(4)}
    items = [{"image_urls": [site.url + path for path in site.answers]}]
    done = crawl(items, {"ADDONS": {"imgcache_scrapy.Addon": 500}})
    assert done.fates == {"stored": 4}
    assert done.stats["imgcache/lookup"] == 4


def test_the_add_on_keeps_other_media_pipelines(site, crawl):
    """The add-on then adds only the middleware; a component that is set to None stays off."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = {
        "ADDONS": {"imgcache_scrapy.Addon": 500},
        "ITEM_PIPELINES": STOCK["ITEM_PIPELINES"],
        "IMAGES_STORE": "images",
    }
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    done = crawl(items, settings)
    assert "ImgCacheMiddleware" in done.log
    assert "ImgCachePipeline" not in done.log
    off = settings | {"DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": None}}
    assert crawl(items, off).fates == {}


def test_a_response_of_httpcache_is_not_a_hit(site, crawl):
    """An image that HttpCache returns is stored in our cache."""
    site.answers["/a.jpg"] = jpeg(1)
    http_cache = {"HTTPCACHE_ENABLED": True}
    requests = [[f"{site.url}/a.jpg", {}]]
    crawl(settings=http_cache, requests=requests)
    done = crawl(settings=http_cache | MIDDLEWARE, requests=requests)
    assert done.fates == {"stored": 1}
    assert site.images_asked().total() == 1


def test_a_disabled_middleware_does_nothing(site, crawl):
    """With IMGCACHE_ENABLED False, images come from the site and nothing is counted."""
    site.answers["/a.jpg"] = jpeg(1)
    off = STOCK | {"IMGCACHE_ENABLED": False}
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], off)
    assert len(done.items[0]["images"]) == 1
    assert done.fates == {}


def test_many_redirects_at_once_do_not_wait_for_each_other(site, crawl):
    """A redirected request keeps the slot of the request that it came from."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(80)}
    site.answers |= {f"/go{n}.jpg": redirect(f"/{n}.jpg") for n in range(80)}
    urls = [f"{site.url}/go{n}.jpg" for n in range(80)]
    settings = STOCK | {"MEDIA_ALLOW_REDIRECTS": True, "CONCURRENT_REQUESTS_PER_DOMAIN": 100}
    for fates in ({"stored": 80}, {"hit": 80}):
        done = crawl([{"image_urls": urls}], settings)
        assert len(done.items[0]["images"]) == 80
        assert done.fates == fates
    assert site.images_asked().total() == 160


def test_a_response_that_another_middleware_cannot_use_holds_nothing(site, crawl):
    """Neither the slot of its image nor the lock of its key, although no hook sees the failure."""
    site.answers |= {f"/{n}.jpg": compressed(jpeg(n), "no gzip") for n in range(70)}
    site.answers["/loop.jpg"] = redirect("/loop.jpg")
    urls = [site.url + path for path in site.answers] * 2
    settings = MIDDLEWARE | {"CONCURRENT_REQUESTS_PER_DOMAIN": 3, "IMGCACHE_TIMEOUT": 600}
    done = crawl(settings=settings, requests=[[url, {}] for url in urls])
    assert done.stats["finish_reason"] == "finished"
    assert done.fates == {"failed": 71}


def test_a_redirect_from_a_url_that_is_not_looked_up(site, crawl):
    """The image is stored only under the target, which hits in the next crawl."""
    site.answers |= {"/download": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/download", {}]])
        assert done.fates == fates
    assert site.images_asked() == {"/download": 2, "/a.jpg": 1}


def test_meta_copied_from_another_response_is_harmless(site, crawl, tmp_path):
    """An image is stored under its own URL, even if its meta is copied from another response."""
    from imgcache_scrapy import ImgCacheClient

    site.answers |= {"/go.jpg": redirect("/a.jpg"), "/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/go.jpg", {}]], then=f"{site.url}/b.jpg")
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        sizes = {entry["url"]: entry["file_size_bytes"] for entry in client.search("")}
    assert sizes == {f"{site.url}/go.jpg": len(jpeg(1)), f"{site.url}/b.jpg": len(jpeg(2))}


def test_a_request_with_a_range_bypasses_the_cache(site, crawl):
    """A request with a Range header gets the answer of the site."""
    site.answers["/a.jpg"] = jpeg(1)
    crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
    headers = {"DEFAULT_REQUEST_HEADERS": {"Range": "bytes=0-9"}}
    crawl(settings=MIDDLEWARE | headers, requests=[[f"{site.url}/a.jpg", {}]])
    assert site.images_asked().total() == 2


@pytest.mark.parametrize("with_ours", [False, True], ids=["stock", "with our pipeline"])
def test_simultaneous_requests_fetch_once(site, crawl, with_ours):
    """Two pipelines and a spider request the same pictures, and each picture is fetched once."""

    def slowly(handler):
        time.sleep(0.3)  # Meanwhile the others request it too.
        respond(handler, jpeg(int(handler.path[1])))

    site.answers |= {f"/{n}.jpg": slowly for n in range(5)}
    urls = [f"{site.url}/{n}.jpg" for n in range(5)]
    stock = "scrapy.pipelines.files.FilesPipeline"
    other = "imgcache_scrapy.ImgCachePipeline" if with_ours else stock
    pipelines = {"scrapy.pipelines.images.ImagesPipeline": 1, other: 1}
    done = crawl(
        [{"image_urls": urls, "file_urls": urls}, {"image_urls": urls[::-1]}],
        STOCK | {"ITEM_PIPELINES": pipelines, "FILES_STORE": "files"},
        requests=[[url, {}] for url in urls * 3],
    )
    assert set(site.images_asked().values()) == {1}
    assert done.fates == {"stored": 5}
    assert len(done.items) == 2 + 15

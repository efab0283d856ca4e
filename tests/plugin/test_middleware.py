"""ImgCacheMiddleware in real crawls: under Scrapy's own pipelines, and for spiders' requests."""

import gzip
import time

import pytest

from tests.support.pictures import jpeg
from tests.support.site import redirect, respond

MIDDLEWARE = {"DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585}}
STOCK = MIDDLEWARE | {
    "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1},
    "IMAGES_STORE": "images",
    "IMAGES_EXPIRES": -1,
}


def test_a_stock_images_pipeline_asks_the_site_once(site, crawl):
    """With only our middleware, the second crawl makes no image request, and gives the same."""
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


def test_a_spiders_request_is_answered(site, crawl):
    """By its suffix a request is an image's; a hit has our flags, and the entry is in the meta."""
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
def test_meta_decides(site, crawl, path, meta, asked):
    """A request can force the cache or keep it out; `dont_cache` is obeyed."""
    site.answers |= {path: jpeg(1)}
    for _ in range(2):
        crawl(settings=MIDDLEWARE, requests=[[site.url + path, meta]])
    assert site.images_asked().total() == asked


def test_what_is_no_image_is_rejected(site, crawl):
    """A page under an image's name is delivered and counted, and not stored."""
    site.answers |= {
        path: lambda handler: respond(handler, b"<html>", content_type="text/html")
        for path in ("/a.jpg", "/b")
    }
    requests = [[f"{site.url}/a.jpg", {}], [f"{site.url}/b", {"imgcache": True}]]
    done = crawl(settings=MIDDLEWARE, requests=requests)
    assert len(done.items) == 2
    assert (done.fates, done.stats["imgcache/rejected/html"]) == ({"rejected": 2}, 2)


def test_attempts_of_one_url_count_once(site, crawl):
    """Two failures and a success are one stored image and one lookup; two redirects, too."""
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


def test_the_asked_url_is_stored_after_a_redirect(site, crawl):
    """Next time neither the redirect nor its target is asked for."""
    site.answers |= {"/go.jpg": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/go.jpg", {}]])
        assert done.fates == fates
    assert site.images_asked() == {"/go.jpg": 1, "/a.jpg": 1}


def test_a_redirect_to_a_known_image_counts_once(site, crawl):
    """Its target comes from the cache, and the URL that was asked for has the fate."""
    site.answers |= {"/go.jpg": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
    for _ in range(2):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/go.jpg", {}]])
        assert done.fates == {"hit": 1}
        assert done.stats["imgcache/bytes_saved"] == len(jpeg(1))
    assert site.images_asked() == {"/go.jpg": 1, "/a.jpg": 1}


def test_a_compressed_picture_is_stored_as_it_is(site, crawl, tmp_path):
    """Content-Encoding is undone before; a Content-Length that was the encoded one's is no cut."""
    body = jpeg(1)
    packed = gzip.compress(body, compresslevel=0)
    assert len(packed) > len(body)
    site.answers["/a.jpg"] = lambda handler: respond(
        handler, packed, headers={"Content-Encoding": "gzip"}
    )
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
        assert (done.fates, done.items[0]["size"]) == (fates, len(body))


def test_pipeline_and_middleware_ask_once_and_store_once(site, crawl, tmp_path):
    """With the add-on both are on, and each URL is looked up and stored by one of them."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(4)}
    items = [{"image_urls": [site.url + path for path in site.answers]}]
    done = crawl(items, {"ADDONS": {"imgcache_scrapy.Addon": 500}})
    assert done.fates == {"stored": 4}
    assert done.stats["imgcache/lookup"] == 4


def test_the_add_on_leaves_other_media_pipelines_alone(site, crawl):
    """Where the project has one, only the middleware is added; what is set to None stays off."""
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


def test_another_httpcache_is_no_hit_of_ours(site, crawl):
    """What HttpCache answers is stored with us all the same."""
    site.answers["/a.jpg"] = jpeg(1)
    http_cache = {"HTTPCACHE_ENABLED": True}
    requests = [[f"{site.url}/a.jpg", {}]]
    crawl(settings=http_cache, requests=requests)
    done = crawl(settings=http_cache | MIDDLEWARE, requests=requests)
    assert done.fates == {"stored": 1}
    assert site.images_asked().total() == 1


def test_switched_off_it_is_gone(site, crawl):
    """IMGCACHE_ENABLED False: the images come from the site, and nothing is counted."""
    site.answers["/a.jpg"] = jpeg(1)
    off = STOCK | {"IMGCACHE_ENABLED": False}
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], off)
    assert len(done.items[0]["images"]) == 1
    assert done.fates == {}


def test_many_redirects_at_once_do_not_wait_for_each_other(site, crawl):
    """A redirected request goes on with the place of the one that it came from."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(150)}
    site.answers |= {f"/go{n}.jpg": redirect(f"/{n}.jpg") for n in range(150)}
    urls = [f"{site.url}/go{n}.jpg" for n in range(150)]
    settings = STOCK | {"MEDIA_ALLOW_REDIRECTS": True, "CONCURRENT_REQUESTS_PER_DOMAIN": 100}
    for fates in ({"stored": 150}, {"hit": 150}):
        done = crawl([{"image_urls": urls}], settings)
        assert len(done.items[0]["images"]) == 150
        assert done.fates == fates
    assert site.images_asked().total() == 300


def test_a_redirect_from_another_url_hits_at_its_target(site, crawl):
    """What was never asked of the cache is no name for the image."""
    site.answers |= {"/download": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/download", {}]])
        assert done.fates == fates
    assert site.images_asked() == {"/download": 2, "/a.jpg": 1}


def test_meta_copied_from_another_response_is_harmless(site, crawl, tmp_path):
    """An image is stored under its own URL, whatever the meta says of another one."""
    from imgcache_scrapy import ImgCacheClient

    site.answers |= {"/go.jpg": redirect("/a.jpg"), "/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/go.jpg", {}]], then=f"{site.url}/b.jpg")
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        sizes = {entry["url"]: entry["file_size_bytes"] for entry in client.search("")}
    assert sizes == {f"{site.url}/go.jpg": len(jpeg(1)), f"{site.url}/b.jpg": len(jpeg(2))}


def test_a_part_of_an_image_is_not_answered(site, crawl):
    """A request with a Range wants what the site gives."""
    site.answers["/a.jpg"] = jpeg(1)
    crawl(settings=MIDDLEWARE, requests=[[f"{site.url}/a.jpg", {}]])
    headers = {"DEFAULT_REQUEST_HEADERS": {"Range": "bytes=0-9"}}
    crawl(settings=MIDDLEWARE | headers, requests=[[f"{site.url}/a.jpg", {}]])
    assert site.images_asked().total() == 2


@pytest.mark.parametrize("ours", [False, True], ids=["stock", "with our pipeline"])
def test_who_asks_at_the_same_time_fetches_once(site, crawl, ours):
    """Two stock pipelines, or one and ours, and a spider want one picture before it is there."""

    def slowly(handler):
        time.sleep(0.3)  # The others ask meanwhile.
        respond(handler, jpeg(int(handler.path[1])))

    site.answers |= {f"/{n}.jpg": slowly for n in range(5)}
    urls = [f"{site.url}/{n}.jpg" for n in range(5)]
    pipelines = {
        "scrapy.pipelines.images.ImagesPipeline": 1,
        "imgcache_scrapy.ImgCachePipeline" if ours else "scrapy.pipelines.files.FilesPipeline": 1,
    }
    done = crawl(
        [{"image_urls": urls, "file_urls": urls}, {"image_urls": urls[::-1]}],
        STOCK | {"ITEM_PIPELINES": pipelines, "FILES_STORE": "files"},
        requests=[[url, {}] for url in urls * 3],
    )
    assert set(site.images_asked().values()) == {1}
    assert done.fates == {"stored": 5}
    assert len(done.items) == 2 + 15

"""Crawls with bad answers of every kind: each URL gets one fate, with every component."""

import pytest

from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import redirect, respond

IMAGES = {
    "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
    "IMAGES_STORE": "images",
}
COMPONENTS = {"pipeline": PIPELINE, "files": FILES, "images": IMAGES, "middleware": STOCK}
SETTINGS = {
    "ROBOTSTXT_OBEY": True,
    "RETRY_TIMES": 1,
    "DOWNLOAD_TIMEOUT": 1,
    "REDIRECT_MAX_TIMES": 3,
    "MEDIA_ALLOW_REDIRECTS": True,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 100,
}
# Scrapy's HTTP client does not return a response for these statuses.
NO_RESPONSES = {204, 205, 304}


def answers(site):
    """Return the bad answers of the site, by path."""

    def status(code):
        return lambda handler: respond(handler, b"oops", status=code, content_type="text/plain")

    def of_type(body, content_type="image/jpeg", **headers):
        return lambda handler: respond(
            handler, body, content_type=content_type, headers=headers or None
        )

    def cut(handler):
        respond(handler, jpeg(1)[:-100], headers={"Content-Length": str(len(jpeg(1)))})
        handler.close_connection = True

    def hang_up(handler):
        handler.close_connection = True

    def hang(handler):
        handler.rfile.read(1)  # Nothing arrives: this ends when the client disconnects.
        handler.close_connection = True

    codes = [*range(201, 208), *range(300, 309), *range(400, 419), 451, *range(500, 512), 599]
    return {f"/{code}.jpg": status(code) for code in codes if code not in NO_RESPONSES} | {
        "/robots.txt": of_type(b"User-agent: *\nDisallow: /forbidden", "text/plain"),
        "/forbidden/a.jpg": jpeg(3),
        "/good.jpg": jpeg(2),
        "/empty.jpg": of_type(b""),
        "/page.jpg": of_type(b"<html><title>Not found</title>", "text/html"),
        "/text.jpg": of_type(b"no picture", "text/plain"),
        "/typed.jpg": of_type(jpeg(4), "text/html"),
        "/cut.jpg": cut,
        "/prefix.jpg": of_type(jpeg(5)[:300]),
        "/hang-up.jpg": hang_up,
        "/hang.jpg": hang,
        "/loop.jpg": redirect("/loop.jpg"),
        "/loop-1.jpg": redirect("/loop-2.jpg"),
        "/loop-2.jpg": redirect("/loop-1.jpg"),
        "/nowhere.jpg": redirect("http://127.0.0.1:9/a.jpg"),
        "/unknown-host.jpg": redirect("http://nothing.invalid/a.jpg"),
        "/to-page.jpg": redirect("/"),
        "/to-good.jpg": redirect("/good.jpg"),
        "/no-location.jpg": status(302),
    }


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_url_has_one_fate(crawl, site, component):
    """The fates add up to the URLs, and the reasons add up to the rejections and failures."""
    site.answers |= answers(site)
    urls = [site.url + path for path in site.answers if path != "/robots.txt"]
    urls += ["http://127.0.0.1:9/refused.jpg", "http://nothing.invalid/a.jpg"]
    done = crawl(
        [{"image_urls": urls}, {"image_urls": urls[::-1]}], SETTINGS | COMPONENTS[component]
    )
    assert sum(done.fates.values()) == len(urls)
    for fate in ("rejected", "failed"):
        reasons = [n for name, n in done.stats.items() if name.startswith(f"imgcache/{fate}/")]
        assert sum(reasons) == done.fates[fate]
    assert done.stats["imgcache/lookup"] <= len(urls)
    summary = next(line for line in done.log.splitlines() if "Image cache: " in line)
    assert f"Image cache: {len(urls)} images" in summary
    assert len(done.items) == 2

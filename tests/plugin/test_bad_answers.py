"""Crawls with bad answers of every kind: each URL gets one fate, with every component."""

import re
from collections import Counter
from pathlib import Path

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import redirect, respond

IMAGES = {
    "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
    "IMAGES_STORE": "images",
}
README = (Path(__file__).parents[2] / "README.md").read_text()
COMPONENTS = {"pipeline": PIPELINE, "files": FILES, "images": IMAGES, "middleware": STOCK}
SETTINGS = {
    "ROBOTSTXT_OBEY": True,
    "RETRY_TIMES": 1,
    "DOWNLOAD_TIMEOUT": 1,
    "REDIRECT_MAX_TIMES": 3,
    "MEDIA_ALLOW_REDIRECTS": True,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 100,
}
# A file that is up to date locally is not requested.
NO_LOCAL_FILES = {"FILES_EXPIRES": -1, "IMAGES_EXPIRES": -1, "IMGCACHE_FAILURES_FIELD": "bad"}
# Scrapy's HTTP client does not return a response for these statuses.
NO_RESPONSES = {204, 205, 304}


ROW = r"\| .* \| `imgcache/(\w+)/(\w+)` \| (?:asks again|.*`(\w+)`) \|"
# The sentences of the README's table, each with the URL: a path of the site, or another host.
KINDS = {
    "404": "/404.jpg",
    "410": "/410.jpg",
    "401": "/401.jpg",
    "403": "/403.jpg",
    "451": "/451.jpg",
    "429": "/429.jpg",
    "429 with `Retry-After`": "/429-later.jpg",
    "500": "/500.jpg",
    "503": "/503.jpg",
    "503 with `Retry-After`": "/503-later.jpg",
    "206, a part": "/206.jpg",
    "302 without `Location`": "/no-location.jpg",
    "an HTML page": "/page.jpg",
    "nothing": "/empty.jpg",
    "a text": "/text.jpg",
    "less than `Content-Length`": "/cut.jpg",
    "half a picture": "/prefix.jpg",
    "a blocked picture": "/blocked.jpg",
    "a redirect to a page": "/to-page.jpg",
    "redirects in a circle": "/loop.jpg",
    "no answer in time": "/hang.jpg",
    "the end of the connection": "/hang-up.jpg",
    "no connection": "http://127.0.0.1:9/refused.jpg",
    "no such host": "http://nothing.invalid/a.jpg",
    "`robots.txt` forbids it": "/forbidden/a.jpg",
}


def status(code, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: respond(
        handler, b"oops", status=code, content_type="text/plain", headers=headers
    )


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


def answers(site):
    """Return the bad answers of the site, by path."""
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
    assert_reasons_add_up(done)
    assert done.stats["imgcache/lookup"] <= len(urls)
    summary = next(line for line in done.log.splitlines() if "Image cache: " in line)
    assert f"Image cache: {len(urls)} images" in summary
    assert len(done.items) == 2


def assert_reasons_add_up(done):
    for fate in ("rejected", "failed"):
        reasons = [n for name, n in done.stats.items() if name.startswith(f"imgcache/{fate}/")]
        assert sum(reasons) == done.fates.get(fate, 0)


def table_of(site, failures, later, stats):
    """Return the README's table, from the failures of two crawls and the stats of the first."""
    lines = ["| what came | stat: fate and reason | the next crawl |", "|---|---|---|"]
    for kind, path in KINDS.items():
        url = path if "://" in path else site.url + path
        reason, next_reason = failures[url], later[url]
        fate = next(f for f in ("rejected", "failed") if f"imgcache/{f}/{reason}" in stats)
        again = "asks again" if reason == next_reason else f"asks nothing: `{next_reason}`"
        lines.append(f"| {kind} | `imgcache/{fate}/{reason}` | {again} |")
    return "\n".join(lines)


def crawl_kinds(crawl, site, tmp_path, settings):
    """Crawl all kinds of bad answers."""
    site.answers |= answers(site) | {
        "/429.jpg": status(429),
        "/429-later.jpg": status(429, Retry_After="600"),
        "/503-later.jpg": status(503, Retry_After="600"),
        "/blocked.jpg": jpeg(6),
    }
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.block(file_bytes=jpeg(6))
    urls = [path if "://" in path else site.url + path for path in KINDS.values()]
    return crawl([{"image_urls": urls}], SETTINGS | NO_LOCAL_FILES | settings)


def test_the_readme_tells_what_becomes_of_bad_answers(crawl, site, tmp_path):
    """The table in the README is what two crawls give."""
    first, second = (crawl_kinds(crawl, site, tmp_path, PIPELINE) for _ in range(2))
    failures, later = (
        {each["url"]: each["reason"] for each in done.items[0]["bad"]} for done in (first, second)
    )
    table = table_of(site, failures, later, first.stats)
    assert table in README, f"the README needs this table:\n{table}"


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_gives_the_same_reasons(crawl, site, tmp_path, component):
    """Also in the middleware, the fates add up, and each kind has the reason of the table."""
    for crawls in range(2):
        done = crawl_kinds(crawl, site, tmp_path, COMPONENTS[component])
        assert sum(done.fates.values()) == len(KINDS)
        assert_reasons_add_up(done)
        expected = Counter()
        for line in README.splitlines():
            row = re.fullmatch(ROW, line)
            if row is not None:
                fate, reason, later = row.groups()
                expected[f"imgcache/{fate}/{(crawls and later) or reason}"] += 1
        found = {name: n for name, n in done.stats.items() if re.match(r"imgcache/\w+ed/\w", name)}
        assert found == expected

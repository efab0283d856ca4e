"""Failures that the cache remembers, in real crawls: dead URLs are not asked again."""

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.reference_service import serving
from tests.support.site import redirect, respond

COMPONENTS = {"pipeline": PIPELINE, "files": FILES, "middleware": STOCK}
MIDDLEWARE = {"DOWNLOADER_MIDDLEWARES": STOCK["DOWNLOADER_MIDDLEWARES"]}
QUICK = {"RETRY_TIMES": 1, "IMGCACHE_FAILURES_FIELD": "bad"}
SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Date=20261127T000000Z"
SIGNED += "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="


def answer(status, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: respond(handler, b"oops", status=status, headers=headers)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.endurance)])
def test_dead_urls_are_asked_once_in_five_crawls(crawl, site, component, count):
    """The later crawls send no request, and tell `known_http_404` with the status."""
    urls = [f"{site.url}/{n}.jpg" for n in range(count)]
    for n in range(5):
        done = crawl([{"image_urls": urls}], COMPONENTS[component] | QUICK)
        reason = "known_http_404" if n else "http_404"
        assert done.fates == {"failed": count}
        assert done.stats[f"imgcache/failed/{reason}"] == count
        if component != "middleware":
            expected = {"reason": reason, "http_status": 404}
            assert done.items[0]["bad"] == [{"url": url, **expected} for url in urls]
        assert done.items[0]["images"] == []
        assert site.images_asked().total() == count


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.endurance)])
def test_a_new_signature_is_always_asked(crawl, site, count):
    """A signature that expires is part of the URL that failed, although it is not in the key."""
    for n in range(1, 6):
        urls = [f"{site.url}/{i}.jpg?{SIGNED}{n:064}" for i in range(count)]
        done = crawl([{"image_urls": urls}], PIPELINE | QUICK)
        assert done.stats["imgcache/failed/http_404"] == count
        assert site.images_asked().total() == n * count


def test_a_picture_that_comes_back_is_fetched(crawl, site):
    """`IMGCACHE_RETRY_FAILED` asks the site again; a picture then ends the failure."""
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    crawl(items, PIPELINE)
    site.answers["/a.jpg"] = jpeg(1)
    assert crawl(items, PIPELINE).stats["imgcache/failed/known_http_404"] == 1
    assert crawl(items, PIPELINE | {"IMGCACHE_RETRY_FAILED": True}).fates == {"stored": 1}
    assert crawl(items, PIPELINE).fates == {"hit": 1}
    assert site.images_asked().total() == 2


@pytest.mark.parametrize("component", COMPONENTS)
def test_retry_after_is_waited_for(crawl, site, tmp_path, component):
    """A site that is busy is not asked before its time; one that says no time is asked again."""
    site.answers |= {
        "/busy.jpg": answer(503, Retry_After="600"),
        "/many.jpg": answer(429, Retry_After="86400"),
        "/down.jpg": answer(503),
        "/forbidden.jpg": answer(403),
    }
    items = [{"image_urls": [site.url + path for path in site.answers]}]
    crawl(items, COMPONENTS[component] | QUICK)
    assert site.images_asked() == {
        "/busy.jpg": 2, "/many.jpg": 2, "/down.jpg": 2, "/forbidden.jpg": 1
    }  # fmt: skip
    done = crawl(items, COMPONENTS[component] | QUICK)
    assert site.images_asked() == {
        "/busy.jpg": 2, "/many.jpg": 2, "/down.jpg": 4, "/forbidden.jpg": 2
    }  # fmt: skip
    reasons = ("known_http_503", "known_http_429", "http_503", "http_403")
    assert [done.stats[f"imgcache/failed/{reason}"] for reason in reasons] == [1] * 4
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        assert {each["reason"] for each in client.failures()} == {"http_503", "http_429"}


def test_a_retry_in_the_same_crawl_asks_the_site(crawl, site, tmp_path):
    """The middleware sees each attempt; a failure that is followed by a picture is forgotten."""

    def busy_once(handler):
        site.answers["/a.jpg"] = jpeg(1)
        answer(503, Retry_After="60")(handler)

    site.answers["/a.jpg"] = busy_once
    requests = [[f"{site.url}/a.jpg", {}]]
    done = crawl(settings=MIDDLEWARE, requests=requests)
    assert done.fates == {"stored": 1}
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        assert client.failures() == []


def test_a_spider_gets_the_status_of_a_known_failure(crawl, site):
    """The response has the status, no body, and the flags of a cached one; it is not retried."""
    site.answers["/busy.jpg"] = answer(503, Retry_After="600")
    meta = {"handle_httpstatus_all": True}
    requests = [[f"{site.url}/busy.jpg", meta], [f"{site.url}/gone.jpg", meta]]
    crawl(settings=MIDDLEWARE | QUICK, requests=requests)
    asked = site.images_asked()
    done = crawl(settings=MIDDLEWARE | QUICK, requests=requests)
    assert site.images_asked() == asked
    assert [(each["flags"], each["size"]) for each in done.items] == [
        (["cached", "imgcache"], 0)
    ] * 2
    assert done.stats["imgcache/failed"] == 2
    assert "retry/count" not in done.stats


def test_failures_without_a_response_are_remembered_if_a_setting_says_so(crawl, site):
    """DNS, connection and timeout are remembered for the time that the setting names."""
    urls = ["http://127.0.0.1:9/a.jpg", "http://nothing.invalid/a.jpg", f"{site.url}/403.jpg"]
    site.answers["/403.jpg"] = answer(403)
    rules = {"connection": 60, "dns": 60, "http_403": 60, "http_404": 0}
    settings = QUICK | {"IMGCACHE_REMEMBER_FAILURES": rules}
    items = [{"image_urls": [*urls, f"{site.url}/404.jpg"]}]
    for each in (PIPELINE, STOCK):
        crawl(items, each | settings)
        done = crawl(items, each | settings)
        assert done.fates == {"failed": 4}
        for reason in ("known_connection", "known_dns", "known_http_403", "http_404"):
            assert done.stats[f"imgcache/failed/{reason}"] == 1
    assert site.images_asked() == {"/403.jpg": 1, "/404.jpg": 4}


@pytest.mark.parametrize("off", [False, "False", 0])
def test_remembering_can_be_switched_off(crawl, site, tmp_path, off):
    """Then nothing is remembered, and what others remember does not count."""
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    crawl(items, PIPELINE)
    done = crawl(items, PIPELINE | {"IMGCACHE_REMEMBER_FAILURES": off})
    assert done.stats["imgcache/failed/http_404"] == 1
    assert site.images_asked().total() == 2
    crawl([{"image_urls": [f"{site.url}/b.jpg"]}], PIPELINE | {"IMGCACHE_REMEMBER_FAILURES": off})
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        assert [each["url"] for each in client.failures()] == [f"{site.url}/a.jpg"]


def test_a_request_that_bypasses_the_cache_is_not_remembered(crawl, site, tmp_path):
    """Neither does it remember a failure, nor is it answered with one."""
    url = f"{site.url}/a.jpg"
    crawl(settings=MIDDLEWARE, requests=[[url, {"imgcache": False}]])
    crawl(settings=MIDDLEWARE, requests=[[url, {}]])
    crawl(settings=MIDDLEWARE, requests=[[url, {"dont_cache": True}]])
    crawl(settings=MIDDLEWARE, requests=[[url, {}]])
    assert site.images_asked().total() == 3


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_url_before_a_redirect_is_remembered(crawl, site, component):
    """The next crawl asks neither the URL nor the one that the redirect leads to."""
    site.answers["/a.jpg"] = redirect("/gone.jpg")
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    settings = COMPONENTS[component] | {"MEDIA_ALLOW_REDIRECTS": True}
    crawl(items, settings)
    done = crawl(items, settings)
    assert done.stats["imgcache/failed/known_http_404"] == 1
    assert site.images_asked() == {"/a.jpg": 1, "/gone.jpg": 1}


def test_a_service_remembers_failures_for_all_its_crawls(crawl, site, service):
    """The second crawl is told by the service, with the lookup."""
    urls = [f"{site.url}/{n}.jpg" for n in range(10)]
    settings = PIPELINE | {"IMGCACHE_URL": service.url}
    for reason in ("http_404", "known_http_404"):
        done = crawl([{"image_urls": urls}], settings)
        assert done.stats[f"imgcache/failed/{reason}"] == 10
    assert site.images_asked().total() == 10
    assert not [line for line in done.warnings if "Trouble" in line]


def test_the_reference_service_remembers_nothing(crawl, site):
    """A service without the route costs one call, and every crawl asks the site."""
    with serving(strict=True) as address:
        items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(5)]}]
        for _ in range(2):
            done = crawl(items, PIPELINE | {"IMGCACHE_URL": address})
            assert done.stats["imgcache/failed/http_404"] == 5
            assert "imgcache/error/not_found" not in done.stats
    assert site.images_asked().total() == 10

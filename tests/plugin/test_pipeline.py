"""ImgCachePipeline in real crawls."""

import json

import pytest

from tests.support.pictures import jpeg
from tests.support.site import redirect, respond

PIPELINE = {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCachePipeline": 1}}


@pytest.mark.parametrize("kind", ["dict", "item", "dataclass", "attrs"])
def test_items_of_every_kind_get_their_images(site, crawl, kind):
    """Every type of item works, and its images come in the order of its URLs."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    urls = [f"{site.url}/b.jpg", f"{site.url}/missing.jpg", f"{site.url}/a.jpg"]
    done = crawl([{"name": "x", "image_urls": urls}], PIPELINE, kind=kind)
    (item,) = done.items
    assert [image["url"] for image in item["images"]] == [urls[0], urls[2]]
    assert [image["file_size_bytes"] for image in item["images"]] == [len(jpeg(2)), len(jpeg(1))]


def test_the_second_crawl_fetches_nothing(site, crawl):
    """It finds what the first crawl stored; its item is equal, except for the status."""
    site.answers |= {"/a.jpg": jpeg(1)}
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    first, second = crawl(items, PIPELINE), crawl(items, PIPELINE)
    assert site.images_asked() == {"/a.jpg": 1}
    assert first.fates == {"stored": 1}
    assert second.fates == {"hit": 1}
    (before,), (after,) = first.items[0]["images"], second.items[0]["images"]
    assert (before.pop("status"), after.pop("status")) == ("downloaded", "cached")
    assert before == after
    assert second.stats["imgcache/bytes_saved"] == len(jpeg(1))
    assert "1 images: 1 hit (0.0 MB saved)" in second.log


def test_a_result_describes_the_image(site, crawl):
    """Scrapy's keys come first, and the keys of the entry follow."""
    site.answers |= {"/a%20b.jpg": jpeg(1, size=(80, 60))}
    done = crawl([{"image_urls": [f"{site.url}/a b.jpg"]}], PIPELINE)
    (image,) = done.items[0]["images"]
    assert list(image)[:4] == ["url", "path", "checksum", "status"]
    assert image["url"] == f"{site.url}/a b.jpg"
    content_hash = image["content_hash"]
    assert image["path"] == f"{content_hash[:2]}/{content_hash[2:]}"
    assert image["checksum"] == content_hash
    assert (image["width"], image["height"]) == (80, 60)
    assert image["content_type"] == "image/jpeg"
    assert image["client_name"] == "items"
    assert image["original_filename"] == "a b.jpg"


def test_one_picture_under_three_urls_is_one_blob(site, crawl, tmp_path):
    """Two spiders in one process fetch each of the three URLs once; later each URL hits."""
    urls = [f"{site.url}/{name}.jpg" for name in "abc"]
    site.answers |= {f"/{name}.jpg": jpeg(1) for name in "abc"}
    spiders = [
        {"items": [{"image_urls": urls[:2]}], "name": "one"},
        {"items": [{"image_urls": urls[2:]}], "name": "two"},
    ]
    done = crawl(settings=PIPELINE, spiders=spiders)
    assert site.images_asked().total() == 3
    fates = [stats.get("imgcache/stored", 0) for stats in done.all_stats]
    assert sum(fates) == 1
    blobs = list((tmp_path / "cache" / "blobs").glob("*/*"))
    assert len(blobs) == 1
    again = crawl([{"image_urls": urls}], PIPELINE)
    assert again.fates == {"hit": 3}
    assert site.images_asked().total() == 3


def test_results_have_the_spelling_of_their_item(site, crawl):
    """A URL with two spellings in two items is fetched once; results keep their own spelling."""
    site.answers |= {"/a%20b.jpg": jpeg(1)}
    spellings = [f"{site.url}/a b.jpg", f"{site.url}/a%20b.jpg"]
    done = crawl([{"image_urls": [url, url]} for url in spellings], PIPELINE)
    assert site.images_asked().total() == 1
    assert sorted(image["url"] for item in done.items for image in item["images"]) == sorted(
        spellings * 2
    )
    assert done.fates == {"stored": 1}


def test_bodies_that_are_not_images_are_never_cached(site, crawl):
    """HTML, text, empty and truncated bodies have different reasons, and are requested again."""
    site.answers |= {
        "/html.jpg": b"<!DOCTYPE html><title>Are you a robot?</title>",
        "/empty.jpg": lambda handler: respond(handler, b""),
        "/cut.jpg": jpeg(1)[:-40],
        "/text.jpg": b"just words",
        "/short.jpg": lambda handler: short(handler, jpeg(2)),
    }
    names = ["html", "empty", "cut", "text", "short"]
    items = [{"image_urls": [f"{site.url}/{name}.jpg" for name in names]}]
    settings = PIPELINE | {"IMGCACHE_FAILURES_FIELD": "failures", "RETRY_ENABLED": False}
    for _ in range(2):
        done = crawl(items, settings)
        assert done.items[0]["images"] == []
        reasons = [failure["reason"] for failure in done.items[0]["failures"]]
        assert reasons == ["html", "empty", "truncated", "not_image", "truncated"]
        assert done.fates == {"rejected": 5}
    assert site.images_asked().total() == 10


def short(handler, body):
    """Announce more bytes than are sent."""
    handler.close_connection = True
    respond(handler, body, headers={"Content-Length": str(len(body) + 500), "Connection": "close"})


def test_failures_have_a_reason_and_a_status(site, crawl):
    """The failures field lists each URL without an image, in the order and spelling of the item."""
    site.answers |= {
        "/gone.jpg": lambda handler: respond(handler, jpeg(1), status=410),
        "/fine.jpg": jpeg(1),
    }
    urls = [f"{site.url}/gone.jpg", f"{site.url}/fine.jpg", "relative.jpg", "http://127.0.0.1:1/x"]
    settings = PIPELINE | {"IMGCACHE_FAILURES_FIELD": "failures", "RETRY_ENABLED": False}
    done = crawl([{"image_urls": urls}], settings)
    assert done.items[0]["failures"] == [
        {"url": urls[0], "reason": "http_410", "http_status": 410},
        {"url": urls[2], "reason": "bad_url", "http_status": None},
        {"url": urls[3], "reason": "connection", "http_status": None},
    ]
    assert done.fates == {"stored": 1, "failed": 3}
    assert "response.urljoin" in done.log


@pytest.mark.parametrize("status", [201, 203])
def test_other_good_statuses_are_accepted(site, crawl, status):
    """A 201 or 203 with an image is accepted like a 200."""
    site.answers["/a.jpg"] = lambda handler: respond(handler, jpeg(1), status=status)
    assert crawl([{"image_urls": [f"{site.url}/a.jpg"]}], PIPELINE).fates == {"stored": 1}


def test_a_bad_url_fails_alone(site, crawl):
    """A URL that cannot be requested fails, and the item keeps its other images."""
    site.answers["/a.jpg"] = jpeg(1)
    bad = ["", "x.jpg", "/x.jpg", "javascript:void(0)", "http://", None, 7, "http://[::1/x.jpg"]
    settings = PIPELINE | {"IMGCACHE_FAILURES_FIELD": "failures"}
    done = crawl([{"image_urls": [*bad, f"{site.url}/a.jpg"]}], settings)
    assert len(done.items[0]["images"]) == 1
    failed = [failure["url"] for failure in done.items[0]["failures"]]
    assert failed == [url if isinstance(url, str) else repr(url) for url in bad]
    assert done.fates == {"stored": 1, "failed": len(bad)}


def test_redirects_are_followed_and_the_requested_url_hits(site, crawl):
    """The next crawl requests neither the redirect nor its target."""
    site.answers |= {"/go": redirect("/a.jpg"), "/go2": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    first = crawl([{"image_urls": [f"{site.url}/go"]}], PIPELINE)
    assert first.fates == {"stored": 1}
    assert first.items[0]["images"][0]["url"] == f"{site.url}/go"
    assert crawl([{"image_urls": [f"{site.url}/go"]}], PIPELINE).fates == {"hit": 1}
    assert site.images_asked() == {"/go": 1, "/a.jpg": 1}


def test_a_redirect_to_a_known_image_is_recorded(site, crawl):
    """With the middleware, the target is not fetched, and later the redirecting URL hits."""
    site.answers |= {"/go": redirect("/a.jpg"), "/a.jpg": jpeg(1)}
    settings = {"ADDONS": {"imgcache_scrapy.Addon": 500}}
    crawl([{"image_urls": [f"{site.url}/a.jpg"]}], settings)
    second = crawl([{"image_urls": [f"{site.url}/go"]}], settings)
    assert second.fates == {"hit": 1}
    assert second.items[0]["images"][0]["status"] == "cached"
    assert crawl([{"image_urls": [f"{site.url}/go"]}], settings).fates == {"hit": 1}
    assert site.images_asked() == {"/go": 1, "/a.jpg": 1}


def test_data_urls_need_no_request(site, crawl):
    """They are decoded and stored, and their results have the spelling of the item."""
    import base64

    url = "data:image/jpeg;base64," + base64.b64encode(jpeg(1)).decode()
    settings = PIPELINE | {"IMGCACHE_FAILURES_FIELD": "failures"}
    items = [{"image_urls": [url, "data:image/png;base64,???", "data:text/plain,hello"]}]
    done = crawl(items, settings, allowed_domains=["127.0.0.1"])
    (image,) = done.items[0]["images"]
    assert image["url"] == url
    reasons = [failure["reason"] for failure in done.items[0]["failures"]]
    assert reasons in (["bad_url", "not_image"], ["empty", "not_image"])
    assert crawl(items, settings).fates == {"hit": 1} | {
        fate: n for fate, n in done.fates.items() if fate != "stored"
    }
    assert site.images_asked().total() == 0


def test_data_urls_are_stored_as_the_hash_of_their_picture(site, crawl, tmp_path):
    """The catalog contains `data:,blake2b-<hash>`, and not the data."""
    import base64

    from imgcache_scrapy import ImgCacheClient

    url = "data:image/jpeg;base64," + base64.b64encode(jpeg(1)).decode()
    (image,) = crawl([{"image_urls": [url]}], PIPELINE).items[0]["images"]
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        (entry,) = client.search("")
    assert entry["url"] == f"data:,blake2b-{image['content_hash']}"


def test_images_on_other_hosts_are_fetched(site, crawl):
    """`allowed_domains` applies only to pages."""
    site.answers["/a.jpg"] = jpeg(1)
    other = site.url.replace("127.0.0.1", "localhost")
    done = crawl([{"image_urls": [f"{other}/a.jpg"]}], PIPELINE, allowed_domains=["127.0.0.1"])
    assert done.fates == {"stored": 1}


def test_small_images_are_stored_but_rejected(site, crawl):
    """The entry contains the size, so the second crawl rejects a small image without a fetch."""
    site.answers |= {"/small.jpg": jpeg(1, size=(40, 90)), "/fine.jpg": jpeg(2, size=(50, 50))}
    settings = PIPELINE | {"IMGCACHE_MIN_WIDTH": 50, "IMGCACHE_MIN_HEIGHT": 50}
    items = [{"image_urls": [f"{site.url}/small.jpg", f"{site.url}/fine.jpg"]}]
    first, second = crawl(items, settings), crawl(items, settings)
    assert first.fates == {"stored": 1, "rejected": 1}
    assert second.fates == {"hit": 1, "rejected": 1}
    assert second.stats["imgcache/rejected/too_small"] == 1
    assert site.images_asked().total() == 2


def test_fields_can_have_other_names(site, crawl):
    """Our settings of the field names apply, and the settings of Scrapy's pipelines do not."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = PIPELINE | {
        "IMGCACHE_URLS_FIELD": "pictures",
        "IMGCACHE_RESULT_FIELD": "found",
        "FILES_URLS_FIELD": "no",
        "IMAGES_RESULT_FIELD": "no",
    }
    done = crawl([{"pictures": [f"{site.url}/a.jpg"], "other": 1}, {"other": 2}], settings)
    with_images, without = sorted(done.items, key=lambda item: item["other"])
    assert len(with_images["found"]) == 1
    assert without == {"other": 2}


def test_an_item_without_the_result_field_is_reported(site, crawl):
    """The item is delivered without results, and the log says what to do, once."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = PIPELINE | {"IMGCACHE_RESULT_FIELD": "undeclared"}
    items = [{"name": str(n), "image_urls": [f"{site.url}/a.jpg"]} for n in range(3)]
    done = crawl(items, settings, kind="item")
    assert len(done.items) == 3
    assert done.log.count("has no field 'undeclared' for its results") == 1


def test_a_bucket_is_a_name_space(site, crawl):
    """An image of one bucket is a miss in another bucket, but its blob is shared."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    assert crawl(items, PIPELINE | {"IMGCACHE_BUCKET": "one"}).fates == {"stored": 1}
    assert crawl(items, PIPELINE | {"IMGCACHE_BUCKET": "two"}).fates == {"duplicate": 1}
    assert crawl(items, PIPELINE).fates == {"duplicate": 1}
    assert crawl(items, PIPELINE | {"IMGCACHE_BUCKET": "one"}).fates == {"hit": 1}


def test_get_media_requests_can_change_the_requests(site, crawl):
    """A subclass adds a referer and cookies to the requests of get_media_requests."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = {"ITEM_PIPELINES": {"custom.RefererPipeline": 1}}
    done = crawl([{"image_urls": [f"{site.url}/a.jpg", "x.jpg"], "page": "http://p/"}], settings)
    assert done.fates == {"stored": 1, "failed": 1}
    (headers,) = site.headers["/a.jpg"]
    assert headers["Referer"] == "http://p/"
    assert headers["Cookie"] == "seen=1"


@pytest.mark.parametrize("meta", [{"imgcache": False}, {"dont_cache": True}])
def test_a_request_can_bypass_the_cache(site, crawl, meta):
    """The image is fetched again, although the cache contains it."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = {"ITEM_PIPELINES": {"custom.MetaPipeline": 1}}
    items = [{"image_urls": [f"{site.url}/a.jpg"], "meta": meta}]
    crawl(items, settings)
    assert crawl(items, settings).fates == {"duplicate": 1}
    assert site.images_asked()["/a.jpg"] == 2


def test_results_can_be_written_as_json(site, crawl):
    """A result contains only JSON types."""
    site.answers["/a.svg"] = b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"
    (image,) = crawl([{"image_urls": [f"{site.url}/a.svg"]}], PIPELINE).items[0]["images"]
    assert (image["width"], image["perceptual_hash"]) == (None, None)
    assert json.loads(json.dumps(image)) == image


def test_errbacks_are_called_as_in_scrapy(site, crawl):
    """An errback that raises fails only its own image; an errback that returns gives a result."""
    site.answers["/a.jpg"] = jpeg(1)
    urls = [f"{site.url}/{name}.jpg" for name in ("a", "missing", "spare")]
    settings = {"ITEM_PIPELINES": {"custom.ErrbackPipeline": 1}}
    (item,) = crawl([{"image_urls": urls}], settings).items
    assert [image["status"] for image in item["images"]] == ["downloaded", "spare"]


def test_a_bug_in_a_hook_is_logged_with_its_traceback(site, crawl):
    """The log has one error with its type and place; a missing picture is only one warning."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = {"IMGCACHE_FAILURES_FIELD": "failures"}
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    done = crawl(items, settings | {"ITEM_PIPELINES": {"custom.BuggyPipeline": 1}})
    assert done.items[0]["failures"][0]["reason"] == "hook"
    assert (done.fates, done.stats["imgcache/failed/hook"]) == ({"failed": 1}, 1)
    assert done.stats["log_count/ERROR"] == 1
    assert "NameError: name 'nmae' is not defined" in done.log
    assert "in file_path" in done.log
    missing = crawl([{"image_urls": [f"{site.url}/missing.jpg"]}], PIPELINE)
    assert (missing.stats["log_count/WARNING"], "Traceback" in missing.log) == (1, False)
    assert "log_count/ERROR" not in missing.stats


def test_file_path_gets_the_item(site, crawl):
    """The hook gets the item as an argument, as in Scrapy."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = {"ITEM_PIPELINES": {"custom.ItemNamedPipeline": 1}}
    (item,) = crawl([{"name": "x", "image_urls": [f"{site.url}/a.jpg"]}], settings).items
    assert item["images"][0]["path"].startswith("x/")


def test_only_get_requests_are_allowed(site, crawl):
    """ImgCachePipeline fails a POST request with a reason, before it fetches anything."""
    settings = {"ITEM_PIPELINES": {"custom.PostPipeline": 1}, "IMGCACHE_FAILURES_FIELD": "failures"}
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], settings)
    assert done.items[0]["failures"][0]["reason"] == "not_get"
    assert site.images_asked().total() == 0

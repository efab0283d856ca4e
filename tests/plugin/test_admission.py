"""Crawls of pictures with unusual framing, endings, sizes or cache entries."""

import gzip
import io
import zlib
from base64 import b64encode

import pytest
from scrapy import Request
from scrapy.exceptions import DownloadCancelledError, IgnoreRequest
from scrapy.utils.test import get_crawler

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.plugin.download_limit import exceeds_limit, limit_download
from tests.support.hostile_structures import HOSTILE
from tests.support.mutations import cuts, decodes, mutations, pictures
from tests.support.pictures import picture
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import respond

# The settings of a crawl with each component.
COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}
every_component = pytest.mark.parametrize("component", COMPONENTS.values(), ids=COMPONENTS)
BODY = picture(1, 64)


def old_http(body):
    """Answer with HTTP/1.0 and no length: the body ends when the connection closes."""

    def answer(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n" + body)
        handler.close_connection = True

    return answer


def encoded_twice(handler):
    body = gzip.compress(gzip.compress(BODY))
    respond(handler, body, headers={"Content-Encoding": "gzip, gzip"})


def with_file_name(handler):
    file = io.BytesIO()
    with gzip.GzipFile("a-long-file-name.png" * 20, "wb", fileobj=file) as packed:
        packed.write(BODY)
    respond(handler, file.getvalue(), headers={"Content-Encoding": "gzip"})


def flushed(handler):
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(BODY[n : n + 1]) + packer.flush(zlib.Z_SYNC_FLUSH) for n in range(500)]
    parts += [packer.compress(BODY[500:]), packer.flush()]
    respond(handler, b"".join(parts), headers={"Content-Encoding": "gzip"})


def chunked(handler, body=BODY):
    """Answer without a length; an endless answer ends when the client disconnects."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    parts = iter([body]) if isinstance(body, bytes) else body
    try:
        for part in parts:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")
    except OSError:
        handler.close_connection = True


def endless():
    yield BODY
    while True:
        yield bytes(10_000)


def shorter_than_announced(body):
    def answer(handler):
        handler.close_connection = True
        size = {"Content-Length": str(len(body) + 500), "Connection": "close"}
        respond(handler, body, headers=size)

    return answer


def run(crawl, site, component, **settings):
    """Crawl all images of the site, in one item."""
    items = [{"image_urls": [site.url + path for path in site.answers]}]
    settings = {"IMGCACHE_FAILURES_FIELD": "failures", "RETRY_ENABLED": False, **settings}
    return crawl(items, component | settings)


@every_component
def test_unusual_framing_does_not_matter(crawl, site, component):
    """Pictures in HTTP/1.0, with several encodings or without a length are whole, and stored."""
    site.answers = {
        "/old.png": old_http(BODY),
        "/twice.png": encoded_twice,
        "/named.png": with_file_name,
        "/flushed.png": flushed,
        "/chunked.png": chunked,
        "/cut.png": old_http(BODY[:-80]),
    }
    done = run(crawl, site, component)
    assert done.fates == {"stored": 1, "duplicate": 4, "rejected": 1}
    assert done.stats["imgcache/rejected/truncated"] == 1
    assert run(crawl, site, component, WITHOUT_FILES=True).fates["hit"] == 5


@every_component
def test_allowed_data_loss_is_not_a_truncation(crawl, site, component):
    """With DOWNLOAD_FAIL_ON_DATALOSS False, only a picture whose end is missing is rejected."""
    site.answers = {
        "/whole.png": shorter_than_announced(BODY),
        "/cut.png": shorter_than_announced(BODY[:-80]),
    }
    done = run(crawl, site, component, DOWNLOAD_FAIL_ON_DATALOSS=False)
    assert done.fates == {"stored": 1, "rejected": 1}
    assert done.stats["imgcache/rejected/truncated"] == 1


@every_component
@pytest.mark.parametrize(
    ("middleware", "body"),
    [("Base64Middleware", b64encode(BODY)), ("ShrinkingMiddleware", BODY)],
)
def test_a_downloader_middleware_may_change_a_body(crawl, site, component, middleware, body):
    """Content-Length does not have to match a body that a middleware has changed."""
    site.answers["/a.png"] = body
    own = {f"tests.support.custom.{middleware}": 600}
    middlewares = component.get("DOWNLOADER_MIDDLEWARES", {}) | own
    assert run(crawl, site, component, DOWNLOADER_MIDDLEWARES=middlewares).fates == {"stored": 1}


def test_pictures_with_unusual_endings(crawl, site):
    """A crawl stores exactly those pictures that Pillow can decode."""
    kinds = {"as it is", "2 bytes less", "text behind", "zero for the trailer", "no IEND"}
    bodies = [
        changed
        for name, data in pictures().items()
        for kind, changed in mutations(name, data)
        if kind in kinds
    ]
    bodies += [part for data in pictures().values() for part in cuts(data, 3)][::4]
    bodies = list(dict.fromkeys(bodies))
    site.answers = {f"/{number}.png": body for number, body in enumerate(bodies) if body}
    done = run(crawl, site, PIPELINE)
    whole = {path for path, body in site.answers.items() if decodes(body)}
    assert 0 < len(whole) < len(site.answers)
    assert {image["url"] for image in done.items[0]["images"]} == {site.url + p for p in whole}
    assert done.fates == {"stored": len(whole), "rejected": len(site.answers) - len(whole)}


def test_a_crawl_over_a_service_does_not_import_pillow(crawl, site, service):
    """Even for a doubtful picture, only the child process imports Pillow."""
    site.answers = {"/a.gif": pictures()["GIF"][:-1], "/b.gif": pictures()["GIF"][:-200]}
    done = run(
        crawl,
        site,
        PIPELINE,
        IMGCACHE_URL=service.url,
        EXTENSIONS={"tests.support.custom.PillowWatch": 1},
    )
    assert done.fates == {"stored": 1, "rejected": 1}
    assert "Pillow was loaded: False" in done.log


@every_component
def test_a_cached_file_that_is_not_a_picture_is_a_miss(crawl, site, component, tmp_path):
    """The entry shows it: the picture is fetched and stored, and later crawls hit."""
    site.answers["/a.png"] = BODY
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(f"{site.url}/a.png", b"<html>Access denied", "a script")
    assert run(crawl, site, component).fates == {"stored": 1}
    assert run(crawl, site, component, WITHOUT_FILES=True).fates == {"hit": 1}
    assert site.asked["/a.png"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        BODY,
        chunked,
        lambda handler: chunked(handler, endless()),
        lambda handler: respond(
            handler, gzip.compress(BODY + bytes(10**6)), headers={"Content-Encoding": "gzip"}
        ),
    ],
    ids=["with length", "without length", "endless", "compressed"],
)
def test_a_download_stops_at_the_limit(crawl, site, answer):
    """If only the cache receives an image, no bytes beyond the cache's limit are downloaded."""
    site.answers = {"/large.png": answer, "/small.png": picture(2, 8)}
    done = run(crawl, site, PIPELINE, IMGCACHE_MAX_IMAGE_BYTES=4_000)
    assert done.fates == {"stored": 1, "failed": 1}
    assert done.stats["imgcache/failed/too_large"] == 1
    assert [failure["reason"] for failure in done.items[0]["failures"]] == ["too_large"]
    assert "the image is larger than the limit of 4000 bytes" in done.log


@pytest.mark.parametrize("component", [FILES, STOCK], ids=["drop-in", "middleware"])
def test_a_large_file_is_still_delivered(crawl, site, component):
    """The drop-in and the middleware deliver a file above the limit, and do not cache it."""
    site.answers = {"/large.png": BODY}
    for _ in range(2):
        done = run(crawl, site, component, IMGCACHE_MAX_IMAGE_BYTES=4_000, WITHOUT_FILES=True)
        assert len(done.items[0]["images"]) == 1
        assert done.fates == {"failed": 1}
        assert done.stats["imgcache/failed/too_large"] == 1
    assert site.asked["/large.png"] == 2


@pytest.mark.parametrize("limit", [0, 2**30, 104857601, "much", -1])
def test_a_wrong_limit_stops_the_crawl(crawl, site, limit):
    """The limit must be a number of bytes that the cache can keep."""
    done = run(crawl, site, PIPELINE, IMGCACHE_MAX_IMAGE_BYTES=limit)
    assert "IMGCACHE_MAX_IMAGE_BYTES must be a number of bytes, 1 to 104857600" in done.log


@pytest.mark.parametrize(
    ("setting", "of_request", "expected"),
    [
        (1_000, None, 1_000),
        (0, None, 5_000),
        (9_000, None, 5_000),
        (9_000, 100, 100),
        (100, 9_000, 5_000),
        (100, 0, 5_000),
    ],
)
def test_a_smaller_limit_of_the_user_holds(setting, of_request, expected):
    """DOWNLOAD_MAXSIZE and the request's own limit hold if they are smaller; 0 means no limit."""
    crawler = get_crawler(settings_dict={"DOWNLOAD_MAXSIZE": setting})
    request = Request(
        "http://a/", meta={} if of_request is None else {"download_maxsize": of_request}
    )
    assert limit_download(request, crawler, 5_000) == expected
    assert request.meta["download_maxsize"] == expected


def test_other_cancellations_do_not_mean_too_large():
    """A download that something else has cancelled or filtered does not count as too large."""
    assert exceeds_limit(DownloadCancelledError("Received 9 bytes … larger than download max size"))
    assert exceeds_limit(DownloadCancelledError())
    assert not exceeds_limit(DownloadCancelledError("by an extension"))
    assert not exceeds_limit(IgnoreRequest("by a filter"))
    assert not exceeds_limit(ValueError())


def test_large_hostile_pictures_do_not_harm_good_ones(crawl, site):
    """Good pictures are stored, even beside pictures of 24 MB that take long to read."""
    hostile = ["JPEG of fill", "GIF of small blocks", "AVIF of boxes", "TIFF with huge tables"]
    site.answers = {f"/{number}.png": HOSTILE[name]() for number, name in enumerate(hostile)}
    site.answers |= {f"/good{number}.png": picture(number) for number in range(20)}
    done = run(crawl, site, PIPELINE)
    good = {image["url"] for image in done.items[0]["images"] if "good" in image["url"]}
    assert len(good) == 20
    assert sum(done.fates.values()) == len(site.answers)
    assert done.stats.get("log_count/ERROR", 0) == 0

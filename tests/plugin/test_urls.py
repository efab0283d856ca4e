"""Unusual URLs in crawls: URLs with fragments, and URLs in the log."""

import hashlib

import pytest

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.plugin.outcome import ImageFailed
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import respond

COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_fragment_does_not_make_another_image(crawl, site, component):
    """The image is fetched and counted once; results have spellings from the item."""
    site.answers["/a.jpg"] = jpeg(1)
    urls = [f"{site.url}/a.jpg{end}" for end in ("#1", "", "#2")]
    settings = COMPONENTS[component] | {"WITHOUT_FILES": True}
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl([{"image_urls": urls}], settings)
        assert (done.fates, done.stats["imgcache/lookup"]) == (fates, 1)
        if component != "middleware":
            # Scrapy's pipelines give the same result to equal requests.
            expected = urls if component == "pipeline" else urls[:1] * 3
            assert [image["url"] for image in done.items[0]["images"]] == expected
    assert site.images_asked() == {"/a.jpg": 1}


def test_responses_have_no_fragment(crawl, site):
    """As with those of the site, the URL of a hit and of a remembered failure has none."""
    site.answers["/a.jpg"] = jpeg(1)
    paths = ["/a.jpg", "/404.jpg"]
    meta = {"handle_httpstatus_list": [404]}
    requests = [[f"{site.url}{path}#top", meta] for path in paths]
    settings = {"DOWNLOADER_MIDDLEWARES": STOCK["DOWNLOADER_MIDDLEWARES"]}
    for is_cached in (False, True):
        items = crawl(settings=settings, requests=requests).items
        assert {item["fetched"]: "imgcache" in item["flags"] for item in items} == {
            f"{site.url}{path}": is_cached for path in paths
        }


NUMBERED = {"pipeline": "", "drop-in": "Files", "middleware": "Stock"}


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("numbered", ["body", "headers"])
def test_what_scrapy_tells_apart_is_not_one_image(crawl, site, component, numbered):
    """Requests with one URL get their own images if Scrapy's fingerprints of them differ."""

    def picture_of_number(handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        respond(handler, jpeg(1) + body + handler.headers.get("X-Number", "").encode())

    site.answers["/a.jpg"] = picture_of_number
    urls = [f"{site.url}/a.jpg"] * 2
    crawl([{"image_urls": urls}], COMPONENTS[component])
    settings = COMPONENTS[component] | {
        "ITEM_PIPELINES": {f"custom.Numbers{NUMBERED[component]}Pipeline": 1},
        "REQUEST_FINGERPRINTER_CLASS": "custom.NumberFingerprinter",
        "WITHOUT_FILES": True,
    }
    digest = content_hash_of if component == "pipeline" else _md5
    expected = [digest(jpeg(1) + number) for number in (b"0", b"1")]
    for _ in range(2):
        done = crawl([{"image_urls": urls, "numbered": numbered}], settings)
        assert [image["checksum"] for image in done.items[0]["images"]] == expected
        said = done.log.count("REQUEST_FINGERPRINTER_CLASS tells such requests apart")
        assert said == (numbered == "headers")
    assert site.images_asked() == {"/a.jpg": 5}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_file_of_this_machine_is_read_again(crawl, tmp_path, component):
    """A URL of a file gives what the file contains now, not what the cache had for it."""
    file = tmp_path / "a.jpg"
    settings = COMPONENTS[component] | {"WITHOUT_FILES": True}
    for number in (1, 2):
        file.write_bytes(jpeg(number))
        (item,) = crawl([{"image_urls": [file.as_uri()]}], settings).items
        digest = content_hash_of if component == "pipeline" else _md5
        assert [image["checksum"] for image in item["images"]] == [digest(jpeg(number))]


def _md5(body):
    return hashlib.md5(body).hexdigest()


@pytest.mark.parametrize("component", ["pipeline", "drop-in"])
def test_urls_in_the_log_are_safe(crawl, component):
    """A URL cannot add a line to the log, show its password, or stop the logging."""
    urls = [
        "http://me:secret@127.0.0.1:9/a.jpg",
        "/relative\nFORGED LINE",
        "http://127.0.0.1:9/\x1b[31m.jpg",
        "http://me:secret@[bad/a.jpg",
        "http://127.0.0.1:9/\ud800.jpg",
    ]
    done = crawl([{"image_urls": urls}], COMPONENTS[component] | {"RETRY_ENABLED": False})
    ours = "\n".join(done.warnings)
    # For the drop-in, Scrapy itself writes these lines.
    assert (done.fates, len(done.warnings)) == ({"failed": 5}, 5 if component == "pipeline" else 0)
    assert "secret" not in ours
    assert "\x1b" not in ours
    assert "\nFORGED" not in done.log
    assert "Logging error" not in done.log


def test_the_message_of_an_error_shows_no_password():
    """Scrapy's errors may name a host with its user and password."""
    error = ImageFailed.of(ValueError("invalid hostname: me:secret@h.example"))
    assert str(error) == "ValueError: invalid hostname: h.example"

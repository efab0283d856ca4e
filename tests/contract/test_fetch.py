"""What `fetch` does on every way to a cache: it finds, fetches, asks again, and says why not."""

from collections.abc import Iterator

import pytest

from imgcache_scrapy import BlockedError, FetchError, InvalidRequestError
from imgcache_scrapy.core.entry import content_hash_of
from tests.support.originals import TROUBLES, Original, cut_off, status
from tests.support.site import Site, redirect, respond
from tests.support.sites import compressed

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 1_000


@pytest.fixture
def web() -> Iterator[Site]:
    """Return a site without answers."""
    site = Site()
    yield site
    site.close()


def failure(client, url, **options):
    """Return the reason and the status of a fetch that fails."""
    with pytest.raises(FetchError) as failed:
        client.fetch(url, "me", **options)
    assert "\n" not in str(failed.value)
    return failed.value.reason, failed.value.http_status


def test_an_image_is_fetched_once(client, web, picture, bucket):
    """Each row is a URL, and its status: found under any spelling, in its bucket, as its bytes."""
    data = picture()
    for path in ("/a.png", "/b.png", "/signed.png"):
        web.answers[path] = data
    web.answers["/moved"] = redirect("/a.png")
    data_url = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"
    rows = [
        ("/a.png?x=1&y=2", {}, "downloaded"),
        ("/a.png?y=2&x=1#top", {}, "cached"),
        ("/b.png", {}, "duplicate"),
        ("/b.png", {}, "cached"),
        ("/moved", {}, "duplicate"),
        ("/moved", {}, "cached"),
        ("/signed.png?t=1", {"key": "signed"}, "duplicate"),
        ("/signed.png?t=2", {"key": "signed"}, "cached"),
        ("/b.png", {"bucket": f"{bucket}-2"}, "duplicate"),
        ("/b.png", {"bucket": f"{bucket}-2"}, "cached"),
    ]
    for path, options, status_ in rows:
        fetched = client.fetch(web.url + path, "me", **{"bucket": bucket, **options})
        assert (fetched.status, fetched.data) == (status_, data), path
        assert fetched.entry["content_hash"] == content_hash_of(data)
        assert fetched.entry["bucket"] == options.get("bucket", bucket)
    assert sum(web.asked.values()) == 6
    assert client.fetch(f"{web.url}/moved", "me", bucket=bucket).entry["final_url"] == (
        f"{web.url}/a.png"
    )
    own = {"User-Agent": "mine", "Referer": "http://r.example/"}
    client.fetch(f"{web.url}/a.png?new", "me", bucket=bucket, headers=own)
    assert own.items() <= web.headers["/a.png?new"][0].items()
    assert client.fetch(data_url, "me", bucket=bucket).data == client.fetch(data_url, "me").data


def test_what_is_no_image_is_told_and_remembered(client, web, picture):
    """Each row is an answer, the reason of the error, and the reason of the next call."""
    rows = [
        (status(404), "http_404", 404, "known_http_404"),
        (status(410), "http_410", 410, "known_http_410"),
        (status(403), "http_403", 403, "http_403"),
        (status(500), "http_500", 500, "http_500"),
        (status(429, Retry_After="60"), "http_429", 429, "known_http_429"),
        (status(302), "http_302", 302, "http_302"),
        (status(206), "http_206", 206, "http_206"),
        (status(304), "http_304", 304, "http_304"),
        (b"<!doctype html>", "html", 200, "html"),
        (b"some text", "not_image", 200, "not_image"),
        (lambda handler: respond(handler, b""), "empty", 200, "empty"),
        (picture()[:300], "truncated", 200, "truncated"),
        (cut_off, "truncated", 200, "truncated"),
        (compressed(SVG, "cut gzip"), "truncated", 200, "truncated"),
        (compressed(SVG, "no gzip"), "download", 200, "download"),
        (compressed(SVG, "br"), "download", 200, "download"),
        (redirect("/loop"), "filtered", None, "filtered"),
        (redirect("ftp://h.example/a.png"), "http_302", 302, "http_302"),
        (TROUBLES["closed"], "download", None, "download"),
    ]
    web.answers["/loop"] = redirect("/loop")
    for number, (answer, reason, code, next_reason) in enumerate(rows):
        url = f"{web.url}/{number}"
        web.answers[f"/{number}"] = answer
        assert failure(client, url) == (reason, code), number
        assert failure(client, url) == (next_reason, code), number
        is_known = next_reason.startswith("known")
        assert web.asked[f"/{number}"] == (1 if is_known else 2)
    # A remembered failure ends at once where the caller wants the site to be asked.
    web.answers["/0"] = picture()
    assert client.fetch(f"{web.url}/0", "me", max_age=0).status == "downloaded"
    assert client.fetch(f"{web.url}/0", "me").status == "cached"
    assert failure(client, "http://127.0.0.1:9/a") == ("connection", None)
    assert failure(client, "http://nosuchhost.invalid/a") == ("dns", None)
    for url in ("/a.png", "a.png", "", "http:///a", "ftp://h.example/a", "http://[x/", 5, None):
        with pytest.raises(InvalidRequestError):
            client.fetch(url, "me")
    for options in ({"headers": {"A B": "c"}}, {"headers": {"A": "b\r\nC: d"}}, {"max_age": -1}):
        with pytest.raises(InvalidRequestError):
            client.fetch(f"{web.url}/0", "me", **options)
    for encoding in ("gzip", "deflate", "raw deflate"):
        web.answers[f"/{encoding[:3]}"] = compressed(SVG, encoding)
        assert client.fetch(f"{web.url}/{encoding[:3]}", "me", max_age=0).data == SVG


def test_a_stale_image_is_asked_for_again(client, web, picture):
    """A 304 moves no bytes; new bytes are a change; trouble delivers the stale image."""
    first, second = picture(), picture()
    for has_validators in (True, False):
        path = f"/{has_validators}"
        web.answers[path] = original = Original(first, has_validators=has_validators)
        before = client.fetch(web.url + path, "me").entry
        assert client.fetch(web.url + path, "me", max_age=3600).status == "cached"
        assert original.requests == 1
        same = client.fetch(web.url + path, "me", max_age=0)
        assert (same.status, same.data) == ("cached", first)
        assert same.entry["lookup_time"] > before["lookup_time"]
        assert original.sent_bytes == len(first) * (1 if has_validators else 2)
        for trouble in TROUBLES.values():
            original.trouble = trouble
            stale = client.fetch(web.url + path, "me", max_age=0)
            assert (stale.status, stale.data, stale.entry["stale"]) == ("cached", first, True)
        original.trouble = status(404)
        assert failure(client, web.url + path, max_age=0) == ("http_404", 404)
        assert client.fetch(web.url + path, "me").data == first
        original.trouble, original.body = None, second
        changed = client.fetch(web.url + path, "me", max_age=0)
        assert changed.status in {"downloaded", "duplicate"}
        assert changed.entry["changed"] is True
        assert changed.entry["previous_content_hash"] == content_hash_of(first)
        assert "stale" not in changed.entry
        assert [each["content_hash"] for each in client.history(web.url + path)] == [
            content_hash_of(second),
            content_hash_of(first),
        ]
        # A validator of the caller is sent as it is; its 304 is no image, so the old one comes.
        mine = {"If-None-Match": original.etag}
        if has_validators:
            assert client.fetch(web.url + path, "me", max_age=0, headers=mine).entry["stale"]


def test_a_304_for_lost_bytes_is_asked_again(client, client_setup, web, picture):
    """The site is asked without validators then, and the cache is whole again."""
    data, url = picture(), f"{web.url}/a.png"
    web.answers["/a.png"] = Original(data)
    content_hash = client.fetch(url, "me").entry["content_hash"]
    client_setup.blobs.delete(content_hash)
    assert client.fetch(url, "me", max_age=0).data == data
    assert client.fetch(url, "me").status == "cached"
    assert client.get_bytes(content_hash) == data


def test_a_blocked_image_is_not_fetched(client, web, picture):
    """It is neither stored nor delivered; the real picture is, once the site has it."""
    blocked, real, url = picture(), picture(), f"{web.url}/a.png"
    web.answers["/a.png"] = blocked
    client.block(file_bytes=blocked)
    for _ in range(2):
        with pytest.raises(BlockedError):
            client.fetch(url, "me")
    assert web.asked["/a.png"] == 2
    web.answers["/a.png"] = real
    content_hash = client.fetch(url, "me").entry["content_hash"]
    web.answers["/a.png"] = blocked
    assert client.fetch(url, "me", max_age=0).entry["stale"] is True
    client.block(content_hash)
    with pytest.raises(BlockedError):
        client.fetch(url, "me")
    assert web.asked["/a.png"] == 4


@pytest.mark.parametrize("kind", ["host", "url"])
def test_a_blocked_host_or_url_is_not_asked(client, web, picture, kind):
    """The cache is asked first, so that the site gets no request until it is unblocked."""
    url = f"{web.url}/a.png".replace("127.0.0.1", "localhost")
    web.answers["/a.png"] = picture()
    client.fetch(url, "me")
    given = {"url": url} if kind == "url" else {"host": "localhost"}
    client.delete_captures(block=True, **given)
    for max_age in (None, 0):
        with pytest.raises(BlockedError, match="unblock"):
            client.fetch(url, "me", max_age=max_age)
    web.answers["/moved"] = redirect(url)
    with pytest.raises(BlockedError, match="unblock"):
        client.fetch(f"{web.url}/moved", "me")
    assert web.asked["/a.png"] == 1
    client.unblock(**given)
    assert client.fetch(url, "me").status == "downloaded"


def test_formats_under_one_url(client, web, picture):
    """A caller that names an `Accept` gets its own format; one that names none, the newest."""
    formats = {"image/webp": picture(), "image/png": picture()}

    def answer(handler):
        body = formats[handler.headers["Accept"]]
        respond(handler, body, headers={"Vary": "Accept"})

    web.answers["/a"] = answer
    for status_ in ("downloaded", "cached"):
        for accept, body in formats.items():
            fetched = client.fetch(f"{web.url}/a", "me", headers={"accept": accept})
            assert (fetched.status, fetched.data) == (status_, body)
    assert client.fetch(f"{web.url}/a", "me").data == formats["image/png"]

"""The REST API over real HTTP: statuses, headers and problem documents of every route."""

import asyncio
import json
import sqlite3
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgcache_scrapy.core.entry import content_hash_of
from tests.support.service import http_client
from tests.support.waiting import PATIENCE

UNKNOWN_HASH = "0" * 64
ROUTES = {
    "/health": {"get", "head"},
    "/stats": {"get"},
    "/buckets": {"get"},
    "/metrics": {"get"},
    "/images": {"get", "post"},
    "/images/count": {"get"},
    "/captures": {"delete"},
    "/audit": {"get"},
    "/images/lookup": {"get", "post"},
    "/images/search": {"get"},
    "/images/similar": {"get"},
    "/images/claim": {"post"},
    "/images/claims": {"post"},
    "/images/history": {"get"},
    "/images/captures/{content_hash}": {"get"},
    "/images/uses/{content_hash}": {"get"},
    "/uses": {"get", "post"},
    "/images/meta/{content_hash}": {"get"},
    "/images/{content_hash}": {"get", "head", "delete"},
    "/serve/{content_hash}": {"get", "head"},
    "/thumbnails/{content_hash}": {"get", "head"},
    "/blocked": {"get", "post"},
    "/blocked/suggestions": {"get"},
    "/blocked/sources": {"get", "delete"},
    "/blocked/{content_hash}": {"delete"},
    "/failures": {"get", "post"},
}


def store(http, url, data, **fields):
    return http.post(
        "/images", data={"url": url, "client_name": "me", **fields}, files={"file": ("f", data)}
    )


def assert_problem(answer, status, code, *words):
    """Assert that an answer is a problem document with a sentence and without internals."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {"code", "status", "detail"}
    assert (problem["code"], problem["status"]) == (code, status)
    assert len(problem["detail"].split()) >= 2
    for word in words:
        assert word in problem["detail"]
    for internals in ("Traceback", "File ", "sqlalchemy", "SELECT", "pydantic"):
        assert internals not in problem["detail"]


# Statuses


def test_only_the_first_store_is_a_201(http, site):
    """A store answers 201 for a new image, and 200 for a known one under any URL."""
    statuses = [store(http, site + path, site.encode()).status_code for path in ("/a", "/a", "/b")]
    assert statuses == [201, 200, 200]


def test_statuses_of_a_known_image(http, site):
    """Every route answers 200 for a known image, and a delete 204 without a body."""
    content_hash = store(http, f"{site}/a", site.encode()).json()["content_hash"]
    for path in ("images", "images/meta", "serve"):
        assert http.get(f"/{path}/{content_hash}").status_code == 200
    assert http.get("/images/lookup", params={"url": f"{site}/a"}).status_code == 200
    deleted = http.delete(f"/images/{content_hash}")
    assert (deleted.status_code, deleted.content) == (204, b"")


@pytest.mark.parametrize(
    ("query", "word"), [({"host": "h.example"}, "expect=N"), ({"dry_run": "true"}, "one filter")]
)
def test_a_takedown_says_how_many_captures_it_means(http, query, word):
    """A call without this number, or without any filter, deletes nothing."""
    assert_problem(http.delete("/captures", params=query), 409, "count_changed", word)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/images/{UNKNOWN_HASH}"),
        ("GET", f"/images/meta/{UNKNOWN_HASH}"),
        ("GET", f"/serve/{UNKNOWN_HASH}"),
        ("DELETE", f"/images/{UNKNOWN_HASH}"),
        ("GET", "/images/lookup?url=http://nowhere.example/"),
    ],
)
def test_unknown_images_are_404(http, method, path):
    """An unknown image or URL is a problem with the code `not_found`."""
    assert_problem(http.request(method, path), 404, "not_found")


@pytest.mark.parametrize("path", ["/no/such/route", "/serve"])
def test_an_unknown_route_is_a_404_that_names_the_documentation(http, path):
    """The problem says what the service does not have, and where its API is listed."""
    assert_problem(http.get(path), 404, "not_found", f"no '{path}'", "/docs")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/images"),
        ("POST", "/health"),
        ("PATCH", f"/images/{UNKNOWN_HASH}"),
        ("DELETE", "/images"),
    ],
)
def test_a_wrong_method_is_a_405(http, method, path):
    """The problem comes with an `Allow` header, as HTTP requires."""
    answer = http.request(method, path)
    assert_problem(answer, 405, "protocol", f"{method} is not", answer.headers["allow"])
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/images/lookup", ["url"]),
        ("/images/lookup?url=", ["empty"]),
        ("/images/lookup?url=http://h/%00", ["NUL"]),
        ("/images/lookup?url=http://h/&bucket=%00", ["bucket", "NUL"]),
        ("/images/search", ["url_contains"]),
        ("/images/search?url_contains=%00", ["url_contains", "NUL"]),
        ("/images/search?url_contains=a&limit=0", ["limit"]),
        ("/images/search?url_contains=a&limit=x", ["limit"]),
        ("/images/search?url_contains=a&limit=99999999999999999999", ["limit"]),
        ("/images/search?url_contains=a&bucket=%00", ["bucket", "NUL"]),
        ("/images/similar", ["perceptual_hash"]),
        ("/images/similar?perceptual_hash=xyz", ["perceptual_hash"]),
        (f"/images/similar?perceptual_hash={'F' * 16}", ["perceptual_hash"]),
        (f"/images/similar?perceptual_hash={'0' * 16}%0A", ["perceptual_hash"]),
        (f"/images/similar?perceptual_hash={'0' * 16}&max_hamming_distance=-1", ["distance"]),
        (f"/images/similar?perceptual_hash={'0' * 16}&max_hamming_distance=65", ["distance"]),
        (f"/images/similar?perceptual_hash={'0' * 16}&max_hamming_distance=x", ["distance"]),
        (f"/images/similar?perceptual_hash={'0' * 16}&bucket=%00", ["bucket", "NUL"]),
        (f"/images/meta/{UNKNOWN_HASH}?bucket=%00", ["bucket", "NUL"]),
        (f"/images/{UNKNOWN_HASH}?bucket=%00", ["bucket", "NUL"]),
        (f"/serve/{UNKNOWN_HASH}?bucket=%00", ["bucket", "NUL"]),
        ("/images/abc", ["content_hash"]),
        (f"/images/{'A' * 64}", ["content_hash"]),
        ("/images/meta/abc", ["content_hash"]),
        ("/serve/abc", ["content_hash"]),
        (f"/images/{'0' * 63}%00", ["content_hash"]),
    ],
)
def test_bad_input_is_a_422(http, path, words):
    """The problem names the invalid parameter."""
    assert_problem(http.get(path), 422, "invalid_request", *words)


@pytest.mark.parametrize("query", ["url_contains=%s&bucket=%s", "url_contains=a&x=%s%s"])
def test_a_url_that_is_too_long_for_the_parser_is_a_422(shared_service, query):
    """Two texts that each have the maximum length may need more than 64 KiB together."""
    text = quote("𓀀" * 4096)
    path = f"/images/search?{query % (text, text)}"
    connection = HTTPConnection("127.0.0.1", shared_service.port, timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = json.loads(answer.read())
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status, body["status"], body["code"]) == (422, 422, "invalid_request")
    assert "65535 bytes" in body["detail"]


@pytest.mark.parametrize("content_hash", ["abc", "A" * 64, "..%2F..%2Fcatalog.sqlite3"])
def test_a_delete_of_a_malformed_hash_is_refused(http, content_hash):
    """A delete accepts no path in place of a hash."""
    assert http.delete(f"/images/{content_hash}").status_code in {404, 422}


malformed_hashes = (
    # A client removes these two from a path, and so asks for another route.
    st.text(min_size=1).filter(lambda text: text not in {".", ".."})
    | st.text("0123456789abcdefABCDEF", min_size=60, max_size=68)
    | st.sampled_from(["../", "%2e%2e/", "..\\", "\0", "\n", ";", "?", "#"]).map(
        lambda bad: f"{UNKNOWN_HASH[:32]}{bad}{UNKNOWN_HASH[32:]}"
    )
    | st.from_regex(r"[0-9a-f]{64}\s", fullmatch=True)
)


@given(malformed_hashes)
def test_a_malformed_hash_is_refused(http, text):
    """Any malformed hash gives a 404 or a 422 on each route."""
    assert_refused(http, text)


@pytest.mark.endurance
@settings(max_examples=500)
@given(malformed_hashes)
def test_many_malformed_hashes_are_refused(http, text):
    """The same test with more examples."""
    assert_refused(http, text)


def assert_refused(http, text):
    """Assert that each route refuses a hash."""
    try:
        quoted = quote(text, safe="")
    except UnicodeEncodeError:
        return
    for method, route in (
        ("GET", "images"),
        ("GET", "images/meta"),
        ("GET", "serve"),
        ("DELETE", "images"),
    ):
        answer = http.request(method, f"/{route}/{quoted}")
        # A dot or a slash may select another route.
        allowed = {404, 422} | ({307, 405} if set(text) & {"/", "."} else set())
        assert answer.status_code in allowed, (method, route, text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"urls": "http://h.example/"}',
        b'{"urls": [1]}',
        b'{"urls": [""]}',
        b'{"urls": ["http://h.example/\\u0000"]}',
        b'{"urls": ["http://h.example/\\ud800"]}',
        b'{"urls": ["http://h.example/"], "bucket": "\\u0000"}',
        b'{"urls": ["http://h.example/"], "bucket": "\\ud800"}',
        b'{"urls": ["http://h.example/"], "bucket": 5}',
        b"\xff\xfe",
    ],
    ids=range(13),
)
def test_a_bad_batch_is_a_422(http, body):
    """An invalid body of a batch lookup gives a problem."""
    answer = http.post("/images/lookup", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "invalid_request")


def test_a_batch_has_at_most_a_thousand_urls(http, site):
    """A batch of 1,000 URLs is answered, and a larger one is refused."""
    store(http, f"{site}/999", site.encode())
    urls = [f"{site}/{number}" for number in range(1001)]
    found = http.post("/images/lookup", json={"urls": urls[:1000]})
    assert list(found.json()["entries"]) == [f"{site}/999"]
    assert_problem(http.post("/images/lookup", json={"urls": urls}), 422, "invalid_request", "1000")


def test_a_batch_looks_in_its_bucket(http, site):
    """With a bucket only its captures are found, without one those of all buckets."""
    store(http, f"{site}/a", site.encode(), bucket="one")
    urls = [f"{site}/a"]
    for body, hits in (({}, urls), ({"bucket": "one"}, urls), ({"bucket": ""}, [])):
        found = http.post("/images/lookup", json={"urls": urls, **body}).json()
        assert list(found["entries"]) == hits


# Bytes for browsers


@pytest.mark.parametrize("route", ["images", "serve"])
@pytest.mark.parametrize(
    ("data", "content_type", "disposition"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "attachment"),
        (b"<!doctype html><script>alert(1)</script>", "application/octet-stream", "attachment"),
        (b"%PDF-1.7 no picture", "application/octet-stream", "attachment"),
        (b"GIF89a", "image/gif", "inline"),
    ],
    ids=["svg", "html", "pdf", "gif"],
)
def test_active_content_is_an_attachment(http, route, data, content_type, disposition):
    """The content type comes from the bytes, and active content is never shown inline."""
    content_hash = store(http, "http://evil.example/a.html", data).json()["content_hash"]
    answer = http.get(f"/{route}/{content_hash}")
    assert answer.content == data
    assert answer.headers["content-type"] == content_type
    assert answer.headers["content-disposition"].split(";")[0] == disposition
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "sandbox" in answer.headers["content-security-policy"]


def test_pictures_have_the_type_of_their_bytes(http, site, photos):
    """JPEG, PNG and WebP have their own type, also if their URL has another ending."""
    kinds = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
    for name in ("cat.png", "sunset.jpg", "pagoda.webp"):
        content_hash = store(http, f"{site}/{name}.txt", photos[name]).json()["content_hash"]
        answer = http.get(f"/serve/{content_hash}")
        assert answer.headers["content-type"] == kinds[name[name.index(".") :]]
        assert answer.headers["content-disposition"].split(";")[0] == "inline"
        assert int(answer.headers["content-length"]) == len(photos[name])


# Concurrent lookups


async def test_batched_lookups_get_their_own_answers(shared_service, http, site):
    """Each of 200 concurrent lookups, hits and misses in two buckets, gets its own answer."""
    for number in range(20):
        for bucket in ("one", "two"):
            data = f"{site} {number} {bucket}".encode()
            assert store(http, f"{site}/{number}", data, bucket=bucket).is_success
    lookups = [(n % 30, ("one", "two", "none")[n % 3]) for n in range(200)]

    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(
        base_url=shared_service.url, trust_env=False, timeout=PATIENCE, limits=limits
    ) as client:
        answers = await asyncio.gather(
            *(
                client.get("/images/lookup", params={"url": f"{site}/{number}", "bucket": bucket})
                for number, bucket in lookups
            )
        )
    for (number, bucket), answer in zip(lookups, answers, strict=True):
        if number < 20 and bucket != "none":
            data = f"{site} {number} {bucket}".encode()
            assert answer.json()["content_hash"] == content_hash_of(data)
        else:
            assert answer.status_code == 404


def test_a_stored_url_is_found_by_the_next_request(http, site):
    """The next request finds a stored image, fifty times in a row."""
    url = f"{site}/a"
    for turn in range(50):
        data = f"{site} {turn}".encode()
        assert store(http, url, data).status_code == 201
        answer = http.get("/images/lookup", params={"url": url})
        assert answer.json()["content_hash"] == content_hash_of(data)


# The document, and failures


def test_the_document_describes_every_route(http):
    """`/openapi.json` has all routes with their errors as problems, and `/docs` shows it."""
    paths = http.get("/openapi.json").json()["paths"]
    assert {path: set(methods) for path, methods in paths.items()} == ROUTES
    for path, methods in paths.items():
        for method, route in methods.items():
            errors = {code: a for code, a in route["responses"].items() if code >= "400"}
            assert errors, (method, path)
            for answer in errors.values():
                assert list(answer["content"]) == ["application/problem+json"], (method, path)
    assert http.get("/docs").headers["content-type"].startswith("text/html")


def test_a_lost_catalog_is_a_problem_without_a_traceback(service):
    """If the tables are missing, every route answers 503 and the service continues to run."""
    with http_client(service.url) as http:
        content_hash = store(http, "http://h.example/a", b"bytes").json()["content_hash"]
        catalog = sqlite3.connect(service.folder / "catalog.sqlite3")
        catalog.executescript("DROP TABLE capture; DROP TABLE image;")
        catalog.close()
        for answer in (
            http.get("/images/lookup?url=http://h.example/a"),
            http.post("/images/lookup", json={"urls": ["http://h.example/a"]}),
            http.get("/images/search?url_contains=h"),
            http.get(f"/images/similar?perceptual_hash={'0' * 16}"),
            http.get(f"/images/meta/{content_hash}"),
            http.get(f"/images/{content_hash}"),
            http.delete(f"/images/{content_hash}"),
            http.get("/stats"),
            http.get("/buckets"),
            store(http, "http://h.example/b", b"other"),
        ):
            assert_problem(answer, 503, "unavailable")
        assert http.get("/health").status_code in {200, 503}


def test_an_unexpected_failure_is_a_500(service):
    """An unexpected failure is a problem without details, and the next request succeeds."""
    with http_client(service.url) as http:
        store(http, "http://h.example/good", b"good")
        store(http, "http://h.example/bad", b"bad")
        catalog = sqlite3.connect(service.folder / "catalog.sqlite3")
        with catalog:
            # A time that no datetime can represent, as another version might write it.
            changed = catalog.execute(
                "UPDATE capture SET lookup_time = ? WHERE url LIKE '%/bad'", (-(2**62),)
            )
            assert changed.rowcount == 1
        catalog.close()
        for _ in range(20):
            assert_problem(http.get("/images/lookup?url=http://h.example/bad"), 500, "error", "log")
            assert http.get("/images/lookup?url=http://h.example/good").status_code == 200
    assert "Traceback" in service.log


def test_a_failed_blob_write_is_a_503(service):
    """If the blob cannot be written, the store fails and the URL stays a miss."""
    with http_client(service.url) as http:
        data = b"no room for these"
        content_hash = content_hash_of(data)
        # A file in the place of a folder stops even root.
        (service.folder / "blobs" / content_hash[:2]).write_bytes(b"in the way")
        assert_problem(store(http, "http://h.example/a", data), 503, "store_failed")
        assert http.get("/images/lookup?url=http://h.example/a").status_code == 404


def test_a_service_ends_without_errors(service):
    """SIGTERM ends the service, and its log has no error."""
    with http_client(service.url) as http:
        store(http, "http://h.example/a", b"bytes")
    service.stop()
    assert "Application shutdown complete" in service.log
    assert "ERROR" not in service.log
    assert "Traceback" not in service.log


def test_a_password_is_never_stored(service):
    """A service keeps the image of a URL without its user and its password."""
    with http_client(service.url) as http:
        entry = store(http, "http://me:secret@h.example/a", b"bytes").json()
        assert entry["url"] == entry["key"] == "http://h.example/a"
        assert "secret" not in http.get("/images/search?url_contains=h").text


def test_a_lookup_tells_failures_without_a_bucket(http, site):
    """A failure that was posted without a bucket is told, in any spelling of the fragment."""
    url = f"{site}/a.jpg"
    failure = {"url": url, "reason": "http_404", "http_status": 404, "seconds": 60}
    assert http.post("/failures", json={"failures": [failure]}).status_code == 204
    for asked in (url, f"{url}#part", url.replace("//", "//user:secret@")):
        body = {"urls": [asked]}
        for bucket in ({}, {"bucket": ""}):
            found = http.post("/images/lookup", json=body | bucket).json()["failures"]
            assert found[asked]["reason"] == "http_404"
            assert found[asked]["url"] == asked
    assert http.post("/images/lookup", json={"urls": [url], "bucket": "b"}).json()["failures"] == {}


@pytest.mark.parametrize("status", [99, 200, 302, 399, 600])
def test_a_failure_has_the_status_of_an_error(http, site, status):
    """A crawl answers requests with it, so that no other status is taken."""
    failure = {"url": f"{site}/a.jpg", "reason": "http_404", "http_status": status, "seconds": 60}
    assert http.post("/failures", json={"failures": [failure]}).status_code == 422

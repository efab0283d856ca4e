"""Uploads: valid, invalid, truncated and too large ones."""

import socket
from uuid import uuid4

import pytest

from tests.support.forms import BOUNDARY, FORM, file, form, part
from tests.support.service import http_client

LIMIT = 100 * 2**20


@pytest.fixture
def url():
    """Return a URL that no other test stores."""
    return f"http://{uuid4().hex}.example/a.png"


def post(http, body, content_type=FORM):
    return http.post("/images", content=body, headers={"Content-Type": content_type})


def is_stored(http, url):
    """Return whether the cache has an image of this URL."""
    return http.get("/images/lookup", params={"url": url}).status_code == 200


def assert_refused(answer, *words, status=422, code="invalid_request"):
    """Assert that an upload is refused with these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["status"]) == (code, status)
    for word in words:
        assert word in answer.json()["detail"]


@pytest.mark.parametrize("last", ["file", "client_name"])
def test_the_parts_may_come_in_any_order(http, url, last):
    """The order of the form's parts does not matter."""
    data = url.encode()
    parts = {"file": file(data), "url": part("url", url), "client_name": part("client_name", "me")}
    parts[last] = parts.pop(last)
    answer = post(http, form(*parts.values()))
    assert answer.status_code == 201
    assert answer.json()["file_size_bytes"] == len(data)


def test_bytes_that_look_like_a_boundary_are_kept(http, url):
    """Line breaks, dashes and half a boundary inside an image are kept."""
    data = f"{url}\r\n--{BOUNDARY[:-1]}\r\n--\r\n\r\n".encode() + bytes(range(256))
    answer = post(http, form(part("url", url), part("client_name", "me"), file(data)))
    assert http.get(f"/images/{answer.json()['content_hash']}").content == data


def test_a_content_type_has_any_case(http, url):
    """The media type is case-insensitive, and the boundary may be quoted."""
    body = form(part("url", url), part("client_name", "me"), file(url.encode()))
    content_type = f'Multipart/Form-Data; Boundary="{BOUNDARY}"'
    assert post(http, body, content_type).status_code == 201


@pytest.mark.parametrize("missing", ["url", "client_name", "file"])
def test_a_missing_field_is_named(http, url, missing):
    """The error names the missing field."""
    parts = {"url": part("url", url), "client_name": part("client_name", "me"), "file": file(b"x")}
    del parts[missing]
    assert_refused(post(http, form(*parts.values())), missing)
    assert not is_stored(http, url)


@pytest.mark.parametrize(
    ("bad_field", "words"),
    [
        (("url", ""), ["empty"]),
        (("url", "http://h.example/\0"), ["NUL"]),
        (("url", "http://h.example/" + "a" * 64 * 1024), ["64 KiB"]),
        (("client_name", "a\0"), ["client_name", "NUL"]),
        (("client_name", "a" * 5000), ["client_name", "4096 characters"]),
        (("bucket", "a\0"), ["bucket", "NUL"]),
        (("bucket", "a" * 5000), ["bucket"]),
        (("client_name", ""), ["client_name"]),
        (("lookup_time", ""), ["lookup_time", "2026-01-31"]),
        (("lookup_time", "0"), ["lookup_time", "2026-01-31"]),
        (("lookup_time", "yesterday"), ["lookup_time"]),
        (("lookup_time", "2025-13-01"), ["lookup_time"]),
        (("lookup_time", "2025-01-01T00:00:00\0"), ["lookup_time"]),
        (("lookup_time", "9999-12-31T23:59:59-10:00"), []),
        (("lookup_time", "0001-01-01T00:00:00+10:00"), []),
        (("lookup_time", "1" * 400), []),
    ],
    ids=lambda value: None if isinstance(value, list) else f"{value[0]}={value[1]:.20}",
)
def test_a_bad_field_is_named(http, url, bad_field, words):
    """The error names the invalid field, and nothing is stored."""
    fields = {"url": url, "client_name": "me", **dict([bad_field])}
    parts = [part(name, value) for name, value in fields.items()]
    assert_refused(post(http, form(*parts, file(url.encode()))), *words)
    assert not is_stored(http, url)


def test_a_file_without_a_file_name_is_refused(http, url):
    """A part without a file name is text, which cannot keep the bytes unchanged."""
    body = form(part("url", url), part("client_name", "me"), part("file", b"\x89PNG\xff\xfe"))
    assert_refused(post(http, body), "file")
    assert not is_stored(http, url)


def test_a_text_field_with_a_file_name_is_refused(http, url):
    """The URL must not be a file part."""
    body = form(part("url", url, '; filename="u"'), part("client_name", "me"), file(b"x"))
    assert_refused(post(http, body))
    assert not is_stored(http, url)


def test_an_empty_file_is_refused(http, url):
    """A file without bytes is refused, and nothing is stored."""
    body = form(part("url", url), part("client_name", "me"), file(b""))
    assert_refused(post(http, body), "empty")
    assert not is_stored(http, url)


def test_unknown_fields_are_ignored(http, url):
    """Another client may send fields of its own."""
    unknown = (part(f"field{n}", "x") for n in range(100))
    answer = post(http, form(part("url", url), *unknown, part("client_name", "me"), file(b"x")))
    assert answer.is_success, answer.text
    assert is_stored(http, url)


@pytest.mark.parametrize(
    "parts",
    [
        [file(b"one"), file(b"two")],
        [file(b"one"), *(part(f"field{n}", "x") for n in range(10_000))],
        [part("file", b"x", f'; filename="{n}"') for n in range(10_000)],
        [file(b"one"), part("more", b"x" * 2 * 2**20)],
    ],
    ids=["two files", "many fields", "many files", "a huge field"],
)
def test_a_form_with_too_many_parts_is_refused(http, url, parts):
    """Two files, ten thousand fields or a field of megabytes are refused."""
    assert_refused(post(http, form(part("url", url), part("client_name", "me"), *parts)))
    assert not is_stored(http, url)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        (FORM, b""),
        (FORM, b"no form at all"),
        (FORM, b"--" + BOUNDARY.encode() + b"\r\nno header\r\n\r\nx"),
        (FORM, form()),
        ("application/json", b'{"url": "http://h.example/"}'),
        ("application/x-www-form-urlencoded", b"url=http://h.example/&client_name=me&file=x"),
        ("image/png", b"\x89PNG"),
        ("", b"x"),
    ],
    ids=range(10),
)
def test_a_body_that_is_no_form_is_refused(http, content_type, body):
    """A body without a boundary, without parts or of another type is a 422."""
    assert_refused(post(http, body, content_type))


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "undefined", "utf-7", "utf-16", "latin-1", "ascii", "zip", "ä"]
)
def test_a_form_in_another_charset_is_refused(http, url, charset):
    """No client chooses how its form is decoded; some codecs take minutes for a megabyte."""
    body = form(part("url", url), part("client_name", "é" * 500_000), file(b"x"))
    for content_type in (f"{FORM}; charset={charset}", f'multipart/form-data;CHARSET="{charset}"'):
        assert_refused(post(http, body, content_type.encode("latin-1")), "UTF-8", charset)
    assert not is_stored(http, url)


@pytest.mark.parametrize("charset", ["", "; charset=UTF-8", '; charset="utf8"'])
def test_a_form_is_utf_8(http, url, charset):
    """A form may say that it is UTF-8; its texts are kept, and other bytes are refused."""
    data = url.encode()
    good = form(part("url", f"{url}?ä"), part("client_name", "é 你"), file(data))
    assert post(http, good, FORM + charset).json()["client_name"] == "é 你"
    assert is_stored(http, f"{url}?ä")
    bad = form(part("url", url), part("client_name", "é".encode("latin-1")), file(data))
    assert_refused(post(http, bad, FORM + charset), "UTF-8")
    assert not is_stored(http, url)


def test_a_long_content_type_is_refused(http):
    """The time to parse the header would grow with the square of its length."""
    assert_refused(post(http, b"x", "multipart/form-data; " + ";" * 60_000), "Content-Type", "1000")


def test_a_truncated_form_is_refused(http, url):
    """A form that is truncated at any position stores nothing."""
    body = form(
        part("url", url),
        file(url.encode()),
        part("client_name", "me"),
        part("bucket", "one"),
        part("lookup_time", "2025-01-01"),
    )
    end = len(f"--{BOUNDARY}--\r\n")
    for cut in [*range(0, len(body) - end, 17), len(body) - end - 1, len(body) - end]:
        answer = post(http, body[:cut])
        assert answer.status_code == 422, (cut, body[:cut][-60:])
    assert not is_stored(http, url)
    assert post(http, body).status_code == 201


def test_a_client_that_disconnects_stores_nothing(service):
    """A connection that closes during an upload stores nothing and causes no error."""
    url = "http://h.example/a.png"
    body = form(part("url", url), part("client_name", "me"), file(b"x" * 100_000))
    head = f"POST /images HTTP/1.1\r\nHost: h\r\nContent-Type: {FORM}\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body[:50_000])
    with http_client(service.url) as http:
        assert not is_stored(http, url)
        assert post(http, body).status_code == 201
    service.stop()
    assert "Traceback" not in service.log


def chunks(size):
    """Yield this number of zero bytes, at most 1 MiB at a time."""
    for _ in range(size // 2**20):
        yield bytes(2**20)
    yield bytes(size % 2**20)


def form_stream(url, size):
    """Yield a form with a file of this size."""
    head, tail = form(part("url", url), part("client_name", "me"), file(b"@")).split(b"@")
    yield head
    yield from chunks(size)
    yield tail


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 2 * 2**20, LIMIT + 50 * 2**20])
def test_an_upload_over_the_limit_is_a_413(http, url, size):
    """A body of unknown length is refused when it exceeds the limit."""
    assert_refused(post(http, form_stream(url, size)), str(LIMIT), status=413, code="too_large")
    assert not is_stored(http, url)


def test_an_upload_at_the_limit_is_stored(http, url):
    """An image of exactly the maximum size is stored."""
    answer = post(http, form_stream(url, LIMIT))
    assert answer.status_code in {200, 201}
    assert answer.json()["file_size_bytes"] == LIMIT

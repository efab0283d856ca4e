"""Range requests and conditional requests (RFC 9110), as functions and over HTTP."""

import re
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from imgcache_scrapy.server.ranges import etag_matches, requested_range

ETAG = f'"{"a" * 64}"'
DATA = bytes(range(256)) * 4


# As functions

sizes = st.integers(1, 2**40)
positions = st.integers(0, 2**41)


def part_or_status(header, size, if_range=None):
    """Return the requested range, or the status of the refusal."""
    try:
        return requested_range(header, if_range, ETAG, size)
    except HTTPException as refused:
        return refused.status_code if str(size) in refused.headers["Content-Range"] else refused


@given(positions, positions, sizes)
def test_a_closed_range_ends_at_the_last_byte(first, last, size):
    """A closed range ends at its last byte or at the end; a reversed range is ignored."""
    part = part_or_status(f"bytes={first}-{last}", size)
    if last < first:
        assert part is None
    elif first >= size:
        assert part == 416
    else:
        assert part == range(first, min(last, size - 1) + 1)


@given(positions, sizes)
def test_an_open_range_goes_to_the_end(first, size):
    """A range without an end gives all bytes from its first byte."""
    part = part_or_status(f"bytes={first}-", size)
    assert part == (416 if first >= size else range(first, size))


@given(positions, sizes)
def test_a_suffix_range_counts_from_the_end(length, size):
    """A suffix gives the last bytes, or all if it is longer; an empty suffix gives 416."""
    part = part_or_status(f"bytes=-{length}", size)
    assert part == (416 if length == 0 else range(max(size - length, 0), size))


@given(st.text() | st.from_regex(r"(bytes)?[= ,0-9-]{0,60}", fullmatch=True), sizes)
def test_any_header_is_handled(header, size):
    """Any header gives a range within the image, the whole image, or 416."""
    part = part_or_status(header, size)
    if isinstance(part, range):
        assert 0 <= part.start < part.stop <= size
        assert part.step == 1
    else:
        assert part in {None, 416}


@given(st.text(), sizes)
def test_a_different_if_range_gives_all_bytes(if_range, size):
    """If-Range with another version of the image gives the whole image."""
    assert part_or_status("bytes=0-0", size, if_range) is None
    assert part_or_status("bytes=0-0", size, f"W/{ETAG}") is None
    assert part_or_status("bytes=0-0", size, ETAG) == range(1)


@given(st.lists(st.sampled_from([ETAG, f"W/{ETAG}", '"b"', 'W/"b"', "", "*"])))
def test_if_none_match_matches_tags_and_star(tags):
    """A weak or strong tag in the list matches, and so does a single star."""
    known = ETAG in tags or f"W/{ETAG}" in tags or tags == ["*"]
    assert etag_matches(", ".join(tags), ETAG) == known


# Over HTTP


def store(http, data, name="f", content_type="image/png"):
    """Store an image and return its content hash."""
    form = {"url": f"http://{uuid4().hex}.example/a", "client_name": "me"}
    answer = http.post("/images", data=form, files={"file": (name, data, content_type)})
    assert answer.is_success, answer.text
    return answer.json()["content_hash"]


@pytest.fixture(scope="module", params=["images", "serve"])
def address(request, http):
    """Store an image and return one of its two paths."""
    return f"/{request.param}/{store(http, DATA)}"


LARGE = bytes(range(256)) * 10_001


def test_a_large_image_is_sent_in_parts(http):
    """An image that is not read as a whole has the same answers as a small one."""
    path = f"/images/{store(http, LARGE)}"
    whole = http.get(path)
    assert (whole.status_code, whole.content == LARGE) == (200, True)
    assert whole.headers["content-length"] == str(len(LARGE))
    head = http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": 0} == {**whole.headers, "date": 0}
    for part in (
        slice(0, 1),
        slice(7, 600_000),
        slice(2_000_000, len(LARGE)),
        slice(0, len(LARGE)),
    ):
        answer = http.get(path, headers={"Range": f"bytes={part.start}-{part.stop - 1}"})
        assert (answer.status_code, answer.content == LARGE[part]) == (206, True)
        assert answer.headers["content-length"] == str(part.stop - part.start)
    assert http.get(path, headers={"Range": f"bytes={len(LARGE)}-"}).status_code == 416
    assert http.get(path, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert http.get(path).content == LARGE


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-9", slice(5, 10)),
        ("bytes=1000-", slice(1000, 1024)),
        ("bytes=1000-9999", slice(1000, 1024)),
        ("bytes=-24", slice(1000, 1024)),
        ("bytes=-9999", slice(0, 1024)),
        ("BYTES=5-9", slice(5, 10)),
    ],
)
def test_a_part_is_a_206(http, address, header, part):
    """A range gives 206 with its bytes and their position."""
    answer = http.get(address, headers={"Range": header})
    assert answer.status_code == 206
    assert answer.content == DATA[part]
    assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/1024"
    assert answer.headers["content-length"] == str(part.stop - part.start)
    assert answer.headers["etag"] == f'"{address[-64:]}"'


@pytest.mark.parametrize("header", ["bytes=1024-", "bytes=1024-2000", "bytes=-0"])
def test_a_range_beyond_the_end_is_a_416(http, address, header):
    """The answer contains the size of the image."""
    answer = http.get(address, headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */1024"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-0,5-9"},
        {"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(1000))},
        {"Range": "bytes=9-5"},
        {"Range": "pixels=0-5"},
        {"Range": "bytes"},
        {"Range": "bytes=0-0", "If-Range": '"other"'},
        {"Range": "bytes=0-0", "If-Range": "Wed, 21 Oct 2025 07:28:00 GMT"},
    ],
)
def test_an_unsupported_range_gives_all_bytes(http, address, headers):
    """Several ranges, an invalid range or another version give the whole image once."""
    answer = http.get(address, headers=headers)
    assert (answer.status_code, answer.content) == (200, DATA)


def test_a_client_with_the_current_version_gets_304(http, address):
    """The 304 has the headers of the image, and takes priority over a range."""
    etag = http.get(address).headers["etag"]
    for tag in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = http.get(address, headers={"If-None-Match": tag, "Range": "bytes=0-0"})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert http.get(address, headers={"If-None-Match": '"x"'}).content == DATA


def test_if_none_match_does_not_reveal_a_missing_image(http, address):
    """A client that knows a hash gets 404 if the image is not in the cache or in the bucket."""
    unknown_hash = "0" * 64
    for path in (f"/images/{unknown_hash}", f"{address}?bucket=another"):
        tag = f'"{unknown_hash if unknown_hash in path else address[-64:]}"'
        for value in (tag, "*"):
            assert http.get(path, headers={"If-None-Match": value}).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=9999-"}])
def test_head_equals_get_without_a_body(http, address, headers):
    """HEAD has the same status and headers as GET."""
    got, head = (http.request(method, address, headers=headers) for method in ("GET", "HEAD"))
    assert head.status_code == got.status_code
    assert head.content == b""
    for answer in (got, head):
        answer.headers.pop("date")
    assert head.headers == got.headers


# Files with active content

SCRIPT = b"<script xmlns='http://www.w3.org/1999/xhtml'>alert(1)</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU"
POLYGLOTS = {
    "svg": SVG,
    "svg after a declaration": b"<?xml version='1.0'?>\n<!DOCTYPE svg>" + SVG,
    "svg after a byte order mark": b"\xef\xbb\xbf" + SVG,
    "svg in UTF-16": (b"\xff\xfe" + SVG.decode().encode("utf-16-le")),
    "svg after a comment": b"<!-- " + b"x" * 5000 + b" -->" + SVG,
    "svg with a prefix": b"<s:svg xmlns:s='http://www.w3.org/2000/svg'>" + SCRIPT + b"</s:svg>",
    "svg after blanks": b" \r\n\t" + SVG,
    "html": b"<!doctype html>" + SCRIPT,
    "xhtml": b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>" + SCRIPT,
    "pdf": b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>",
    "gif that is a script": b"GIF89a/*\0\0\0\0\0*/=1;alert(1)//",
    "png followed by a page": PNG + b"<html>" + SCRIPT,
    "jpeg with a page inside": b"\xff\xd8\xff\xfe\x20\x00<html>" + SCRIPT,
    "bmp that is a script": b"BM/*\0\0\0\0*/=1;alert(1)",
    "script": b"alert(1)",
    "css": b"body{background:url(javascript:alert(1))}",
}  # fmt: skip
PASSIVE = re.compile(r"image/(?!svg)[a-z0-9.-]+")


@pytest.mark.parametrize("name", POLYGLOTS)
@pytest.mark.parametrize("claimed_type", ["text/html", "image/svg+xml", "application/javascript"])
def test_no_browser_runs_active_content(http, name, claimed_type):
    """A file with active content is an attachment, or is shown as a passive image."""
    content_hash = store(http, POLYGLOTS[name], "a.html", claimed_type)
    for path, headers in (
        (f"/images/{content_hash}", {}),
        (f"/serve/{content_hash}", {}),
        (f"/serve/{content_hash}", {"Range": "bytes=1-"}),
    ):
        answer = http.get(path, headers=headers)
        content_type = answer.headers["content-type"]
        if answer.headers["content-disposition"] == "inline":
            assert PASSIVE.fullmatch(content_type)
        else:
            assert answer.headers["content-disposition"] == "attachment"
            assert content_type in {"image/svg+xml", "application/octet-stream"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        sharing = "cross-origin" if path.startswith("/serve/") else "same-site"
        assert answer.headers["cross-origin-resource-policy"] == sharing


@pytest.mark.parametrize(
    "name",
    ["a\r\nX-Evil: 1\r\n\r\n<script>", 'a"; filename="b.html', "a\nSet-Cookie: a=1", "ä/../b.html"],
)
def test_no_file_name_is_in_a_header(http, name):
    """The file name of an upload is returned only in the JSON of an entry."""
    content_hash = store(http, uuid4().bytes, name, "text/html; evil=1")
    answer = http.get(f"/serve/{content_hash}")
    assert "evil" not in str(answer.headers).lower()
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"] == "attachment"
    entry = http.get(f"/images/meta/{content_hash}")
    assert entry.headers["content-type"] == "application/json"

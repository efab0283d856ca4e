"""Parts of images, and images that a client has already: RFC 9110, by rule and over HTTP."""

import re
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from imgcache_scrapy.server.ranges import etag_matches, requested_range

ETAG = f'"{"a" * 64}"'
DATA = bytes(range(256)) * 4


# By rule

sizes = st.integers(1, 2**40)
positions = st.integers(0, 2**41)


def part_or_status(wanted, size, if_range=None):
    try:
        return requested_range(wanted, if_range, ETAG, size)
    except HTTPException as refused:
        return refused.status_code if str(size) in refused.headers["Content-Range"] else refused


@given(positions, positions, sizes)
def test_a_closed_range_gives_what_is_there_of_it(first, last, size):
    """From its first byte to its last, or to the end; backwards it is no range."""
    part = part_or_status(f"bytes={first}-{last}", size)
    if last < first:
        assert part is None
    elif first >= size:
        assert part == 416
    else:
        assert part == range(first, min(last, size - 1) + 1)


@given(positions, sizes)
def test_an_open_range_goes_to_the_end(first, size):
    """From a byte on, all there is."""
    part = part_or_status(f"bytes={first}-", size)
    assert part == (416 if first >= size else range(first, size))


@given(positions, sizes)
def test_a_suffix_counts_from_the_end(length, size):
    """The last so many bytes, all of them where there are fewer; of none there is no part."""
    part = part_or_status(f"bytes=-{length}", size)
    assert part == (416 if length == 0 else range(max(size - length, 0), size))


@given(st.text() | st.from_regex(r"(bytes)?[= ,0-9-]{0,60}", fullmatch=True), sizes)
def test_any_other_header_is_no_range(wanted, size):
    """Whatever comes gives a part within the image, all of it, or a 416."""
    part = part_or_status(wanted, size)
    if isinstance(part, range):
        assert 0 <= part.start < part.stop <= size
        assert part.step == 1
    else:
        assert part in {None, 416}


@given(st.text(), sizes)
def test_another_if_range_gives_the_whole(if_range, size):
    """A part of another version would spoil what the client has."""
    assert part_or_status("bytes=0-0", size, if_range) is None
    assert part_or_status("bytes=0-0", size, f"W/{ETAG}") is None
    assert part_or_status("bytes=0-0", size, ETAG) == range(1)


@given(st.lists(st.sampled_from([ETAG, f"W/{ETAG}", '"b"', 'W/"b"', "", "*"])))
def test_known_is_what_is_named(tags):
    """One of the tags, weak or not; a star by itself stands for any."""
    known = ETAG in tags or f"W/{ETAG}" in tags or tags == ["*"]
    assert etag_matches(", ".join(tags), ETAG) == known


# Over HTTP


def stored(http, data, name="f", content_type="image/png"):
    form = {"url": f"http://{uuid4().hex}.example/a", "client_name": "me"}
    answer = http.post("/images", data=form, files={"file": (name, data, content_type)})
    assert answer.is_success, answer.text
    return answer.json()["content_hash"]


@pytest.fixture(scope="module", params=["images", "serve"])
def address(request, http):
    """Store an image and give one of its two addresses."""
    return f"/{request.param}/{stored(http, DATA)}"


@pytest.mark.parametrize(
    ("wanted", "part"),
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
def test_a_part_is_a_206(http, address, wanted, part):
    """The bytes that were asked for, and where they are."""
    answer = http.get(address, headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == DATA[part]
    assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/1024"
    assert answer.headers["content-length"] == str(part.stop - part.start)
    assert answer.headers["etag"] == f'"{address[-64:]}"'


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=1024-2000", "bytes=-0"])
def test_a_part_that_is_not_there_is_a_416(http, address, wanted):
    """It says how many bytes there are."""
    answer = http.get(address, headers={"Range": wanted})
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
        {"Range": "bytes=0-0", "If-Range": '"another"'},
        {"Range": "bytes=0-0", "If-Range": "Wed, 21 Oct 2025 07:28:00 GMT"},
    ],
)
def test_the_whole_comes_where_no_part_can(http, address, headers):
    """Several parts, no range, another version: all bytes, once."""
    answer = http.get(address, headers=headers)
    assert (answer.status_code, answer.content) == (200, DATA)


def test_a_client_that_has_it_gets_no_bytes(http, address):
    """304, with the headers of the image, also before a range is looked at."""
    etag = http.get(address).headers["etag"]
    for tag in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = http.get(address, headers={"If-None-Match": tag, "Range": "bytes=0-0"})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert http.get(address, headers={"If-None-Match": '"x"'}).content == DATA


def test_a_client_that_names_what_is_not_there_gets_a_404(http, address):
    """To know a hash is not to be told that its image is here, or in this bucket."""
    nowhere = "0" * 64
    for path in (f"/images/{nowhere}", f"{address}?bucket=another"):
        tag = f'"{nowhere if nowhere in path else address[-64:]}"'
        for value in (tag, "*"):
            assert http.get(path, headers={"If-None-Match": value}).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=9999-"}])
def test_a_head_is_a_get_without_its_body(http, address, headers):
    """The same status and headers."""
    got, head = (http.request(method, address, headers=headers) for method in ("GET", "HEAD"))
    assert head.status_code == got.status_code
    assert head.content == b""
    for answer in (got, head):
        answer.headers.pop("date")
    assert head.headers == got.headers


# Pictures that are more than pictures

SCRIPT = b"<script xmlns='http://www.w3.org/1999/xhtml'>alert(1)</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU"
POLYGLOTS = {
    "svg": SVG,
    "svg behind a declaration": b"<?xml version='1.0'?>\n<!DOCTYPE svg>" + SVG,
    "svg behind a mark": b"\xef\xbb\xbf" + SVG,
    "svg in UTF-16": (b"\xff\xfe" + SVG.decode().encode("utf-16-le")),
    "svg behind a comment": b"<!-- " + b"x" * 5000 + b" -->" + SVG,
    "svg with a prefix": b"<s:svg xmlns:s='http://www.w3.org/2000/svg'>" + SCRIPT + b"</s:svg>",
    "svg behind blanks": b" \r\n\t" + SVG,
    "html": b"<!doctype html>" + SCRIPT,
    "xhtml": b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>" + SCRIPT,
    "pdf": b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>",
    "gif that is a script": b"GIF89a/*\0\0\0\0\0*/=1;alert(1)//",
    "png with a page behind": PNG + b"<html>" + SCRIPT,
    "jpeg with a page inside": b"\xff\xd8\xff\xfe\x20\x00<html>" + SCRIPT,
    "bmp that is a script": b"BM/*\0\0\0\0*/=1;alert(1)",
    "script": b"alert(1)",
    "css": b"body{background:url(javascript:alert(1))}",
}  # fmt: skip
PASSIVE = re.compile(r"image/(?!svg)[a-z0-9.-]+")


@pytest.mark.parametrize("name", POLYGLOTS)
@pytest.mark.parametrize("claim", ["text/html", "image/svg+xml", "application/javascript"])
def test_nothing_active_is_shown(http, name, claim):
    """Whatever a picture also is, and whatever it was called: no browser runs it."""
    content_hash = stored(http, POLYGLOTS[name], "a.html", claim)
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
        assert answer.headers["cross-origin-resource-policy"] == "same-site"


@pytest.mark.parametrize(
    "name",
    ["a\r\nX-Evil: 1\r\n\r\n<script>", 'a"; filename="b.html', "a\nSet-Cookie: a=1", "ä/../b.html"],
)
def test_no_name_travels_in_a_header(http, name):
    """What an uploader wrote comes back in an entry's JSON only."""
    content_hash = stored(http, uuid4().bytes, name, "text/html; evil=1")
    answer = http.get(f"/serve/{content_hash}")
    assert "evil" not in str(answer.headers).lower()
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"] == "attachment"
    entry = http.get(f"/images/meta/{content_hash}")
    assert entry.headers["content-type"] == "application/json"

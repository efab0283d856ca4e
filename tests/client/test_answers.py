"""Answers of a service: what is read of them, and what is a protocol error."""

import json

import httpx
import pytest

from imgcache_scrapy.client.answers import Answer, entries_by_key
from imgcache_scrapy.client.connection import _body
from imgcache_scrapy.client.entries import entry_of
from imgcache_scrapy.core.errors import (
    BlockedError,
    HostError,
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from imgcache_scrapy.core.limits import MAX_NUMBER, MAX_TEXT, MAX_URL_BYTES

URL, OTHER_URL = "http://h.example/a.png", "http://h.example/b.png"
HASH, OTHER_HASH = "ab" * 32, "cd" * 32
ENTRY = {
    "url": URL,
    "key": URL,
    "content_hash": HASH,
    "content_type": "image/png",
    "file_size_bytes": 1,
    "original_filename": "a.png",
    "width": 1,
    "height": 1,
    "perceptual_hash": "0" * 16,
    "client_name": "me",
    "lookup_time": "2025-01-01T00:00:00+00:00",
    "created_at": "2025-01-01T00:00:00+00:00",
    "bucket": "b",
    "headers": {"ETag": "1"},
    "final_url": OTHER_URL,
    "converted": True,
    "blocked": True,
    "damaged": True,
    "paths": 1,
    "hosts": 1,
}
OPTIONAL = ["key", "bucket", "headers", "final_url", "converted", "blocked", "damaged"]
OPTIONAL += ["paths", "hosts"]
WRONG_URLS = [5, [URL], "\ud800", "x" * (MAX_URL_BYTES + 1)]
WRONG_TEXTS = [5, ["text"], "\ud800", "x" * (MAX_TEXT + 1)]
WRONG_COUNTS = [-1, True, 1.0, "1", 10**30, MAX_NUMBER + 1]
WRONG_FLAGS = [None, 0, 1, "true"]
WRONG_VALUES = {
    "url": [None, *WRONG_URLS],
    "key": [None, *WRONG_URLS],
    "content_hash": [None, 5, "zz", "AB" * 32, "../../etc/passwd", HASH + "\n"],
    "content_type": [None, 5, "image", "/png", "image/png\r\nA: b", "image/" + "x" * 201],
    "file_size_bytes": [None, *WRONG_COUNTS],
    "original_filename": WRONG_TEXTS,
    "width": [0, *WRONG_COUNTS],
    "height": [0, *WRONG_COUNTS],
    "perceptual_hash": [5, "zz", "0" * 15, "0" * 17, "F" * 16],
    "client_name": [None, *WRONG_TEXTS],
    "lookup_time": [None, "yesterday", *WRONG_TEXTS],
    "created_at": [None, "yesterday", *WRONG_TEXTS],
    "bucket": [None, *WRONG_TEXTS],
    "headers": [None, "ETag", ["ETag"], {"ETag": 1}, {"ETag": "\ud800"}, {"Set-Cookie": "a=b"}],
    "final_url": [None, *WRONG_URLS],
    "converted": WRONG_FLAGS,
    "blocked": WRONG_FLAGS,
    "damaged": WRONG_FLAGS,
    "paths": [None, *WRONG_COUNTS],
    "hosts": [None, *WRONG_COUNTS],
}


def answer(body, status=200):
    """Return an answer with a body, as JSON unless it is bytes."""
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())


# Entries


def test_a_whole_entry_is_read():
    """Each documented key comes back unchanged; others are left out."""
    assert entry_of(ENTRY | {"colour": "blue"}) == ENTRY


@pytest.mark.parametrize("name", ENTRY)
def test_a_wrong_value_is_no_entry(name):
    """Types, lengths and ranges of each key are checked."""
    for value in WRONG_VALUES[name]:
        with pytest.raises(ProtocolError, match="not an entry"):
            entry_of(ENTRY | {name: value})


@pytest.mark.parametrize("name", ENTRY)
def test_only_some_keys_may_be_missing(name):
    """Keys that not every service sends may be missing; the key is then the URL."""
    entry = {key: value for key, value in ENTRY.items() if key != name}
    if name in OPTIONAL:
        assert entry_of(entry) == (ENTRY if name == "key" else entry)
    else:
        with pytest.raises(ProtocolError, match=name):
            entry_of(entry)


def test_an_image_may_have_no_size_and_no_name():
    """These keys may be null: not every image is decoded, and not every URL has a file name."""
    names = ("original_filename", "width", "height", "perceptual_hash")
    entry = ENTRY | dict.fromkeys(names)
    assert entry_of(entry) == entry


# What was asked for


def test_the_entry_of_another_url_or_image_is_an_error():
    """Lookups, claims and stores check that the answer belongs to the question."""
    other_key, other_hash = ENTRY | {"key": OTHER_URL}, ENTRY | {"content_hash": OTHER_HASH}
    for ask in (
        lambda: answer(other_key).entry(key=URL),
        lambda: entries_by_key({"entries": {URL: other_key}}, [URL]),
        lambda: answer(other_key).claimed_entry(URL, HASH),
        lambda: answer(other_hash).claimed_entry(URL, HASH),
        lambda: answer(other_key, 201).stored_entry(URL, HASH),
        lambda: answer(other_hash, 201).stored_entry(URL, HASH),
        lambda: answer(other_hash, 200).stored_entry(URL, HASH),
    ):
        with pytest.raises(ProtocolError, match="entry of something else"):
            ask()


def test_the_right_entry_is_returned():
    """The status of a store tells whether the image is new; a known one may have another URL."""
    assert answer(ENTRY).entry(key=URL, content_hash=HASH) == ENTRY
    assert entries_by_key({"entries": {URL: ENTRY}}, [URL, OTHER_URL]) == {URL: ENTRY}
    assert answer(ENTRY).claimed_entry(URL, HASH) == ENTRY | {"created": False}
    assert answer(ENTRY, 201).stored_entry(URL, HASH) == ENTRY | {"created": True}
    first = ENTRY | {"key": OTHER_URL}
    assert answer(first).stored_entry(URL, HASH) == first | {"created": False}


# Refusals


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "invalid_request", InvalidRequestError),
        (403, "blocked", BlockedError),
        (404, "not_found", NotFoundError),
        (413, "too_large", TooLargeError),
        (421, "host", HostError),
        (422, "invalid_request", InvalidRequestError),
    ],
)
def test_only_a_problem_of_this_api_refuses_an_image(status, code, error):
    """The same status of a proxy, with a page or another JSON, is a protocol error."""
    with pytest.raises(error, match="too bad"):
        answer({"code": code, "detail": "too bad"}, status).checked()
    of_gateways = [
        {"detail": None},
        {"code": status, "message": "too bad", "detail": "too bad"},
        {"type": "about:blank", "title": "too bad", "status": status, "detail": "too bad"},
        {"code": code, "detail": ["too bad"]},
    ]
    bodies = [b"<html>no</html>", {}, []]
    if status == 403:
        bodies = [{"code": code}, of_gateways[-1]]
    elif status != 404:
        bodies += of_gateways
    for body in bodies if status == 404 else [*bodies, b""]:
        foreign = UnauthorizedError if (status, body) == (403, b"") else ProtocolError
        with pytest.raises(foreign):
            answer(body, status).checked()


def test_other_statuses_mean_the_same_without_a_problem():
    """A proxy may say that the service is away, or that the token is wrong."""
    for status, error in ((401, UnauthorizedError), (503, UnavailableError), (404, NotFoundError)):
        with pytest.raises(error):
            answer(b"", status).checked()


def test_deep_json_is_a_protocol_error():
    """JSON that is too deep for the parser raises no other exception."""
    with pytest.raises(ProtocolError):
        answer(b"[" * 500_000).object()


# Sizes


async def test_a_body_is_read_up_to_its_limit():
    """A body over the limit is not read to its end, and a compressed one not at all."""

    async def parts(read):
        for _ in range(100):
            read.append(10)
            yield bytes(10)

    for limit, most in ((1_000, 100), (999, 100), (50, 6)):
        read = []
        response = httpx.Response(200, content=parts(read))
        if limit == 1_000:
            assert await _body(response, limit) == bytes(1_000)
        else:
            with pytest.raises(ProtocolError, match="more than"):
                await _body(response, limit)
        assert len(read) == most
    response = httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=parts(read := []))
    with pytest.raises(ProtocolError, match="compressed"):
        await _body(response, 1_000)
    assert read == []


@pytest.mark.parametrize(("part_bytes", "is_read"), [(1, False), (255, False), (300, True)])
async def test_a_body_in_tiny_parts_is_not_read_to_its_end(part_bytes, is_read):
    """Each part costs time and memory, however small it is."""
    read = 0

    async def parts():
        nonlocal read
        for _ in range(300_000):
            read += 1
            yield bytes(part_bytes)

    response = httpx.Response(200, content=parts())
    if is_read:
        assert len(await _body(response, 2**30)) == 300_000 * part_bytes
    else:
        with pytest.raises(ProtocolError, match="tiny parts"):
            await _body(response, 2**30)
        assert read < 300_000


async def test_a_short_body_may_come_byte_by_byte():
    """Some networks do that, and an entry has fewer bytes."""

    async def parts():
        for _ in range(1000):
            yield b" "

    assert await _body(httpx.Response(200, content=parts()), 2**20) == b" " * 1000

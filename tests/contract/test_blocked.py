"""Blocked images: what every cache does with them, on every transport and storage."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from imgcache_scrapy import BlockedError, InvalidRequestError, NotFoundError

UNKNOWN_HASH = "0" * 64


def hash_of(data):
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def test_a_blocked_image_is_not_stored(client, site, picture):
    """A store of its bytes raises BlockedError, and nothing is recorded, until it is unblocked."""
    data = picture()
    before = datetime.now(UTC)
    blocked = client.block(file_bytes=data, reason="no image")
    assert blocked["content_hash"] == hash_of(data)
    assert blocked["reason"] == "no image"
    assert before <= datetime.fromisoformat(blocked["created_at"]) <= datetime.now(UTC)
    with pytest.raises(BlockedError, match="unblock") as refused:
        client.store(f"{site}/a.png", data, "me")
    assert (refused.value.code, refused.value.status) == ("blocked", 403)
    assert client.lookup(f"{site}/a.png") is None
    assert client.get_meta(hash_of(data)) is None
    client.unblock(hash_of(data))
    assert "blocked" not in client.store(f"{site}/a.png", data, "me")


def test_a_blocked_image_of_the_cache_stays_and_is_marked(client, site, picture, bucket):
    """It is not deleted; every entry of it says that it is blocked, until it is unblocked."""
    url, data = f"{site}/a.png", picture()
    stored = client.store(url, data, "me", bucket=bucket)
    client.block(stored["content_hash"])
    entries = [
        client.lookup(url),
        client.lookup_many([url])[url],
        client.get_meta(hash_of(data)),
        client.search(site)[0],
        client.similar(stored["perceptual_hash"], 0, bucket=bucket)[0],
    ]
    assert [entry["blocked"] for entry in entries] == [True] * 5
    assert client.get_bytes(hash_of(data)) == data
    with pytest.raises(BlockedError):
        client.store(f"{site}/other.png", data, "me", bucket=bucket)
    client.unblock(hash_of(data))
    assert "blocked" not in client.lookup(url)


def test_a_blocked_image_that_is_deleted_does_not_come_back(
    client_setup, client, site, picture, bucket
):
    """After a delete, its bytes are refused, and no blob of it is left."""
    data = picture()
    client.store(f"{site}/a.png", data, "me", bucket=bucket)
    client.block(hash_of(data))
    client.delete(hash_of(data), bucket=bucket)
    with pytest.raises(BlockedError):
        client.store(f"{site}/a.png", data, "me", bucket=bucket)
    assert client_setup.blobs.sizes([hash_of(data)]) == {hash_of(data): None}


def test_the_list_of_blocked_images_is_newest_first(client, picture):
    """Blocking an image again replaces its reason, and keeps its place."""
    first, second = hash_of(picture()), hash_of(picture())
    client.block(first, reason="one")
    client.block(second, reason="two")
    renewed = client.block(first, reason="ü ✓")
    listed = [each for each in client.blocked() if each["content_hash"] in {first, second}]
    assert [each["content_hash"] for each in listed] == [second, first]
    assert listed[1] == renewed
    assert renewed["reason"] == "ü ✓"
    (newest,) = client.blocked(limit=1)
    assert newest["content_hash"] != first
    for content_hash in (first, second):
        client.unblock(content_hash)
    assert not {first, second} & {each["content_hash"] for each in client.blocked()}


def test_unblocking_what_is_not_blocked_raises_not_found(client):
    """`unblock` says that there is no such block."""
    with pytest.raises(NotFoundError, match="not blocked"):
        client.unblock(UNKNOWN_HASH)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"content_hash": "abc"}, {"file_bytes": b""}, {"file_bytes": "text"},
     {"content_hash": UNKNOWN_HASH, "file_bytes": b"a"},
     {"content_hash": UNKNOWN_HASH, "reason": "a\0"}, {"content_hash": UNKNOWN_HASH, "reason": 5}],
    ids=str,
)  # fmt: skip
def test_wrong_arguments_are_refused(client, arguments):
    """There must be either a hash or bytes, and the reason is a text."""
    with pytest.raises(InvalidRequestError):
        client.block(**arguments)


def test_one_blocked_image_among_many_stores_fails_alone(client_setup, site, picture):
    """Stores that run at the same time succeed, except for that of the blocked image."""
    pictures = [picture() for _ in range(8)]
    with client_setup.open_client() as client:
        client.block(file_bytes=pictures[3])
        if client_setup.name.endswith("async"):
            results = [_store(client, f"{site}/{n}.png", data) for n, data in enumerate(pictures)]
        else:
            with ThreadPoolExecutor(8) as threads:
                urls = [f"{site}/{n}.png" for n in range(8)]
                results = list(threads.map(_store, [client] * 8, urls, pictures))
        assert [type(each) for each in results] == [dict] * 3 + [BlockedError] + [dict] * 4


def _store(client, url, data):
    try:
        return client.store(url, data, "me")
    except BlockedError as error:
        return error


def test_images_under_many_unrelated_urls_are_suggested(client, site, picture, bucket):
    """An image is suggested for 10 paths, not for 10 hosts or 10 queries of one path."""
    placeholder, mirrored, versioned = picture(), picture(), picture()
    for n in range(10):
        host = f"{site}{n % 2}"
        client.store(f"{host}/product-{n}.png?v=1", placeholder, "me", bucket=bucket)
        client.store(f"{site}{n}/a.png", mirrored, "me", bucket=bucket)
        client.store(f"{site}/b.png?n={n}", versioned, "me", bucket=bucket)
    (found,) = client.suggest_blocked(bucket=bucket)
    assert found["content_hash"] == hash_of(placeholder)
    assert (found["paths"], found["hosts"]) == (10, 2)
    client.block(found["content_hash"])
    assert client.suggest_blocked(bucket=bucket) == []


def test_a_blocked_image_is_not_claimed(client, site, picture):
    """A claim of its hash raises BlockedError, whether the cache has the image or not."""
    known, unknown = picture(), picture()
    client.store(f"{site}/a.png", known, "me")
    for data in (known, unknown):
        client.block(file_bytes=data)
        with pytest.raises(BlockedError):
            client.claim(f"{site}/b.png", hash_of(data), "me")
    assert client.lookup(f"{site}/b.png") is None

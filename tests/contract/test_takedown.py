"""What every cache can take down: captures that meet filters, for good if they are blocked."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from imgcache_scrapy import (
    BlockedError,
    CountChangedError,
    InvalidRequestError,
    NotFoundError,
)
from imgcache_scrapy.client.takedown import actor
from imgcache_scrapy.core.keys import cache_key

DAY = datetime(2026, 1, 30, tzinfo=UTC)
NOTHING = {"captures": 0, "images": 0, "bytes": 0}


def store_three(client, host, bucket, picture):
    """Store three captures on three days: two hosts, two clients, two buckets."""
    rows = [
        (f"http://{host}/first.png", "me", DAY, bucket),
        (f"http://other-{host}/second.png", "you", DAY + timedelta(days=1), bucket),
        (f"http://{host}/third.png", "me", DAY + timedelta(days=2), f"{bucket}-2"),
    ]
    return [
        client.store(url, picture(), name, time, bucket=where) for url, name, time, where in rows
    ]


FILTERS = [
    ({"url": "http://HOST/first.png#part"}, [0]),
    ({"url": "http://HOST/first.png", "bucket": "BUCKET-2"}, []),
    ({"host": "HOST"}, [0, 2]),
    ({"host": "HOST", "before": DAY + timedelta(days=1)}, [0]),
    ({"key": "http://HOST/third.png"}, [2]),
    ({"before": DAY + timedelta(days=1), "until": DAY, "host": "HOST"}, []),
    ({"url_contains": "HOST/", "all_captures": True}, [0, 1, 2]),
    ({"bucket": "BUCKET"}, [0, 1]),
    ({"client_name": "you", "url_contains": "HOST"}, [1]),
    ({"until": DAY + timedelta(days=2), "url_contains": "HOST"}, [0, 1]),
    ({"host": "HOST", "content_type": "jpeg"}, []),
]
"""Filters, and which of the captures of `store_three` meet them."""


def test_captures_that_meet_all_filters_are_deleted(client, client_setup, picture):
    """A dry run counts what the takedown deletes; the others stay, with their bytes."""
    for filters, expected in FILTERS:
        host, bucket = f"{uuid4().hex}.example", uuid4().hex
        given = {
            name: each.replace("HOST", host).replace("BUCKET", bucket)
            if isinstance(each, str) else each
            for name, each in filters.items()
        }  # fmt: skip
        stored = store_three(client, host, bucket, picture)
        gone = [stored[number] for number in expected]
        counts = {
            "captures": len(gone),
            "images": len(gone),
            "bytes": sum(each["file_size_bytes"] for each in gone),
        }
        assert client.delete_captures(dry_run=True, **given) == counts, filters
        assert client.count(url_contains=host)["captures"] == 3
        assert client.delete_captures(**given) == counts, filters
        left = [each["content_hash"] for each in stored if each not in gone]
        assert {each["content_hash"] for each in client.list(url_contains=host)} == set(left)
        hashes = [each["content_hash"] for each in stored]
        sizes = client_setup.blobs.sizes(hashes)
        assert [name for name in hashes if sizes[name] is not None] == left
        assert client.delete_captures(**given) == NOTHING


def test_other_captures_of_the_same_bytes_stay(client, client_setup, picture, bucket):
    """Bytes go with their last capture: another URL, or another bucket, keeps them."""
    host, data = f"{uuid4().hex}.example", picture()
    stored = client.store(f"http://{host}/a.png", data, "me", bucket=bucket)
    client.store(f"http://other-{host}/a.png", data, "me", bucket=bucket)
    assert client.delete_captures(host=host) == NOTHING | {"captures": 1}
    assert client.lookup(f"http://{host}/a.png") is None
    assert client.get_bytes(stored["content_hash"]) == data
    counts = {"captures": 1, "images": 1, "bytes": len(data)}
    assert client.delete_captures(host=f"other-{host}") == counts
    with pytest.raises(NotFoundError):
        client.get_bytes(stored["content_hash"])
    assert client_setup.blobs.sizes([stored["content_hash"]]) == {stored["content_hash"]: None}


WRONG = [
    {}, {"dry_run": True}, {"host": ""}, {"url": ""}, {"url_contains": ""}, {"client_name": ""},
    {"content_type": ""}, {"min_bytes": 0}, {"host": "", "bucket": ""}, {"hots": "a"},
    {"before": "yesterday"}, {"key": ""}, {"key": 5},
    {"host": "a", "url_contains": ""}, {"block": True},
]  # fmt: skip


def test_without_a_filter_nothing_is_deleted(client, client_setup, picture, bucket):
    """No filter, or an empty one, is refused; only the bucket may be the empty text."""
    client.store("http://a.example/a.png", picture(), "me", bucket=bucket)
    for arguments in WRONG:
        try:
            client.delete_captures(**arguments)
        except InvalidRequestError:
            continue
        pytest.fail(f"{arguments} were accepted")
    with client_setup.open_client(bucket=bucket) as own, pytest.raises(InvalidRequestError):
        own.delete_captures()
    assert client.count(bucket=bucket)["captures"] == 1
    assert client.delete_captures(bucket="", host="nowhere.example") == NOTHING
    assert client.delete_captures(bucket="", dry_run=True)["captures"] >= 0


def test_the_bucket_of_a_client_is_a_filter(client_setup, client, picture, bucket):
    """A client with a bucket deletes only in it, also if all captures are meant."""
    host = f"{uuid4().hex}.example"
    store_three(client, host, bucket, picture)
    with client_setup.open_client(bucket=bucket) as own:
        assert own.delete_captures(host=host)["captures"] == 1
        assert own.delete_captures(all_captures=True)["captures"] == 1
    (left,) = client.list(url_contains=host)
    assert left["bucket"] == f"{bucket}-2"


def test_another_number_than_expected_is_refused(client, picture, bucket):
    """`expected` is the count of the dry run: if it has changed, nothing is deleted."""
    client.store("http://a.example/a.png", picture(), "me", bucket=bucket)
    with pytest.raises(CountChangedError, match="1 captures now, not 2"):
        client.delete_captures(bucket=bucket, expected=2)
    assert client.delete_captures(bucket=bucket, expected=1)["captures"] == 1


@pytest.mark.parametrize("kind", ["host", "url"])
def test_a_blocked_host_or_url_does_not_come_back(client, picture, bucket, kind):
    """Stores and claims of it are refused, in every bucket, until it is unblocked."""
    host, data = f"{uuid4().hex}.example", picture()
    url = f"http://{host}/a.png?b=1&a=2"
    given = {"host": host.upper()} if kind == "host" else {"url": url}
    client.store(url, data, "me", bucket=bucket)
    assert client.delete_captures(block=True, **given)["captures"] == 1
    other = client.store(f"http://other-{host}/a.png", data, "me", bucket=bucket)
    listed = next(each for each in client.blocked() if each.get(kind))
    assert listed[kind] == {"host": host, "url": cache_key(url)}[kind]
    assert listed["content_hash"] is None
    for call in (
        lambda: client.store(url, data, "me"),
        lambda: client.claim(url, other["content_hash"], "me"),
        lambda: client.store(f"http://{uuid4().hex}/b.png", data, "me", final_url=url),
    ):
        with pytest.raises(BlockedError, match="unblock"):
            call()
    assert client.lookup(url) is None
    if kind == "url":
        assert client.store(f"http://{host}/b.png", data, "me", bucket=bucket)
    client.unblock(**given)
    assert client.store(url, data, "me", bucket=bucket)["url"] == url
    with pytest.raises(NotFoundError, match="not blocked"):
        client.unblock(**given)
    assert not [each for each in client.blocked() if each.get(kind) == listed[kind]]


def test_a_host_has_several_spellings(client, picture, bucket):
    """What a takedown blocks by one spelling, it deletes, and another spelling allows it again."""
    name = uuid4().hex
    url = f"http://ü{name}.example:8080/a.png"
    client.store(url, picture(), "me", bucket=bucket)
    assert len(client.list(host=f"Ü{name}.EXAMPLE")) == 1
    with pytest.raises(InvalidRequestError, match="without a scheme, a port or a path"):
        client.delete_captures(host=f"ü{name}.example:8080", block=True)
    assert client.delete_captures(host=f"ü{name}.example", block=True)["captures"] == 1
    with pytest.raises(BlockedError):
        client.store(url, picture(), "me", bucket=bucket)
    client.unblock(host=f"Ü{name}.example")
    client.store(url, picture(), "me", bucket=bucket)


def test_another_filter_blocks_the_deleted_images(client, picture, bucket):
    """Images whose last capture goes are blocked by their bytes; those that stay are not."""
    host, gone, stays = f"{uuid4().hex}.example", picture(), picture()
    entries = [
        client.store(f"http://{host}/a.png", gone, "me", bucket=bucket),
        client.store(f"http://{host}/b.png", stays, "me", bucket=bucket),
    ]
    client.store("http://b.example/b.png", stays, "me", bucket=bucket)
    counts = client.delete_captures(url_contains=f"{host}/", block=True)
    assert (counts["captures"], counts["images"]) == (2, 1)
    with pytest.raises(BlockedError):
        client.store("http://c.example/c.png", gone, "me", bucket=bucket)
    assert client.store(f"http://{host}/b.png", stays, "me", bucket=bucket)
    listed = {each["content_hash"]: each for each in client.blocked()}
    assert host in listed[entries[0]["content_hash"]]["reason"]
    assert entries[1]["content_hash"] not in listed
    client.unblock(entries[0]["content_hash"])
    assert client.store(f"http://{host}/a.png", gone, "me", bucket=bucket)


def test_each_act_is_in_the_audit_list(client, picture, bucket):
    """Who did what to what, when, and what it deleted; the newest act is the first."""
    host, data, before = f"{uuid4().hex}.example", picture(), datetime.now(UTC)
    entry = client.store(f"http://{host}/a.png", data, "me", bucket=bucket)
    its_hash, counts = entry["content_hash"], {"captures": 1, "images": 1, "bytes": len(data)}
    client.delete(its_hash, bucket=bucket)
    client.store(f"http://{host}/a.png", data, "me", bucket=bucket)
    client.delete_captures(host=host, before=datetime(2999, 1, 1, tzinfo=UTC), block=True)
    client.unblock(its_hash)
    client.block(its_hash)
    client.delete_captures(host=host, block=True)
    client.unblock(host=host)
    client.unblock(its_hash)
    filters = {"host": host, "until": "2999-01-01T00:00:00+00:00", "block": True}
    expected = [
        ("unblock", {"content_hash": its_hash}, NOTHING),
        ("unblock", {"host": host}, NOTHING),
        ("take_down", {"host": host, "block": True}, NOTHING),
        ("block", {"content_hash": its_hash}, NOTHING),
        ("unblock", {"content_hash": its_hash}, NOTHING),
        ("take_down", filters, counts),
        ("delete", {"content_hash": its_hash, "bucket": bucket}, counts),
    ]
    found = client.audit(limit=len(expected))
    for each, (act, what, deleted) in zip(found, expected, strict=True):
        assert (each["act"], each["filter"]) == (act, what)
        assert {name: each[name] for name in NOTHING} == deleted
        assert each["actor"] == actor()
        assert before <= datetime.fromisoformat(each["done_at"]) <= datetime.now(UTC)
    assert client.audit()[: len(found)] == found

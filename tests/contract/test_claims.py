"""What every cache must do with a claim: a capture of known bytes, without sending them."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient, InvalidRequestError, NotFoundError
from imgcache_scrapy.core.entry import content_hash_of
from tests.contract.test_contract import BAD_URLS, MALFORMED

DAY = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_claim_records_the_url(client, site, bucket, picture):
    """The URL is a hit in the bucket of the claim, with the entry that the claim returned."""
    data = picture()
    stored = client.store(f"{site}/a.png", data, "me")
    entry = client.claim(f"{site}/b.png", content_hash_of(data), "you", DAY, bucket=bucket)
    assert entry.pop("created") is False
    assert entry == client.lookup(f"{site}/b.png", bucket=bucket)
    assert client.lookup(f"{site}/a.png", bucket=bucket) is None
    assert client.get_bytes(entry["content_hash"], bucket=bucket) == data
    changed = {name for name in entry if entry[name] != stored[name]}
    assert changed == {
        *("url", "key", "client_name", "lookup_time", "created_at", "bucket", "original_filename")
    }


def test_a_claim_keeps_what_the_site_said(client, site, picture):
    """Key, file name, headers, final URL and `Accept` are kept as by a store."""
    content_hash = client.store(f"{site}/a", picture(), "me")["content_hash"]
    options = {
        "headers": {"ETag": '"1"', "vary": ["Accept"], "Server": "x"},
        "final_url": f"{site}/end",
        "accept": "image/webp",
    }
    client.claim(f"{site}/b?sig=1", content_hash, "me", None, "b.png", key=f"{site}/b", **options)
    found = client.lookup(f"{site}/b?sig=2", key=f"{site}/b", accept="image/webp")
    assert (found["url"], found["key"]) == (f"{site}/b?sig=1", f"{site}/b")
    assert found["headers"] == {"ETag": '"1"', "Vary": "Accept"}
    assert (found["final_url"], found["original_filename"]) == (f"{site}/end", "b.png")
    assert client.lookup(f"{site}/b", accept="image/png") is None


def test_a_claim_of_the_same_image_renews_the_capture(client, site, picture):
    """The capture gets the time and the headers of the claim, and stays one."""
    url, before = f"{site}/a", client.stats()["captures"]
    stored = client.store(url, picture(), "me", DAY, headers={"ETag": '"1"'})
    renewed = client.claim(url, stored["content_hash"], "me")
    assert renewed["lookup_time"] > stored["lookup_time"]
    assert renewed["created_at"] == stored["created_at"]
    assert renewed["headers"] == {"ETag": '"1"'}
    assert client.lookup(url)["lookup_time"] == renewed["lookup_time"]
    claimed = client.claim(url, stored["content_hash"], "me", headers={"ETag": '"2"'})
    assert claimed["headers"] == client.lookup(url)["headers"] == {"ETag": '"2"'}
    assert client.stats()["captures"] == before + 1


def test_unknown_bytes_cannot_be_claimed(client, site):
    """Nothing is recorded."""
    assert client.claim(f"{site}/a", content_hash_of(site.encode()), "me") is None
    assert client.lookup(f"{site}/a") is None


def test_a_deleted_image_cannot_be_claimed(client, site, picture):
    """After the last capture is deleted, the bytes are gone."""
    content_hash = client.store(f"{site}/a", picture(), "me")["content_hash"]
    client.delete(content_hash)
    assert client.claim(f"{site}/b", content_hash, "me") is None


def test_a_damaged_image_cannot_be_claimed(client, client_setup, site, picture):
    """None asks for the bytes; after the next store, a claim works again."""
    data = picture()
    content_hash = client.store(f"{site}/a", data, "me")["content_hash"]
    client_setup.blobs.put(content_hash, bytes(len(data)))
    with pytest.raises(NotFoundError):
        client.get_bytes(content_hash)
    assert client.claim(f"{site}/b", content_hash, "me") is None
    client.store(f"{site}/a", data, "me")
    assert client.claim(f"{site}/b", content_hash, "me")["url"] == f"{site}/b"


@pytest.mark.parametrize("size", [None, 10])
def test_an_image_without_its_bytes_cannot_be_claimed(client, client_setup, site, picture, size):
    """Each claim looks whether the blob is there, and has the right size."""
    data = picture()
    content_hash = client.store(f"{site}/a", data, "me")["content_hash"]
    client_setup.blobs.delete(content_hash)
    if size is not None:
        client_setup.blobs.put(content_hash, data[:size])
    assert client.claim(f"{site}/b", content_hash, "me") is None
    assert client.lookup(f"{site}/b") is None


def test_a_claim_checks_its_arguments(client, site):
    """A malformed hash, a bad URL or an impossible time is an error, whether known or not."""
    unknown = content_hash_of(b"")
    for content_hash in [*MALFORMED, None]:
        with pytest.raises(InvalidRequestError):
            client.claim(f"{site}/a", content_hash, "me")
    for url in BAD_URLS.values():
        with pytest.raises(InvalidRequestError):
            client.claim(url, unknown, "me")
    with pytest.raises(InvalidRequestError):
        client.claim(f"{site}/a", unknown, "me", "yesterday")


def test_a_claim_creates_no_cache(tmp_path):
    """A folder without a cache has no bytes, and stays as it is."""
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        assert client.claim("http://a.example/", uuid4().hex * 2, "me") is None
    assert not (tmp_path / "cache").exists()

"""What every cache must do with keys: a URL with another signature is the same picture."""

from datetime import UTC, datetime

import pytest

from imgcache_scrapy.core.keys import cache_key


def signed(site, number):
    """Return the URL of one picture with one of many signatures."""
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=20260101T000000Z"
    signature = f"X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={number:064x}"
    return f"{site}/a.jpg?{query}&{signature}"


@pytest.fixture
def old(client, site, picture):
    """Store the picture under its first signature, and return the entry."""
    return client.store(signed(site, 1), picture(), "me", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_lookup_finds_another_signature(client, site, old):
    """Lookups compare the key; the entry has the URL that was fetched."""
    assert (old["url"], old["key"]) == (signed(site, 1), f"{site}/a.jpg")
    assert cache_key(signed(site, 2)) == f"{site}/a.jpg"
    found = client.lookup(signed(site, 2))
    assert (found["url"], found["content_hash"]) == (signed(site, 1), old["content_hash"])
    urls = [signed(site, 3), f"{site}/a.jpg", f"{site}/b.jpg", signed(site, 1)]
    assert client.lookup_many(urls) == {url: found for url in urls if not url.endswith("b.jpg")}


def test_a_store_of_another_signature_renews_the_capture(client, site, old):
    """The capture has the newest URL then, and search reads that one."""
    data = client.get_bytes(old["content_hash"])
    client.store(signed(site, 2), data, "me")
    assert [entry["url"] for entry in client.history(signed(site, 3))] == [signed(site, 2)]
    assert [entry["url"] for entry in client.search(f"{site}/")] == [signed(site, 2)]
    assert client.search(signed(site, 1)) == []


def test_a_claim_of_another_signature_renews_the_capture(client, site, old):
    """Claims know keys as stores do."""
    entry = client.claim(signed(site, 2), old["content_hash"], "me")
    assert (entry["url"], entry["key"]) == (signed(site, 2), f"{site}/a.jpg")
    assert entry["created_at"] == old["created_at"]
    assert [each["url"] for each in client.captures(old["content_hash"])] == [signed(site, 2)]


def test_a_key_of_ones_own_is_compared(client, site, picture):
    """Store, claim, lookup and history may name a key; the default one is not used then."""
    key, url = f"{site}/own?key", signed(site, 1)
    stored = client.store(url, picture(), "me", key=key)
    assert (stored["url"], stored["key"]) == (url, key)
    assert client.lookup(url) is None
    assert client.lookup(f"{site}/other", key=key)["url"] == url
    assert client.claim(f"{site}/other", stored["content_hash"], "me", key=key)["key"] == key
    assert len(client.history(f"{site}/x", key=key)) == 1
    assert client.history(url) == []

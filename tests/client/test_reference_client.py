"""The published `dwilson-imgcache-client`, unchanged, with our service on each storage."""

from datetime import UTC, datetime
from uuid import uuid4

import httpx
import imgcache_client
import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from tests.contract.test_keys import signed
from tests.support.clients import ENTRY_TYPES
from tests.support.waiting import PATIENCE


@pytest.fixture
def url(site):
    """Return a URL that a cache key would change."""
    return f"{site}/ü a.png?size=1&x=2"


@pytest.fixture
def cat(photos):
    """Return a picture whose bytes no other test stores."""
    return photos["cat.png"] + uuid4().bytes


@pytest.fixture(params=["shared_service", "shared_postgresql_service"])
def service_url(request):
    """Return the URL of a cache on SQLite and files, or on PostgreSQL and an object store."""
    return request.getfixturevalue(request.param).url


@pytest.fixture
def reference(service_url):
    """Open the reference client, which records the status codes in `statuses`."""
    with imgcache_client.ImgCacheClient(service_url) as client:
        client.statuses = []
        client._client.event_hooks = {
            "response": [lambda response: client.statuses.append(response.status_code)]
        }
        yield client


def test_store_answers_201_for_new_images_and_200_for_known_ones(reference, site, cat):
    """A store answers 201 for a new image and 200 for a known one, with the entry."""
    first = reference.store(f"{site}/a", cat, "me")
    second = reference.store(f"{site}/b", cat, "me")
    assert reference.statuses == [201, 200]
    assert first["content_hash"] == second["content_hash"] == content_hash_of(cat)
    assert (first["width"], first["height"]) == (320, 213)


def test_an_entry_has_every_documented_key(reference, url, cat):
    """An entry has the eleven fields of the reference, with their types."""
    entry = reference.store(url, cat, "me")
    types = {key: kind for key, kind in ENTRY_TYPES.items() if key != "bucket"}
    assert {key: type(entry[key]) for key in types} == types
    assert reference.get_meta(entry["content_hash"]).keys() >= types.keys()


def test_an_image_comes_back(reference, url, photos):
    """Bytes, metadata and lookup agree with what was stored, and the URL keeps its spelling."""
    data = photos["pagoda.webp"] + uuid4().bytes
    entry = reference.store(url, data, "me", filename="mine.webp")
    assert entry["url"] == url
    assert entry["original_filename"] == "mine.webp"
    assert reference.get_bytes(entry["content_hash"]) == data
    found = reference.lookup(url)
    assert found == reference.get_meta(entry["content_hash"])
    assert found["content_type"] == "image/webp"


def test_a_miss_is_none_or_an_http_error(reference, url):
    """Lookup and metadata return None for a miss; bytes raise the reference's own error."""
    assert reference.lookup(url) is None
    assert reference.get_meta("0" * 64) is None
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        reference.get_bytes("0" * 64)


def test_lookup_times_are_kept(reference, url):
    """A naive time is taken as UTC, and lookup returns the newest capture."""
    for day in (2, 3, 1):
        data = f"{url} {day}".encode()
        aware = datetime(2025, 1, day, tzinfo=UTC)
        entry = reference.store(url, data, "me", lookup_time=aware.replace(tzinfo=None))
        assert datetime.fromisoformat(entry["lookup_time"]) == aware
    assert reference.get_bytes(reference.lookup(url)["content_hash"]) == f"{url} 3".encode()


def test_search_and_similar(reference, site, cat, photos):
    """Search finds the image by a part of its URL, similar by its perceptual hash."""
    entry = reference.store(f"{site}/cat", cat, "me", site)
    other = reference.store(f"{site}/sun", photos["sunset.jpg"], "me", site)
    assert [found["url"] for found in reference.search(f"{site}/c")] == [f"{site}/cat"]
    found = reference.similar(entry["perceptual_hash"], max_hamming_distance=0, bucket=site)
    assert [one["content_hash"] for one in found] == [entry["content_hash"]]
    everywhere = {one["content_hash"] for one in reference.similar(entry["perceptual_hash"])}
    assert entry["content_hash"] in everywhere
    assert other["content_hash"] not in everywhere
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        reference.similar("no hash")


def test_delete(reference, url, cat):
    """A deleted image is a miss, and cannot be deleted again."""
    entry = reference.store(url, cat, "me")
    assert reference.delete(entry["content_hash"]) is None
    assert reference.lookup(url) is None
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        reference.delete(entry["content_hash"])


def test_buckets(reference, site, url, cat):
    """A bucket is a name space; the default is "", and all buckets for reads by URL."""
    entry = reference.store(url, cat, "me", "mine")
    assert entry["bucket"] == "mine"
    assert reference.lookup(url) == reference.lookup(url, bucket="mine")
    assert reference.lookup(url, bucket="other") is None
    assert reference.search(site, bucket="other") == []
    assert reference.get_meta(entry["content_hash"]) is None
    assert reference.get_bytes(entry["content_hash"], bucket="mine") == cat
    reference.delete(entry["content_hash"], bucket="mine")
    assert reference.lookup(url) is None


def test_health(reference):
    """The service reports its health as the reference expects."""
    assert reference.health()["status"] == "ok"


def test_serve_url_shows_the_picture(reference, url, cat):
    """A browser can open the URL that the reference creates."""
    content_hash = reference.store(url, cat, "me", "mine")["content_hash"]
    answer = httpx.get(
        reference.serve_url(content_hash, bucket="mine"), trust_env=False, timeout=PATIENCE
    )
    assert (answer.status_code, answer.content) == (200, cat)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_both_clients_share_a_service(reference, service_url, site, cat):
    """Each client finds the images that the other one stored under a plain URL."""
    with ImgCacheClient(service_url) as ours:
        reference.store(f"{site}/theirs", cat, "me")
        ours.store(f"{site}/ours", cat, "me")
        assert ours.get_bytes(ours.lookup(f"{site}/theirs")["content_hash"]) == cat
        assert reference.lookup(f"{site}/ours")["client_name"] == "me"


def test_another_signature_is_a_hit(reference, service_url, site, cat):
    """The client knows no keys: the service computes them, for its lookups and for ours."""
    stored = reference.store(signed(site, 1), cat, "me")
    assert (stored["url"], stored["key"]) == (signed(site, 1), f"{site}/a.jpg")
    assert reference.lookup(signed(site, 2))["url"] == signed(site, 1)
    assert [found["url"] for found in reference.search(signed(site, 1))] == [signed(site, 1)]
    with ImgCacheClient(service_url) as ours:
        assert ours.lookup(signed(site, 3))["url"] == signed(site, 1)
        assert len(ours.history(signed(site, 3))) == 1
        ours.store(f"{site}/x", cat, "me", key=f"{site}/own key")
    assert reference.lookup(f"{site}/own key") is not None
    assert reference.lookup(f"{site}/x") is None

"""Our clients, blocking and awaited, with the service that the reference client was written for.

The strict service refuses unknown parameters, so that our clients must not depend on them.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import imgcache_client
import pytest

from imgcache_scrapy import ImgCacheError, InvalidRequestError, NotFoundError, ProtocolError
from tests.contract.test_keys import signed
from tests.support.clients import ClientSetup
from tests.support.reference_service import serving
from tests.support.waiting import PATIENCE

UNKNOWN_HASH = "0" * 64


@pytest.fixture(scope="module")
def strict_service():
    """Serve a cache that refuses unknown parameters, for all tests of this module."""
    with serving(strict=True) as url:
        yield url


@pytest.fixture(scope="module")
def lenient_service():
    """Serve a cache that ignores unknown parameters, for all tests of this module."""
    with serving(strict=False) as url:
        yield url


@pytest.fixture(params=["reference", "reference-async"])
def client_setup(request, strict_service, tmp_path):
    """Return the strict service for a blocking or awaited client; each test has its own site."""
    with asyncio.Runner() as runner:
        yield ClientSetup(request.param, strict_service, tmp_path, runner.run)


@pytest.fixture
def lenient_client(client_setup, lenient_service):
    """Open a client of the service that ignores unknown parameters."""
    client_setup.address = lenient_service
    with client_setup.open_client() as client:
        yield client


def test_the_reference_client_works_with_the_imitation(strict_service, site, picture):
    """The imitation serves every call of the published reference client."""
    with imgcache_client.ImgCacheClient(strict_service) as reference:
        stored = reference.store(f"{site}/a", picture(), "me", site, datetime.now(UTC), "a.png")
        content_hash = stored["content_hash"]
        assert reference.lookup(f"{site}/a", site) == reference.get_meta(content_hash, site)
        assert reference.search(site, site) == [stored]
        assert reference.similar(stored["perceptual_hash"], 0, site) == [stored]
        assert len(reference.get_bytes(content_hash, site)) == stored["file_size_bytes"]
        reference.delete(content_hash, site)
        assert reference.lookup(f"{site}/a") is None


def test_an_image_is_stored_and_comes_back(client, site, photos):
    """Entry, lookup, metadata and bytes agree; the HTTP status tells whether the image is new."""
    data, when = photos["cat.png"] + site.encode(), datetime(2025, 1, 2, tzinfo=UTC)
    stored = client.store(f"{site}/ü a.png", data, "me", when)
    assert stored.pop("created") is True
    assert stored["url"] == f"{site}/%C3%BC%20a.png"
    assert (stored["width"], stored["height"]) == (320, 213)
    assert (stored["client_name"], stored["original_filename"]) == ("me", "ü a.png")
    assert stored["lookup_time"].startswith("2025-01-02T00:00:00")
    assert client.lookup(f"{site}/ü a.png") == stored
    assert client.get_meta(stored["content_hash"]) == stored
    assert client.get_bytes(stored["content_hash"]) == data


def test_a_404_of_fastapi_is_a_miss(client, site):
    """A 404 of FastAPI has the same effect as one of ours: None, no entry, or `NotFoundError`."""
    assert client.lookup(f"{site}/none") is None
    assert client.lookup_many([f"{site}/none"]) == {}
    assert client.get_meta(UNKNOWN_HASH) is None
    assert client.search(site) == []
    for call in (client.get_bytes, client.delete):
        with pytest.raises(NotFoundError, match="Image not found"):
            call(UNKNOWN_HASH)


def test_lookup_gives_the_newest_capture(client, site):
    """Of several images under one URL, lookup returns the one with the latest lookup time."""
    for day in (2, 3, 1):
        data = f"{site} {day}".encode()
        client.store(f"{site}/a", data, "me", datetime(2025, 1, day, tzinfo=UTC))
    assert client.get_bytes(client.lookup(f"{site}/a")["content_hash"]) == f"{site} 3".encode()


def test_a_second_url_of_known_bytes_is_a_miss(client, site):
    """The service keeps only the first URL of an image: the store succeeds, the URL is a miss."""
    first = client.store(f"{site}/first", site.encode(), "me")
    second = client.store(f"{site}/second", site.encode(), "me")
    assert second == first | {"created": False}
    assert client.lookup(f"{site}/second") is None
    assert client.lookup_many([f"{site}/first", f"{site}/second"]).keys() == {f"{site}/first"}


def test_lookup_many_works_without_the_batch_call(client, site):
    """Without the batch call, the client finds every hit by single lookups."""
    urls = [f"{site}/ü{number}" for number in range(40)]
    for url in urls[:20]:
        client.store(url, url.encode(), "me")
    for _ in range(2):
        found = client.lookup_many(urls)
        assert list(found) == urls[:20]
        assert [client.get_bytes(found[url]["content_hash"]) for url in urls[:3]] == [
            url.encode() for url in urls[:3]
        ]


def test_a_long_url_is_looked_up(client, site):
    """A long URL works in the query of a single lookup."""
    url = f"{site}/{'a' * 5000}"
    client.store(url, site.encode(), "me")
    assert client.lookup(url)["url"] == url


def test_search_finds_every_url(client, site):
    """Search finds entries by a part of the URL; entries need no bucket."""
    for name in ("a", "b"):
        client.store(f"{site}/{name}", f"{site}/{name}".encode(), "me")
    assert {entry["url"] for entry in client.search(f"{site}/")} == {f"{site}/a", f"{site}/b"}


def test_the_client_adds_the_distance_to_similar_images(client, site, picture):
    """The service returns neither a distance nor an order; the client adds both."""
    stored = [client.store(f"{site}/{n}", picture(), "me", bucket=site) for n in range(8)]
    hashes = [entry["perceptual_hash"] for entry in stored]
    wanted = hashes[5]
    found = client.similar(wanted, 64, bucket=site)
    distances = [(int(one, 16) ^ int(wanted, 16)).bit_count() for one in hashes]
    assert [entry["distance"] for entry in found] == sorted(distances)
    assert found[0]["url"] == f"{site}/5"
    assert [entry["url"] for entry in client.similar(wanted, 0, bucket=site)] == [f"{site}/5"]


def test_the_client_applies_the_limit(lenient_client, site, picture):
    """The client applies a limit that the service ignores, and keeps the nearest images."""
    for number in range(5):
        lenient_client.store(f"{site}/{number}", picture(), "me", bucket=site)
    wanted = lenient_client.lookup(f"{site}/4")["perceptual_hash"]
    assert len(lenient_client.search(site, limit=2)) == 2
    (nearest,) = lenient_client.similar(wanted, 64, bucket=site, limit=1)
    assert (nearest["url"], nearest["distance"]) == (f"{site}/4", 0)


def test_buckets_are_separate(client, client_setup, site):
    """The bucket of the call or of the client is a name space, as with our own service."""
    content_hash = client.store(f"{site}/a", site.encode(), "me", bucket=site)["content_hash"]
    assert client.lookup(f"{site}/a")["content_hash"] == content_hash
    assert client.lookup(f"{site}/a", bucket="other") is None
    assert client.get_meta(content_hash) is None
    with client_setup.open_client(bucket=site) as own:
        assert own.get_bytes(content_hash) == site.encode()
        assert own.lookup_many([f"{site}/a"]).keys() == {f"{site}/a"}


def test_a_deleted_image_is_gone(client, site):
    """A deleted image is a miss, and cannot be deleted again."""
    content_hash = client.store(f"{site}/a", site.encode(), "me")["content_hash"]
    assert client.delete(content_hash) is None
    assert client.lookup(f"{site}/a") is None
    with pytest.raises(NotFoundError):
        client.delete(content_hash)


def test_health_and_serve_url_work(client, site, photos):
    """Health and the URL for a browser work as with the reference client."""
    assert client.health() == {"status": "ok"}
    data = photos["cat.png"] + site.encode()
    content_hash = client.store(f"{site}/a", data, "me", bucket=site)["content_hash"]
    answer = httpx.get(
        client.serve_url(content_hash, bucket=site), trust_env=False, timeout=PATIENCE
    )
    assert (answer.content, answer.headers["content-type"]) == (data, "image/png")


def test_a_refusal_is_an_invalid_request(client):
    """FastAPI's list of errors raises InvalidRequestError, as our own problem documents do."""
    with pytest.raises(InvalidRequestError, match="limit"):
        client.search("a", limit=1)


def test_stats_fails_without_its_route(client):
    """`stats` is the only call without a substitute on this service."""
    with pytest.raises(ImgCacheError):
        client.stats()


def test_times_have_an_offset(client, site):
    """The service returns times without an offset, and the client marks them as UTC."""
    moment = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    stored = client.store(f"{site}/a", site.encode(), "me", moment)
    assert datetime.fromisoformat(stored["lookup_time"]) == moment
    assert datetime.fromisoformat(client.lookup(f"{site}/a")["created_at"]).tzinfo == UTC


def test_a_search_gives_one_entry_per_url_newest_first(client, site):
    """The service returns all entries unsorted; the client selects and sorts them."""
    moment = datetime(2025, 1, 2, tzinfo=UTC)
    for number, (name, day) in enumerate([("a", 1), ("b", 3), ("a", 4), ("c", 2)]):
        data = f"{site} {number}".encode()
        client.store(f"{site}/{name}", data, "me", moment + timedelta(days=day))
    found = client.search(site)
    assert [(entry["url"][-1], entry["lookup_time"][8:10]) for entry in found] == [
        ("a", "06"),
        ("b", "05"),
        ("c", "04"),
    ]


def test_the_service_gets_keys_as_urls(client, site):
    """It compares URLs: so it is given the key, and another signature is a hit there, too."""
    data = site.encode()
    stored = client.store(signed(site, 1), data, "me")
    assert (stored["url"], stored["key"]) == (f"{site}/a.jpg", f"{site}/a.jpg")
    assert client.lookup(signed(site, 2))["content_hash"] == stored["content_hash"]
    found = client.lookup_many([signed(site, 2), signed(site, 3), f"{site}/b"])
    assert list(found) == [signed(site, 2), signed(site, 3)]
    assert [entry["url"] for entry in client.search(f"{site}/")] == [f"{site}/a.jpg"]
    assert client.search(signed(site, 1)) == []


def test_a_key_of_ones_own_is_the_url(client, site):
    """The service stores and finds it, whatever it looks like."""
    key = f"{site}/own?b&a"
    assert client.store(signed(site, 1), site.encode(), "me", key=key)["url"] == key
    assert client.lookup(f"{site}/other", key=key)["key"] == key
    assert client.lookup(signed(site, 1)) is None


def test_what_the_site_said_is_not_sent(client, site):
    """The service has no fields for it, and would refuse them."""
    options = {"headers": {"ETag": "1", "Vary": "Accept"}, "final_url": f"{site}/b"}
    stored = client.store(f"{site}/a", site.encode(), "me", accept="image/webp", **options)
    assert "headers" not in stored
    assert client.lookup(f"{site}/a", accept="image/png")["content_hash"] == stored["content_hash"]


def test_there_are_no_claims(client, site):
    """A claim records nothing, so that the bytes are sent."""
    content_hash = client.store(f"{site}/a", site.encode(), "me")["content_hash"]
    for _ in range(2):
        assert client.claim(f"{site}/b", content_hash, "me") is None
    assert client.lookup(f"{site}/b") is None


def test_there_are_no_histories(client, lenient_client, site):
    """The error says that the service is another one; it is no empty history."""
    content_hash = client.store(f"{site}/a", site.encode(), "me")["content_hash"]
    for each in (client, lenient_client):
        with pytest.raises(ProtocolError, match="no /images/history: it is another implementation"):
            each.history(signed(site, 1))
        with pytest.raises(ProtocolError, match="no /images/history"):
            each.history(f"{site}/a", limit=1, bucket="x")
        with pytest.raises(ProtocolError, match="no /images/captures"):
            each.captures(content_hash)


def test_a_service_without_blocks_says_so(client):
    """Also `unblock` tells that the route is missing, not that the image is not blocked."""
    for call in (client.block, client.unblock):
        with pytest.raises(ProtocolError, match="no /blocked"):
            call(UNKNOWN_HASH)

"""Large images over a service: a claim comes first, so that known bytes are not sent."""

import asyncio
import json
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from imgcache_scrapy import (
    AsyncImgCacheClient,
    ImgCacheClient,
    InvalidRequestError,
    ProtocolError,
    UnavailableError,
)
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.response_info import ResponseInfo
from tests.client.test_resilience import Crawl
from tests.support.proxy import Proxy
from tests.support.reference_service import serving

LARGE = 64 * 2**10
JSON = {"Content-Type": "application/json"}
CLAIM, CLAIMS = ("POST", "/images/claim"), ("POST", "/images/claims")
STORE = ("POST", "/images")
ASKS_FOR_KEYS = ("POST", "/images/lookup")


def body_of(size):
    """Return new bytes that begin like an image."""
    # Digits, because a random comma would begin a frame, of a size that may make it a bomb.
    return b"GIF89a" + bytes(size - 38) + uuid4().hex.encode()


@pytest.fixture
def proxy(shared_service):
    """A proxy in front of a service."""
    proxy = Proxy(shared_service.url)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.endurance)])
async def test_known_pictures_move_few_bytes(proxy, site, count):
    """Stores of pictures of 200 KB that the service knows move less than 2 KB each."""
    bodies = [body_of(200_000) for _ in range(10)]
    async with AsyncImgCacheClient(proxy.url, None) as client:
        for number, data in enumerate(bodies):
            await client.store(f"{site}/old/{number}", data, "me")
        before = proxy.moved
        assert before > 10 * 200_000
        stores = (
            client.store(f"{site}/{number}", bodies[number % 10], "me") for number in range(count)
        )
        entries = await asyncio.gather(*stores)
        assert proxy.moved - before < count * 2000
        assert not any(entry["created"] for entry in entries)
        found = await client.lookup_many(f"{site}/{number}" for number in range(count))
    assert len(found) == count


def test_only_large_images_are_claimed_first(proxy, site):
    """An unknown image is sent after its claim; a small one is sent at once."""
    with ImgCacheClient(proxy.url) as client:
        assert client.store(f"{site}/a", body_of(LARGE), "me")["created"] is True
        assert client.store(f"{site}/b", body_of(LARGE - 1), "me")["created"] is True
    assert proxy.asked == [ASKS_FOR_KEYS, CLAIMS, STORE, STORE]


def test_a_service_without_claims_is_asked_once(site):
    """The reference service has no such route: each image is sent, and claims record nothing."""
    with serving(strict=True) as url:
        proxy = Proxy(url)
        with ImgCacheClient(proxy.url) as client:
            for number in range(3):
                entry = client.store(f"{site}/{number}", body_of(LARGE), "me")
                assert entry["created"] is True
            assert client.claim(f"{site}/a", entry["content_hash"], "me") is None
            assert client.claim(f"{site}/a", entry["content_hash"], "me") is None
        assert proxy.asked == [ASKS_FOR_KEYS, STORE, STORE, STORE, CLAIM]
        proxy.close()


@pytest.mark.parametrize("status", [404, 405])
async def test_a_route_that_is_missing_is_told_from_missing_bytes(status, site):
    """Bytes that are missing do not end the claims; a route that is missing does."""
    asked = []

    def answer(request):
        if request.url.path == ASKS_FOR_KEYS[1]:
            return httpx.Response(200, json={"entries": {}, "failures": {}})
        asked.append((request.method, request.url.path))
        is_claim = request.url.path == CLAIMS[1]
        if is_claim and len(asked) == 1:
            return httpx.Response(200, json={"entries": [None]})
        return httpx.Response(status if is_claim else 503, text="<h1>Not here</h1>")

    transport = httpx.MockTransport(answer)
    async with AsyncImgCacheClient("http://cache", transport=transport) as client:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await client.store(f"{site}/a", body_of(LARGE), "me")
    assert asked == [CLAIMS, STORE, CLAIMS, STORE, STORE]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_claims_that_are_refused_cost_no_image(shared_service, site, status):
    """The refusal is one for all claims of a request; each image is sent, and judged alone."""

    async def answer(request):
        if request.url.path == CLAIMS[1]:
            return httpx.Response(status, json={"detail": "Payload Too Large"})
        async with httpx.AsyncClient(trust_env=False) as http:
            url, content = f"{shared_service.url}{request.url.path}", await request.aread()
            found = await http.post(url, content=content, headers=request.headers)
        return httpx.Response(found.status_code, json=found.json())

    transport = httpx.MockTransport(answer)
    async with AsyncImgCacheClient("http://cache", transport=transport) as client:
        entries = await asyncio.gather(
            *(client.store(f"{site}/{number}", body_of(LARGE), "me") for number in range(3))
        )
    assert all(entry["created"] for entry in entries)


@pytest.mark.parametrize("wrong", ["content_hash", "key"])
async def test_an_entry_of_something_else_is_no_claim(shared_service, site, wrong):
    """A claim is answered with the entry of its own image and key."""
    values = {"content_hash": "ab" * 32, "key": f"{site}/other"}

    async def answer(request):
        if request.url.path == ASKS_FOR_KEYS[1]:
            return httpx.Response(200, json={"entries": {}, "failures": {}})
        async with httpx.AsyncClient(trust_env=False) as http:
            url = f"{shared_service.url}{request.url.path}"
            found = await http.post(url, content=request.content, headers=request.headers)
        (entry,) = found.json()["entries"]
        return httpx.Response(200, json={"entries": [entry | {wrong: values[wrong]}]})

    data = body_of(LARGE)
    with ImgCacheClient(shared_service.url) as client:
        client.store(f"{site}/a", data, "me")
    transport = httpx.MockTransport(answer)
    async with AsyncImgCacheClient("http://cache", transport=transport) as client:
        with pytest.raises(ProtocolError, match=wrong):
            await client.store(f"{site}/b", data, "me")


async def test_claim_and_upload_have_one_deadline(site):
    """Each of the two is fast enough alone, but together they take longer than a call may."""
    asked = []

    async def answer(request):
        if request.url.path == ASKS_FOR_KEYS[1]:
            return httpx.Response(200, json={"entries": {}, "failures": {}})
        asked.append((request.method, request.url.path))
        await asyncio.sleep(0.9)
        return httpx.Response(200, json={"entries": [None]})

    transport = httpx.MockTransport(answer)
    async with AsyncImgCacheClient("http://cache", 1.0, transport=transport) as client:
        with pytest.raises(UnavailableError, match="within"):
            await client.store(f"{site}/a", body_of(LARGE), "me")
    assert asked == [CLAIMS, STORE]


@asynccontextmanager
async def known_image(proxy, site):
    """Open a crawl that has stored an image; yield the crawl, its URL and its entry."""
    url = ImageUrl.of(f"{site}/a?v=1")
    async with Crawl(proxy, None) as crawl:
        entry, _ = await crawl.cache.store(url, body_of(100), "me")
        yield crawl, url, entry


async def test_a_crawl_renews_a_capture_without_its_bytes(proxy, site):
    """The capture gets the time of the call, and what the site said."""
    async with known_image(proxy, site) as (crawl, url, entry):
        response = ResponseInfo.of(url.url, {"ETag": '"1"'})
        renewed = await crawl.cache.renew(url, entry, "me", response)
        assert renewed["lookup_time"] > entry["lookup_time"]
        assert renewed["headers"] == {"ETag": '"1"'}
        found = await crawl.cache.lookup_many([url])
        assert found.entries[url]["lookup_time"] == renewed["lookup_time"]


async def test_an_image_that_is_gone_cannot_be_renewed(proxy, site):
    """None tells the crawl to fetch the image again."""
    async with known_image(proxy, site) as (crawl, url, entry):
        await crawl.client.delete(entry["content_hash"], bucket="")
        assert await crawl.cache.renew(url, entry, "me") is None
    assert crawl.counted == []


async def test_a_cache_that_fails_renews_nothing(proxy, site):
    """The entry stays as it is; the failures are counted, and open the breaker."""
    async with known_image(proxy, site) as (crawl, url, entry):
        proxy.fault = "error"
        for _ in range(5):
            assert await crawl.cache.renew(url, entry, "me") == entry
        proxy.fault = None
    assert crawl.counted == ["error/unavailable"] * 3


async def test_a_service_without_claims_renews_nothing(site):
    """The reference service has the image: the crawl must not fetch it again."""
    with serving(strict=True) as address:
        proxy = Proxy(address)
        async with known_image(proxy, site) as (crawl, url, entry):
            for _ in range(2):
                assert await crawl.cache.renew(url, entry, "me") == entry
            assert crawl.counted == []
        assert proxy.asked.count(CLAIM) == 1
        proxy.close()


def test_claims_are_counted_as_duplicates(service, site):
    """The metrics count a claim that records a capture, and no other one."""
    data = body_of(100)
    with ImgCacheClient(service.url) as client:
        client.store(f"{site}/a", data, "me")
        client.claim(f"{site}/b", content_hash_of(data), "me")
        client.claim(f"{site}/b", content_hash_of(b""), "me")
    metrics = httpx.get(f"{service.url}/metrics", trust_env=False).text
    assert 'imgcache_store_total{result="created"} 1.0' in metrics
    assert 'imgcache_store_total{result="duplicate"} 1.0' in metrics


def test_a_claim_that_is_no_json_is_refused(shared_service):
    """The answer is a problem that names the field."""
    route = f"{shared_service.url}/images/claim"
    valid = {"url": "http://a.example/", "content_hash": "ab" * 32, "client_name": "me"}
    for body, word in [
        ("[]", "object"),
        ("{", "JSON"),
        *((json.dumps({k: v for k, v in valid.items() if k != name}), name) for name in valid),
        (json.dumps({**valid, "lookup_time": 5}), "a time must look like"),
        (json.dumps({**valid, "headers": {"ETag": 1}}), "headers.ETag"),
    ]:
        answer = httpx.post(route, content=body, headers=JSON, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert word in answer.json()["detail"]


@pytest.mark.parametrize("headers", [["ETag"], 5, {"ETag": None}, {"ETag": [b"1"]}, {1: "ETag"}])
def test_headers_that_are_none_are_refused(shared_service, tmp_path, headers):
    """On every road, headers are a mapping of names to texts or to lists of texts."""
    for address in (shared_service.url, str(tmp_path / "cache")):
        with ImgCacheClient(address) as client, pytest.raises(InvalidRequestError, match="header"):
            client.claim("http://h.example/a", "0" * 64, "me", headers=headers)


def test_any_text_is_a_url_of_a_claim(shared_service, site):
    """Over REST a text that cannot be read as a URL is its own key, as in a store."""
    with ImgCacheClient(shared_service.url) as client:
        stored = client.store(f"{site}/a", body_of(100), "me")
    for url in (f"http://[{site}", f"http://h.example:port/{site}"):
        fields = {"url": url, "content_hash": stored["content_hash"], "client_name": "me"}
        claimed = httpx.post(f"{shared_service.url}/images/claim", json=fields, trust_env=False)
        data = {"url": url, "client_name": "me"}
        files = {"file": ("a", body_of(100))}
        posted = httpx.post(f"{shared_service.url}/images", data=data, files=files, trust_env=False)
        assert (claimed.status_code, posted.status_code) == (200, 201)
        assert claimed.json()["key"] == posted.json()["key"] == url


def test_a_client_has_a_name(shared_service, tmp_path):
    """On every road, an empty name is refused before anything is stored."""
    for address in (shared_service.url, str(tmp_path / "cache")):
        with ImgCacheClient(address) as client:
            with pytest.raises(InvalidRequestError, match="name must not be empty"):
                client.store("http://h.example/a", b"GIF89a", "")
            with pytest.raises(InvalidRequestError, match="name must not be empty"):
                client.claim("http://h.example/a", "0" * 64, "")


async def test_an_answer_with_too_few_entries_is_refused(site):
    """Each claim of a batch has its own place in the answer."""

    def answer(request):
        is_lookup = request.url.path == ASKS_FOR_KEYS[1]
        body = {"entries": {}, "failures": {}} if is_lookup else {"entries": []}
        return httpx.Response(200, json=body)

    transport = httpx.MockTransport(answer)
    async with AsyncImgCacheClient("http://cache", transport=transport) as client:
        with pytest.raises(ProtocolError, match="each claim"):
            await client.store(f"{site}/a", body_of(LARGE), "me")


async def test_a_capture_in_the_spool_is_renewed(proxy, site, tmp_path):
    """The cache works again, but has not the image yet: it is stored, and not fetched again."""
    url = ImageUrl.of(f"{site}/a?v=1")
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        entry, is_spooled = await crawl.cache.store(url, body_of(100), "me")
        assert is_spooled
        proxy.fault = None
        renewed = await crawl.cache.renew(url, entry, "me")
        assert renewed["lookup_time"] > entry["lookup_time"]
        assert (await crawl.client.lookup(url.url, bucket=""))["lookup_time"] == renewed[
            "lookup_time"
        ]

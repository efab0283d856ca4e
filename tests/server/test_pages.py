"""Answers have bounds: long lists come in pages, and lookups do not wait for costly searches."""

import asyncio
import re
from statistics import quantiles
from time import perf_counter

import httpx
import psutil
import pytest

from imgcache_scrapy import ImgCacheClient
from tests.benchmarks.services import fill
from tests.support.proxy import Proxy
from tests.support.service import Service, http_client
from tests.support.waiting import PATIENCE

ZERO = "0" * 16
KNOWN = [f"http://h.example/{number}.png" for number in range(20)]
ROUTES = {
    "search": ("/images/search", {"url_contains": "jpg"}),
    "similar": ("/images/similar", {"perceptual_hash": ZERO, "max_hamming_distance": 64}),
}


@pytest.fixture(scope="module", params=[5_000, pytest.param(300_000, marks=pytest.mark.endurance)])
def captures(request):
    """Return the number of captures."""
    return request.param


@pytest.fixture(scope="module")
def large_service(tmp_path_factory, captures):
    """Serve a cache with many captures, each of another image."""
    service = Service(tmp_path_factory.mktemp("large") / "service")
    service.folder.mkdir()
    fill(
        f"sqlite:///{service.folder / 'catalog.sqlite3'}",
        (service.folder / "blobs").as_uri(),
        captures,
    )
    service.start()
    # These have bytes, so that they are hits; the others would be found to have lost theirs.
    with ImgCacheClient(service.url, PATIENCE) as client:
        for url in KNOWN:
            client.store(url, url.encode(), "me")
    yield service
    service.stop()


def next_address(answer):
    """Return the address of the next page; None if there is none."""
    if "link" not in answer.headers:
        return None
    match = re.fullmatch(r'<([^>]*)>; rel="next"', answer.headers["link"])
    assert match, answer.headers["link"]
    return match[1]


@pytest.mark.parametrize("route", ROUTES)
def test_a_long_list_comes_in_pages(large_service, captures, route):
    """Each answer has at most 1,000 entries and the address of the next page, up to the last."""
    path, query = ROUTES[route]
    with http_client(large_service.url) as http:
        answer = http.get(path, params=query)
        found = answer.json()
        assert (type(found), len(found)) == (list, 1000)
        assert len(answer.content) < 2**20
        for _ in range(4):
            answer = http.get(next_address(answer))
            found += answer.json()
        assert len({entry["url"] for entry in found}) == 5000
        if captures == 5000:
            assert next_address(answer) is None
        if route == "similar":
            order = [(entry["distance"], entry["content_hash"]) for entry in found]
            assert order == sorted(order)
            assert order[0][0] < order[-1][0]
        for limit in (1, 50, 1000):
            few = http.get(path, params=query | {"limit": limit})
            assert few.json() == found[:limit]
            assert next_address(few)
        assert len(http.get(path, params=query | {"limit": 10**9}).json()) == 1000


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "after", ["", "x", "1", "-1_-1", "1_1 ", "9" * 20 + "_1", "99_" + "G" * 64]
)
def test_a_wrong_position_is_a_422(http, route, after):
    """A position that is not from an address of ours is refused."""
    path, query = ROUTES[route]
    answer = http.get(path, params=query | {"after": after})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "after" in answer.json()["detail"]


def test_our_client_follows_the_pages(large_service, captures):
    """Without a limit it returns all entries, and with a small limit it sends one request."""
    proxy = Proxy(large_service.url)
    with ImgCacheClient(proxy.url, PATIENCE) as client:
        for call, arguments in ((client.search, ["jpg"]), (client.similar, [ZERO, 64])):
            for limit, requests in ((1, 1), (1000, 1), (1001, 2), (2500, 3)):
                proxy.asked.clear()
                assert len(call(*arguments, limit=limit)) == limit
                assert len(proxy.asked) == requests
            if call == client.search or captures == 5000:
                found = call(*arguments)
                assert len({entry["url"] for entry in found}) == len(found) == captures
    proxy.close()


@pytest.mark.parametrize("route", ROUTES)
async def test_lookups_do_not_wait_for_costly_reads(large_service, captures, route):
    """While eight callers make costly reads, lookups are answered fast, in bounded memory."""
    path, query = ROUTES[route]
    memory = psutil.Process(large_service.process.pid).memory_info
    before = memory().rss
    latencies = []
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(
        base_url=large_service.url, trust_env=False, timeout=PATIENCE, limits=limits
    ) as client:

        async def read():
            address, params = path, query | ({"limit": 1} if route == "similar" else {})
            for _ in range(5):
                answer = await client.get(address, params=params)
                assert 1 <= len(answer.json()) <= 1000
                address, params = next_address(answer), None

        readers = [asyncio.create_task(read()) for _ in range(8)]
        while not all(reader.done() for reader in readers):
            url = KNOWN[len(latencies) % len(KNOWN)]
            start = perf_counter()
            assert (await client.get("/images/lookup", params={"url": url})).status_code == 200
            latencies.append(perf_counter() - start)
            await asyncio.sleep(0.005)
        await asyncio.gather(*readers)
    assert memory().rss - before < 100 * 2**20
    if captures == 300_000:
        assert quantiles(latencies, n=100)[-1] <= 0.05

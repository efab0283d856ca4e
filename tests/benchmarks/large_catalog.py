"""Measure lookups and searches in a large catalog, in this process and over HTTP."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from random import Random
from typing import Any

from imgcache_scrapy.engine.cache import ImageCache
from tests.benchmarks.load import load, percentiles, raw
from tests.benchmarks.services import LONG_URL, fill, fill_history, service
from tests.support import lists

LIMIT = 50
Times = dict[str, tuple[float, float]]


def make_queries(captures: int, count: int) -> dict[str, list[str]]:
    """Return the queries: URLs to look up and parts of URLs to search, `count` of each kind."""
    numbers = [Random(0).randrange(captures) for _ in range(count)]
    sites = min(1000, captures)
    return {
        "lookup, known": [f"https://{n % 1000}.example/{n}.jpg" for n in numbers],
        "lookup, unknown": [f"https://{n % 1000}.example/{n}.png" for n in numbers],
        "lookup, long history": [LONG_URL] * count,
        "search, in one URL": [f"/{n}.jpg" for n in numbers],
        "search, in one of 1,000": [f"//{n % sites}.example" for n in numbers],
        "search, in all (http)": ["http"] * count,
        "search, in all (example)": ["example"] * count,
        "search, in none": [f"none-{n}" for n in numbers],
    }


def measure(
    folder: Path, database_url: str, sizes: tuple[int, int], count: int, loads: Executor
) -> dict[str, Times]:
    """Fill a catalog, and measure queries to it.

    Args:
        folder: the folder of the service; its blobs stay empty. It is created if missing.
        database_url: URL of the catalog.
        sizes: number of captures to add, and number of captures of one more URL.
        count: number of queries of each kind.
        loads: sends the HTTP requests, one at a time.

    Returns:
        For each kind of query and each path (engine or HTTP), median and 99th percentile in ms.
    """
    folder.mkdir(exist_ok=True)
    captures, history = sizes
    blobs_url = (folder / "blobs").as_uri()
    fill(database_url, blobs_url, captures)
    fill_history(database_url, LONG_URL, history)
    queries = make_queries(captures, count)
    found: dict[str, Times] = {kind: {} for kind in queries}
    cache = ImageCache(database_url, blobs_url)
    for kind, texts in queries.items():
        found[kind]["engine"] = percentiles(_timed(_call(cache, kind), texts))
    cache.close()
    options = ["--database", database_url, "--blobs", blobs_url]
    with service(folder, *options) as (url, _):
        port = int(url.rpartition(":")[2])
        for kind, texts in queries.items():
            requests = [_request(kind, text) for text in texts]
            measured = loads.submit(load, port, requests, 1).result()
            assert set(measured.statuses) <= {200, 404}, measured.statuses
            found[kind]["HTTP"] = percentiles(measured.latencies)
    return found


def table(found: dict[str, Times]) -> str:
    """Return the times as text, in milliseconds."""
    lines = [f"{'':26}{'path':22}{'p50 ms':>10}{'p99 ms':>10}"]
    for kind, times in found.items():
        for path, (p50, p99) in times.items():
            lines.append(f"{kind:26}{path:22}{p50:10.2f}{p99:10.2f}")
    return "\n".join(lines)


def _call(cache: ImageCache, kind: str) -> Callable[[str], Any]:
    if kind.startswith("lookup"):
        return lambda url: cache.catalog.lookup_many([url])
    return lambda part: lists.search(cache.catalog, part, limit=LIMIT)


def _request(kind: str, text: str) -> bytes:
    if kind.startswith("lookup"):
        return raw("GET", "/images/lookup", params={"url": text})
    return raw("GET", "/images/search", params={"url_contains": text, "limit": LIMIT})


def _timed(call: Callable[[str], Any], texts: list[str]) -> list[float]:
    call(texts[0])
    seconds = []
    for text in texts:
        start = time.perf_counter()
        call(text)
        seconds.append(time.perf_counter() - start)
    return seconds

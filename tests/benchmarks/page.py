"""Measure the page of a service with a large catalog: `python tests/benchmarks/page.py`.

Each page is asked for again and again, over one connection to an otherwise idle service. The state
page is asked for while the service adds up its sums, and when they are ready. The figures are
medians and 99th percentiles, in milliseconds.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from html import unescape
from pathlib import Path
from random import Random
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parents[2]))

from imgcache_scrapy.core.entry import content_hash_of
from tests.benchmarks.load import load, percentiles, raw
from tests.benchmarks.services import LONG_URL, fill, fill_history, service

LIMIT = 200
"""Maximum median, in milliseconds."""
LONG_HISTORY = 10_000
DEEP_PAGES = 20


def make_requests(url: str, images: int, count: int) -> dict[str, list[bytes]]:
    """Return the requests for each kind of page, `count` of each.

    Args:
        url: the address of the service.
        images: the number of images in its catalog.
        count: the number of requests.
    """
    numbers = [Random(0).randrange(images) for _ in range(count)]
    names = [content_hash_of(str(number).encode()) for number in numbers]

    def searches(*parts: str) -> list[bytes]:
        return [raw("GET", "/", params={"url_contains": part}) for part in parts]

    return {
        "first screen": [raw("GET", "/")] * count,
        f"page {DEEP_PAGES}": [raw("GET", deep_page(url))] * count,
        "search, in one URL": searches(*(f"/{number}.jpg" for number in numbers)),
        "search, in all": searches(*["example"] * count),
        "search, in none": searches(*(f"none-{number}" for number in numbers)),
        "host": [raw("GET", "/", params={"host": f"{n % 1000}.example"}) for n in numbers],
        "damaged": [raw("GET", "/", params={"state": "damaged"})] * count,
        "not decoded": [raw("GET", "/", params={"state": "not_decoded"})] * count,
        "picture": [raw("GET", f"/ui/images/{name}") for name in names],
        "compare": [raw("GET", "/ui/compare", params={"a": name, "b": names[0]}) for name in names],
        "history, 10,000": [raw("GET", "/ui/history", params={"url": LONG_URL})] * count,
    }


def deep_page(url: str) -> str:
    """Return the path of a page far down in the grid."""
    path = "/"
    for _ in range(DEEP_PAGES):
        with urlopen(url + path) as answer:
            found = re.search(r'rel="next" href="([^"]+)"', answer.read().decode())
        path = unescape(found[1]) if found else path
    return path


def measure(folder: Path, images: int, count: int) -> dict[str, tuple[float, float]]:
    """Fill a catalog, and measure the pages that show it.

    Args:
        folder: the folder of the service.
        images: the number of images.
        count: the number of requests of each kind.

    Returns:
        Median and 99th percentile of each kind of page, in milliseconds. "sums" is the time until
        the state page has them.
    """
    cache = folder / "imgcache"
    cache.mkdir()
    database_url, blobs_url = f"sqlite:///{cache / 'catalog.sqlite3'}", (cache / "blobs").as_uri()
    fill(database_url, blobs_url, images)
    fill_history(database_url, LONG_URL, LONG_HISTORY)
    found = {}
    with service(folder) as (url, _):
        port = int(url.rpartition(":")[2])
        for kind, requests in make_requests(url, images, count).items():
            measured = load(port, requests, 1)
            assert set(measured.statuses) == {200}, (kind, measured.statuses)
            found[kind] = percentiles(measured.latencies)
        state = [raw("GET", "/ui/state")] * count
        start = time.perf_counter()
        found["state, adding up"] = percentiles(load(port, state, 1).latencies)
        while b"Growth by day" not in urlopen(f"{url}/ui/state").read():
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        found["state"] = percentiles(load(port, state, 1).latencies)
    found["sums"] = (1000 * seconds, 1000 * seconds)
    return found


def table(found: dict[str, tuple[float, float]]) -> str:
    """Return the times as text."""
    lines = [f"{'':22}{'p50 ms':>10}{'p99 ms':>10}"]
    lines += [f"{kind:22}{p50:10.1f}{p99:10.1f}" for kind, (p50, p99) in found.items()]
    slowest = max(p50 for kind, (p50, _) in found.items() if kind != "sums")
    return "\n".join([*lines, f"slowest median: {slowest:.1f} ms of {LIMIT}"])


def main() -> None:
    """Measure the pages and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=30, help="of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.images, options.requests)
    sys.stdout.write(table(found) + "\n")
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()

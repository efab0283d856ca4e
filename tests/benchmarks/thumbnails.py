"""Measure the thumbnails of a service: `python tests/benchmarks/thumbnails.py`.

Each thumbnail is asked for twice, one after the other over one connection to an otherwise idle
service: first it is made, then it is found. The figures are medians and 99th percentiles, in
milliseconds. The last line compares stores while another program asks for new thumbnails without a
pause with stores alone, in turns; it is the median of the rounds.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from imgcache_scrapy.core.entry import content_hash_of
from tests.benchmarks.load import load, percentiles, raw
from tests.benchmarks.origin import photograph
from tests.benchmarks.services import service

# Kind, width, height, and the largest median of a thumbnail that is made, in milliseconds.
KINDS = {
    "JPEG, 0.5 MP": ("JPEG", 800, 600, 20),
    "JPEG, 1 MP": ("JPEG", 1150, 860, 20),
    "WebP, 1 MP": ("WEBP", 1150, 860, 20),
    "PNG, 0.2 MP": ("PNG", 500, 400, 20),
    "JPEG, 12 MP": ("JPEG", 4000, 3000, 150),
    "JPEG, 24 MP": ("JPEG", 6000, 4000, 150),
}
"""The kinds of pictures."""
FOUND_LIMIT = 3
"""Largest median of a thumbnail that was made before, in milliseconds."""

_numbers = count()


def pictures(kind: str, number: int) -> Iterator[bytes]:
    """Yield different files of one picture of a kind."""
    format_name, width, height, _ = KINDS[kind]
    file = BytesIO()
    source = Image.open(BytesIO(photograph(1, (1200, 900), 90)))
    source.resize((width, height)).save(file, format_name, quality=85)
    for _ in range(number):
        # Decoders read nothing behind the end of the picture.
        yield file.getvalue() + next(_numbers).to_bytes(8, "big")


def store_request(data: bytes) -> bytes:
    """Return the request that stores a picture."""
    form = {"url": f"http://h.example/{content_hash_of(data)}", "client_name": "benchmark"}
    return raw("POST", "/images", data=form, files={"file": ("f", data)})


def thumbnail_request(data: bytes) -> bytes:
    """Return the request for the thumbnail of a picture."""
    return raw("GET", f"/thumbnails/{content_hash_of(data)}")


def measure(port: int, number: int) -> dict[str, list[float]]:
    """Measure each kind; return median and 99th percentile, made and found."""
    measured = {}
    for kind in KINDS:
        data = list(pictures(kind, number + 2))
        load(port, map(store_request, data), 1)
        # The first ones start the child program.
        load(port, map(thumbnail_request, data[:2]), 1)
        requests = [thumbnail_request(each) for each in data[2:]]
        made, found = load(port, requests, 1), load(port, requests, 1)
        assert set(made.statuses) == set(found.statuses) == {200}
        measured[kind] = [*percentiles(made.latencies), *percentiles(found.latencies)]
    return measured


def slowdown(port: int, number: int, rounds: int) -> float:
    """Return the time of stores beside thumbnails, as a multiple of that of stores alone."""
    ratios = []
    with ProcessPoolExecutor(1, get_context("forkserver")) as other:
        for _ in range(rounds):
            alone, beside, shown = (list(pictures("JPEG, 0.5 MP", number)) for _ in range(3))
            load(port, map(store_request, shown), 1)
            seconds = load(port, map(store_request, alone), 4).seconds
            requests = [thumbnail_request(each) for each in shown]
            thumbnails = other.submit(load, port, requests, 4)
            ratios.append(load(port, map(store_request, beside), 4).seconds / seconds)
            thumbnails.result()
    return median(ratios)


def table(measured: dict[str, list[float]], ratio: float) -> str:
    """Return the figures as text."""
    lines = [
        f"{'':16}{'made: p50':>12}{'p99':>9}{'limit':>7}{'found: p50':>12}{'p99':>9}{'limit':>7}"
    ]
    for kind, (made, made_99, found, found_99) in measured.items():
        limit = KINDS[kind][-1]
        lines.append(
            f"{kind:16}{made:12.1f}{made_99:9.1f}{limit:7}{found:12.1f}{found_99:9.1f}"
            f"{FOUND_LIMIT:7}"
        )
    return "\n".join([*lines, f"stores beside new thumbnails take {ratio:.2f} times as long"])


def main() -> None:
    """Measure the thumbnails and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50, help="of each kind")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison of stores")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as (url, _):
        port = int(url.rpartition(":")[2])
        measured = measure(port, options.images)
        ratio = slowdown(port, 4 * options.images, options.rounds)
    sys.stdout.write(table(measured, ratio) + "\n")
    if options.json:
        options.json.write_text(json.dumps({"times": measured, "stores": ratio}))


if __name__ == "__main__":
    main()

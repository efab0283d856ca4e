"""Measure the parts of one store: `python tests/benchmarks/store.py`.

Each part is measured alone, for pictures of about 50 KB, 500 KB and 5 MB. The figures are medians
of the rounds in milliseconds, with shares of a whole store through the embedded client.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from imgcache_scrapy import AsyncImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.rows import Capture, Image
from imgcache_scrapy.engine.decoding.decoder import Decoder
from tests.benchmarks.origin import numbered, photograph
from tests.benchmarks.services import service

# Width and height in pixels, quality.
SIZES = {
    "50 KB": ((800, 600), 77),
    "500 KB": ((2600, 1950), 84),
    "5 MB": ((8400, 6300), 95),
}
WHOLE = "whole store, embedded client"


def parts(
    client: AsyncImgCacheClient, served: AsyncImgCacheClient, folder: Path, run: Callable
) -> dict[str, Callable[[bytes, str], object]]:
    """Return the parts of a store: each part takes a picture and a new URL."""
    blobs, decoder = FileBlobs(folder / "blobs"), Decoder()
    catalog = Catalog(f"sqlite:///{folder / 'catalog.sqlite3'}")
    cache = ImageCache(f"sqlite:///{folder / 'cache.sqlite3'}", (folder / "b").as_uri())

    def commit(data: bytes, url: str) -> None:
        name = content_hash_of(url.encode())
        image = Image(name, "image/jpeg", len(data), 800, 600, name[:16])
        with catalog.exclusive([name]) as writing:
            writing.record([(image, Capture(url, "", "me", None, datetime.now(UTC)))])

    def multipart(data: bytes, url: str) -> bytes:
        fields = {"url": url, "client_name": "me", "bucket": ""}
        return httpx.Request("POST", "http://h/images", data=fields, files={"file": data}).read()

    return {
        "hash": lambda data, _: content_hash_of(data),
        "decode, in the child program": lambda data, _: decoder.decode(data),
        "blob: write, sync, rename, sync": lambda data, url: blobs.put(
            content_hash_of(url.encode()), data
        ),
        "catalog: one commit": commit,
        "engine: all of these": lambda data, url: cache.store(url, data, "me"),
        WHOLE: lambda data, url: run(client.store(url, data, "me")),
        "multipart form, made": multipart,
        "whole store, over the service": lambda data, url: run(served.store(url, data, "me")),
    }


def measure(rounds: int, sizes: list[str]) -> dict[str, dict[str, float]]:
    """Measure every part at every size, interleaved.

    Returns:
        Milliseconds of each part, for each size.
    """
    found: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory() as temporary,
        service(Path(temporary)) as (url, _),
        asyncio.Runner() as runner,
    ):
        folder = Path(temporary)
        clients = AsyncImgCacheClient(str(folder / "embedded")), AsyncImgCacheClient(url)
        timed = parts(*clients, folder, runner.run)
        for size in sizes:
            picture = photograph(1, *SIZES[size])
            seconds: dict[str, list[float]] = {name: [] for name in timed}
            for number in range(rounds + 1):
                data = numbered(picture, number)
                for name, part in timed.items():
                    start = time.perf_counter()
                    part(data, f"http://h.example/{size}/{name}/{number}".replace(" ", "-"))
                    if number:  # the first round warms up
                        seconds[name].append(time.perf_counter() - start)
            found[f"{size} ({len(picture) // 1000} kB)"] = {
                name: 1000 * median(values) for name, values in seconds.items()
            }
        for client in clients:
            runner.run(client.aclose())
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the medians as text."""
    lines = ["".ljust(34) + "".join(size.rjust(24) for size in found)]
    for name in next(iter(found.values())):
        cells = (f"{m[name]:.2f} ms {m[name] / m[WHOLE]:6.0%}" for m in found.values())
        lines.append(name.ljust(34) + "".join(cell.rjust(24) for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Measure the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", action="append", choices=SIZES)
    options = parser.parse_args()
    sys.stdout.write(table(measure(options.rounds, options.size or list(SIZES))) + "\n")


if __name__ == "__main__":
    main()

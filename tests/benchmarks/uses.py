"""Measure queries for the uses of images in a large catalog: `python tests/benchmarks/uses.py`.

Fill a catalog with uses by bulk inserts, on SQLite and on PostgreSQL, then print the median and the
99th percentile of each kind of query, and the time for each use of a batch that is recorded.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.core.times import microseconds
from imgcache_scrapy.core.uses import NewUse
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.use_rows import use_row
from tests.benchmarks.load import percentiles
from tests.benchmarks.services import fill
from tests.support.servers import PostgreSQLServer

USES_PER_IMAGE = 5
IMAGES_PER_PAGE = 10
USES_PER_JOB = 50_000
_ROWS_PER_INSERT = 20_000
_BATCH_SIZE = 250


def use_of(number: int, images: int) -> NewUse:
    """Return the use of a number: each image is on some pages, and each page has some images."""
    image = number % images
    url = f"https://{image % 1000}.example/{image}.jpg"
    values = {
        "content_hash": content_hash_of(str(image).encode()),
        "page_url": page_of(number),
        "item": f"item-{number // IMAGES_PER_PAGE}",
        "spider": "shop",
        "job": f"job-{number // USES_PER_JOB}",
        "position": number % IMAGES_PER_PAGE + 1,
        "alt": f"Photograph {number} of a shoe",
        "meta": {"price": 10.5, "category": "shoes"},
    }
    return NewUse.of(ImageUrl.of(url), values)


def page_of(number: int) -> str:
    """Return the page of a use."""
    return f"https://shop.example/products/item-{number // IMAGES_PER_PAGE}?ref=list"


def fill_uses(database_url: str, uses: int, images: int) -> None:
    """Insert uses of the images that `services.fill` has created."""
    engine, at = database.create_engine(database_url), microseconds(datetime.now(UTC))
    for start in range(0, uses, _ROWS_PER_INSERT):
        numbers = range(start, min(start + _ROWS_PER_INSERT, uses))
        rows = [use_row(use_of(number, images), at) for number in numbers]
        with engine.begin() as connection:
            # By the driver itself, because SQLAlchemy takes longer than the database.
            marks = ", ".join([database.parameter_mark(connection)] * len(rows[0]))
            insert = f"INSERT INTO image_use ({', '.join(rows[0])}) VALUES ({marks})"
            connection.exec_driver_sql(insert, [tuple(row.values()) for row in rows])
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            # PostgreSQL would do this by itself, but later.
            connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def measure(database_url: str, blobs_url: str, uses: int, count: int) -> dict[str, Any]:
    """Fill a catalog, and measure.

    Returns:
        For each kind of query, median and 99th percentile in milliseconds.
    """
    images = max(1, uses // USES_PER_IMAGE)
    fill(database_url, blobs_url, images)
    fill_uses(database_url, uses, images)
    random = Random(0)
    numbers = [random.randrange(uses) for _ in range(count)]
    with closing(ImageCache(database_url, blobs_url)) as cache:
        catalog = cache.catalog

        def record(number: int) -> None:
            batch = range(number, number + _BATCH_SIZE)
            catalog.record_uses([use_of(each, images) for each in batch])

        calls: dict[str, Callable[[int], Any]] = {
            "image → uses": lambda n: catalog.uses_page([use_of(n, images).content_hash]),
            "page → images": lambda n: catalog.uses_page(None, page_of(n)),
            "list, page": lambda n: catalog.list_page({"page_url": page_of(n)}),
            "list, job, 100 entries": lambda n: catalog.list_page(
                {"job": f"job-{n // USES_PER_JOB}"}, 100
            ),
            "count, page": lambda n: catalog.count({"page_url": page_of(n)}),
            "takedown of a page, dry run": lambda n: catalog.count_removal(
                Selection.of({"page_url": page_of(n)})
            ),
            "takedown of a page, first batch": lambda n: catalog.removable_after(
                Selection.of({"page_url": page_of(n)}), 0
            ),
        }
        for name in ("image → uses", "page → images", "list, page"):
            page = calls[name](numbers[0])
            assert page.entries, f"{name} has found nothing"
        few = numbers[: max(2, count // 10)]
        found = {
            # A job has many uses, of which a list has the newest captures.
            name: percentiles(_timed(call, few if "job" in name else numbers))
            for name, call in calls.items()
        }
        for name, first in (("renew", 0), ("record", uses)):
            seconds = _timed(record, [first + number for number in few])
            found[f"{name}, each of {_BATCH_SIZE}"] = percentiles(
                [each / _BATCH_SIZE for each in seconds]
            )
    return found


def table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Return the times as text, in milliseconds."""
    lines = [" " * 32 + "".join(f"{name + ' p50':>18}{'p99 ms':>10}" for name in found)]
    for kind in next(iter(found.values())):
        cells = (f"{found[name][kind][0]:18.3f}{found[name][kind][1]:10.3f}" for name in found)
        lines.append(f"{kind:32}{''.join(cells)}")
    return "\n".join(lines)


def _timed(call: Callable[[int], Any], numbers: list[int]) -> list[float]:
    call(numbers[0])
    seconds = []
    for number in numbers:
        start = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uses", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--database", choices=["SQLite", "PostgreSQL"])
    options = parser.parse_args()
    found = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {"SQLite": lambda: f"sqlite:///{folder / 'catalog.sqlite3'}"}
        urls["PostgreSQL"] = lambda: stack.enter_context(closing(PostgreSQLServer())).new_database()
        for name in [options.database] if options.database else urls:
            blobs_url = (folder / name / "blobs").as_uri()
            found[name] = measure(urls[name](), blobs_url, options.uses, options.queries)
    sys.stdout.write(f"{options.uses} uses\n\n{table(found)}\n")


if __name__ == "__main__":
    main()

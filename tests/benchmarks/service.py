"""Compare the service with two others: `python tests/benchmarks/service.py`.

Measure lookups, stores and reads over 16 connections, interleaved for all set-ups. The figures are
medians of the rounds. The upper bound ("bare") is a FastAPI app that answers constants. The simple
service ("naive") has one ORM row per image and blocking routes. It has no batch lookup, so our
batch lookups are compared with its single lookups. "CPU us" is the CPU time per unit of the
service's own processes, without PostgreSQL; other load of the machine changes it least. With
`--captures`, also measure lookups and searches in a catalog of that size.

One separate process sends the requests. On two cores it has one core to itself beside a service
with one worker. Two workers share the cores with it, as PostgreSQL does, so these figures are low.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from imgcache_scrapy.core.entry import content_hash_of
from tests.benchmarks import large_catalog
from tests.benchmarks.load import Measurements, load, percentiles, raw
from tests.benchmarks.origin import numbered, photograph
from tests.benchmarks.services import cpu_seconds, service, serving
from tests.support.servers import PostgreSQL, PostgreSQLServer

CONNECTIONS = 16
POSTGRESQL = "PostgreSQL"
BATCH = 100
_PICTURES = 8
_PEER_COMMAND = (
    "import uvicorn; from tests.benchmarks import {name}_service;"
    "uvicorn.run('tests.benchmarks.{name}_service:app', port={port}, workers={workers},"
    "access_log=False)"
)


@dataclass(frozen=True)
class SetUp:
    """A service to compare.

    Attributes:
        name: `ours`, `bare` or `naive`.
        workers: number of worker processes.
        database: database of our service, `SQLite` or `PostgreSQL`.
    """

    name: str
    workers: int
    database: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self.database and f', {self.database}'}, {self.workers} w."

    def served(
        self, folder: Path, postgresql: PostgreSQL | None
    ) -> AbstractContextManager[tuple[str, int]]:
        """Serve an empty cache; return the address and the process id."""
        if self.name != "ours":
            text = _PEER_COMMAND.replace("{name}", self.name).replace(
                "{workers}", str(self.workers)
            )
            return serving([sys.executable, "-c", text], folder)
        options = ["--workers", str(self.workers)]
        if postgresql is not None and self.database == POSTGRESQL:
            options += ["--database", postgresql.new_database()]
        return service(folder, *options)


@dataclass
class Work:
    """One kind of work.

    Attributes:
        unit: name of the unit that is counted.
        requests: the requests as bytes.
        count: units per request; 0 counts the bytes of the answers, in MB.
    """

    unit: str
    requests: list[bytes]
    count: int = 1

    def done(self, measured: Measurements) -> float:
        """Return the number of units done."""
        return self.count * len(self.requests) or measured.received / 1e6


@dataclass
class Figures:
    """The measurements of one set-up with one kind of work.

    Attributes:
        rates: units per second, of each round.
        cpu: CPU seconds of the service's processes per unit, of each round.
        latencies: seconds, of all rounds.
    """

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median of the rounds."""
        return median(self.rates)


def works(size: int) -> dict[str, Work]:
    """Prepare every kind of work: first stores of photographs of 50 KB, then reads of them."""
    pictures = [photograph(seed) for seed in range(_PICTURES)]
    stored = {_url(n): numbered(pictures[n % _PICTURES], n) for n in range(max(size // 5, BATCH))}
    urls = list(stored)
    some = [urls[n % len(urls)] for n in range(size)]
    batches = [
        [urls[(first + n) % len(urls)] for n in range(BATCH)] for first in range(max(size // 20, 1))
    ]
    names = [content_hash_of(stored[url]) for url in some[: size // 2]]
    return {
        "store": Work("images/s", [_store(url, data) for url, data in stored.items()]),
        "lookup": Work("URLs/s", [_lookup(url) for url in some]),
        f"lookup, {BATCH}": Work(
            "URLs/s",
            [raw("POST", "/images/lookup", json={"urls": urls}) for urls in batches],
            BATCH,
        ),
        "read": Work("MB/s", [raw("GET", f"/images/{name}") for name in names], 0),
    }


def run(
    kinds: dict[str, Work],
    rounds: int,
    set_ups: list[SetUp],
    loads: Executor,
    postgresql: PostgreSQL | None,
    *,
    warm_up_requests: int,
) -> dict[SetUp, dict[str, Figures]]:
    """Measure every set-up, interleaved."""
    picture = photograph(_PICTURES)
    warm_up = [_lookup(f"http://warm.example/{n}") for n in range(warm_up_requests)]
    warm_up += [
        _store(f"http://warm.example/{n}", numbered(picture, n))
        for n in range(warm_up_requests // 10)
    ]
    found: dict[SetUp, dict[str, Figures]] = {set_up: {} for set_up in set_ups}
    # Nothing is deleted before the end, because ext4 allocates slowly after many deletions.
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            for set_up in set_ups:
                folder = Path(tempfile.mkdtemp(dir=temporary))
                with set_up.served(folder, postgresql) as (url, pid):
                    send = partial(_load, loads, int(url.rpartition(":")[2]), pid)
                    send(warm_up)
                    for kind, work in kinds.items():
                        if set_up.name == "naive" and work.count == BATCH:
                            continue
                        measured, used = send(work.requests)
                        assert set(measured.statuses) <= {200, 201}, (set_up, measured.statuses)
                        figures = found[set_up].setdefault(kind, Figures())
                        figures.rates.append(work.done(measured) / measured.seconds)
                        figures.cpu.append(used / work.done(measured))
                        figures.latencies += measured.latencies
                sys.stderr.write(f"round {number + 1}: {set_up}\n")
    return found


def rows(found: dict[SetUp, dict[str, Figures]], units: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind of work of each set-up, with its ratios to the other services."""
    for set_up, kinds in found.items():
        for kind, figures in kinds.items():
            row = {"set-up": str(set_up), "work": kind, "rate": figures.rate, "unit": units[kind]}
            row["CPU us"] = 1e6 * median(figures.cpu)
            row["p50 ms"], row["p99 ms"] = percentiles(figures.latencies)
            for name in ("bare", "naive"):
                others = found[SetUp(name, set_up.workers)]
                other = others.get(kind) or others[kind.partition(",")[0]]
                row[f"to {name}"] = figures.rate / other.rate
            yield row


def table(measured: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    head = f"{'':24}{'work':14}{'rate':>9}{'':10}"
    numbers = ["CPU us", "p50 ms", "p99 ms", "to bare", "to naive"]
    lines = [head + "".join(f"{title:>10}" for title in numbers)]
    for row in measured:
        line = f"{row['set-up']:24}{row['work']:14}{row['rate']:9.0f} {row['unit']:9}"
        lines.append(line + "".join(f"{row[title]:10.2f}" for title in numbers))
    return "\n".join(lines)


def measure_rates(
    options: argparse.Namespace, loads: Executor, postgresql: PostgreSQL | None
) -> list[dict[str, Any]]:
    """Measure the set-ups that the options choose, and return the rows of the table."""
    databases = ["SQLite"] if postgresql is None else ["SQLite", POSTGRESQL]
    ours = [("ours", database) for database in databases]
    set_ups = [
        SetUp(name, workers, database)
        for workers in options.workers or [1, 2]
        for name, database in [*ours, ("bare", ""), ("naive", "")]
    ]
    kinds = works(options.requests)
    found = run(kinds, options.rounds, set_ups, loads, postgresql, warm_up_requests=options.warm_up)
    return list(rows(found, {kind: work.unit for kind, work in kinds.items()}))


def measure_large(
    options: argparse.Namespace, loads: Executor, postgresql: PostgreSQL | None, folder: Path
) -> dict[str, large_catalog.Times]:
    """Measure queries to a large catalog in each database."""
    databases = {"SQLite": f"sqlite:///{folder / 'large.sqlite3'}"}
    if postgresql is not None:
        databases[POSTGRESQL] = postgresql.new_database()
    found: dict[str, large_catalog.Times] = {}
    for name, url in databases.items():
        database_folder = folder / name
        times_by_kind = large_catalog.measure(
            database_folder, url, (options.captures, options.history), options.questions, loads
        )
        for kind, times in times_by_kind.items():
            named = {f"{name}, {path}": values for path, values in times.items()}
            found.setdefault(kind, {}).update(named)
    return found


def main() -> None:
    """Measure the services and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000, help="single lookups in a round")
    parser.add_argument("--rounds", type=int, default=3, help="0 for the large catalog only")
    parser.add_argument("--workers", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--postgresql", action="store_true", help="measure our service on it, too")
    parser.add_argument("--captures", type=int, default=0, help="size of the large catalog")
    parser.add_argument("--questions", type=int, default=200, help="queries of each kind to it")
    parser.add_argument("--history", type=int, default=10_000, help="captures of one URL in it")
    parser.add_argument("--warm-up", type=int, default=400, help="lookups before each round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loads = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        postgresql = None
        if options.postgresql:
            postgresql = stack.enter_context(closing(PostgreSQLServer()))
        if options.rounds:
            results["rates"] = measure_rates(options, loads, postgresql)
            sys.stdout.write(f"medians of {options.rounds} rounds\n\n{table(results['rates'])}\n\n")
        if options.captures:
            results["large"] = measure_large(options, loads, postgresql, folder)
            head = f"{options.captures} captures, one query at a time"
            sys.stdout.write(f"{head}\n\n{large_catalog.table(results['large'])}\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def _load(
    loads: Executor, port: int, pid: int, requests: list[bytes]
) -> tuple[Measurements, float]:
    """Send requests to a service; return the measurements, and the CPU seconds that it used."""
    used = cpu_seconds(pid)
    measured = loads.submit(load, port, requests, CONNECTIONS).result()
    return measured, cpu_seconds(pid) - used


def _url(number: int) -> str:
    return f"http://{number % 100}.example/photos/{number}.jpg"


def _lookup(url: str) -> bytes:
    return raw("GET", "/images/lookup", params={"url": url})


def _store(url: str, data: bytes) -> bytes:
    form = {"url": url, "client_name": "benchmark"}
    return raw("POST", "/images", data=form, files={"file": ("photo.jpg", data)})


if __name__ == "__main__":
    main()

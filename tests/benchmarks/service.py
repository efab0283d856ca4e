"""The service beside its ceiling and a naive peer: `python tests/benchmarks/service.py`.

Lookups, stores and reads over 16 connections, every set-up in turn, medians of the rounds. The
ceiling ("bare") is a FastAPI app on the same server that answers constants; the peer ("naive") has
an ORM row per image and blocking routes, and no batches: its single lookups stand beside ours.
"CPU us" is what the service's own processes used for a unit, PostgreSQL not among them; it depends
the least on what else the machine does. With `--captures`, how long lookups and searches take in a
catalog of that size as well.

The load comes from one process of its own. On two cores it has one to itself beside a service of
one worker; two workers share theirs with it, as PostgreSQL does, so figures of those are low.
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
from tests.benchmarks.load import Measured, load, percentiles, raw
from tests.benchmarks.origin import numbered, photograph
from tests.benchmarks.services import cpu_seconds, service, serving
from tests.support.servers import PostgreSQL

CONNECTIONS = 16
POSTGRESQL = "PostgreSQL"
BATCH = 100
_PICTURES = 8
_WARMING = 400
_PEER = (
    "import uvicorn; from tests.benchmarks import {name}_service;"
    "uvicorn.run('tests.benchmarks.{name}_service:app', port={port}, workers={workers},"
    "access_log=False)"
)


@dataclass(frozen=True)
class SetUp:
    """What is compared.

    Attributes:
        name: `ours`, `bare` or `naive`.
        workers: how many processes answer.
        database: of ours, `SQLite` or `PostgreSQL`.
    """

    name: str
    workers: int
    database: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self.database and f', {self.database}'}, {self.workers} w."

    def served(
        self, folder: Path, postgresql: PostgreSQL | None
    ) -> AbstractContextManager[tuple[str, int]]:
        """Serve an empty cache; gives address and process id."""
        if self.name != "ours":
            text = _PEER.replace("{name}", self.name).replace("{workers}", str(self.workers))
            return serving([sys.executable, "-c", text], folder)
        options = ["--workers", str(self.workers)]
        if postgresql is not None and self.database == POSTGRESQL:
            options += ["--database", postgresql.new_database()]
        return service(folder, *options)


@dataclass
class Work:
    """One kind of work.

    Attributes:
        unit: what is counted.
        requests: as they go over the line.
        count: units in a request; 0 where the bytes of the answers are counted, in MB.
    """

    unit: str
    requests: list[bytes]
    count: int = 1

    def done(self, measured: Measured) -> float:
        """Count the units."""
        return self.count * len(self.requests) or measured.received / 1e6


@dataclass
class Figures:
    """What was measured of one set-up at one kind of work.

    Attributes:
        rates: units in a second, of each round.
        cpu: seconds that the service's processes used for a unit, in each round.
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
    """Prepare every kind of work: stores of photographs of 50 KB first, then what reads them."""
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
) -> dict[SetUp, dict[str, Figures]]:
    """Measure every set-up, interleaved."""
    picture = photograph(_PICTURES)
    warming = [_lookup(f"http://warm.example/{n}") for n in range(_WARMING)]
    warming += [
        _store(f"http://warm.example/{n}", numbered(picture, n)) for n in range(_WARMING // 10)
    ]
    found: dict[SetUp, dict[str, Figures]] = {set_up: {} for set_up in set_ups}
    # Nothing is deleted before the end: ext4 looks long for room where much was deleted lately.
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            for set_up in set_ups:
                folder = Path(tempfile.mkdtemp(dir=temporary))
                with set_up.served(folder, postgresql) as (url, pid):
                    send = partial(_load, loads, int(url.rpartition(":")[2]), pid)
                    send(warming)
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
    """Give a row for each kind of work of each set-up, with its ratios to the other two."""
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


def table(told: list[dict[str, Any]]) -> str:
    """The rows as text."""
    head = f"{'':24}{'work':14}{'rate':>9}{'':10}"
    numbers = ["CPU us", "p50 ms", "p99 ms", "to bare", "to naive"]
    lines = [head + "".join(f"{title:>10}" for title in numbers)]
    for row in told:
        line = f"{row['set-up']:24}{row['work']:14}{row['rate']:9.0f} {row['unit']:9}"
        lines.append(line + "".join(f"{row[title]:10.2f}" for title in numbers))
    return "\n".join(lines)


def measure_rates(
    options: argparse.Namespace, loads: Executor, postgresql: PostgreSQL | None
) -> list[dict[str, Any]]:
    """Measure what the options say, and give the rows of the table."""
    databases = ["SQLite"] if postgresql is None else ["SQLite", POSTGRESQL]
    ours = [("ours", database) for database in databases]
    set_ups = [
        SetUp(name, workers, database)
        for workers in options.workers or [1, 2]
        for name, database in [*ours, ("bare", ""), ("naive", "")]
    ]
    kinds = works(options.requests)
    found = run(kinds, options.rounds, set_ups, loads, postgresql)
    return list(rows(found, {kind: work.unit for kind, work in kinds.items()}))


def measure_large(
    options: argparse.Namespace, loads: Executor, postgresql: PostgreSQL | None, folder: Path
) -> dict[str, large_catalog.Times]:
    """Ask a large catalog in each database."""
    databases = {"SQLite": f"sqlite:///{folder / 'large.sqlite3'}"}
    if postgresql is not None:
        databases[POSTGRESQL] = postgresql.new_database()
    found: dict[str, large_catalog.Times] = {}
    for name, url in databases.items():
        its_folder = folder / name
        asked = large_catalog.measure(its_folder, url, options.captures, options.questions, loads)
        for kind, times in asked.items():
            told = {f"{name}, {road}": its for road, its in times.items()}
            found.setdefault(kind, {}).update(told)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000, help="single lookups in a round")
    parser.add_argument("--rounds", type=int, default=3, help="0 for the large catalog alone")
    parser.add_argument("--workers", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--postgresql", action="store_true", help="ours over it as well")
    parser.add_argument("--captures", type=int, default=0, help="in a catalog that is asked")
    parser.add_argument("--questions", type=int, default=200, help="of each kind, to that catalog")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loads = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        postgresql = None
        if options.postgresql:
            postgresql = stack.enter_context(closing(PostgreSQL()))
        if options.rounds:
            told["rates"] = measure_rates(options, loads, postgresql)
            sys.stdout.write(f"medians of {options.rounds} rounds\n\n{table(told['rates'])}\n\n")
        if options.captures:
            told["large"] = measure_large(options, loads, postgresql, folder)
            head = f"{options.captures} captures, one question at a time"
            sys.stdout.write(f"{head}\n\n{large_catalog.table(told['large'])}\n")
    if options.json:
        options.json.write_text(json.dumps(told, indent=1))


def _load(loads: Executor, port: int, pid: int, requests: list[bytes]) -> tuple[Measured, float]:
    """Load a service; gives what was measured, and the seconds of CPU that it used."""
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

"""The benchmarks run at a small size, so that they keep working."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from imgcache_scrapy.core import DEFAULT_PRESETS
from tests.support.waiting import PATIENCE

HERE = Path(__file__).parent


def run_benchmark(*words):
    """Run a benchmark, given as its program and arguments, and return what it printed."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=4 * PATIENCE,
    )


@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        (["ours", "ours, service"], ["--captures", "1500"]),
        pytest.param(
            ["ImagesPipeline", "ours, service, page open"], [], marks=pytest.mark.endurance
        ),
    ],
)
def test_the_crawl_benchmark(tmp_path, chosen, options):
    """The table has a row for each run, and a warm crawl gets every image from the cache.

    Also if the catalog is large.
    """
    figures = tmp_path / "figures.json"
    command = [HERE / "crawl.py", "--images", "10", "--rounds", "1", *options]
    command += [part for name in chosen for part in ("--only", name)]
    done = run_benchmark(*command, "--json", figures)
    results = json.loads(figures.read_text())
    assert list(results) == chosen
    for name in chosen:
        assert [results[name][run]["images"] for run in ("cold", "warm")] == [[10], [10]]
        assert f"{name} " in done.stdout


def test_the_store_benchmark():
    """Each part of a store has its time, and its share of the whole store."""
    command = [HERE / "store.py", "--rounds", "1", "--size", "50 KB"]
    done = run_benchmark(*command)
    lines = done.stdout.splitlines()[1:]
    assert len(lines) == 8
    assert all(" ms " in line and line.endswith("%") for line in lines)


def test_the_key_benchmark():
    """Each preset has its time, and the slowest plain and signed URLs stand beside their limits."""
    done = run_benchmark(HERE / "keys.py", "--rounds", "1", "--urls", "5")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 + len(DEFAULT_PRESETS) + 2
    assert all(" µs" in line for line in lines)


def test_the_service_benchmark(tmp_path):
    """Every kind of work has its rate and its ratios, and every kind of query its times."""
    figures = tmp_path / "figures.json"
    command = [HERE / "service.py", "--requests", "40", "--rounds", "1"]
    command += ["--workers", "1", "--postgresql", "--captures", "100", "--questions", "2"]
    command += ["--history", "100", "--warm-up", "20"]
    done = run_benchmark(*command, "--json", figures)
    results = json.loads(figures.read_text())
    rates = {(row["set-up"], row["work"]): row for row in results["rates"]}
    every = ["store", "lookup", "lookup, 100", "read"]
    ours = ["ours, SQLite, 1 w.", "ours, PostgreSQL, 1 w."]
    expected = [(name, work) for name in [*ours, "bare, 1 w."] for work in every]
    expected += [("naive, 1 w.", work) for work in every if work != "lookup, 100"]
    assert list(rates) == expected
    for name, work in expected:
        assert (
            0
            < rates[name, work]["to bare"]
            == rates[name, work]["rate"] / (rates["bare, 1 w.", work]["rate"])
        )
        assert f"{name} " in done.stdout
    paths = [f"{name}, {path}" for name in ("SQLite", "PostgreSQL") for path in ("engine", "HTTP")]
    assert len(results["large"]) == 8
    assert all(list(times) == paths for times in results["large"].values())


def test_the_transfer_benchmark(tmp_path):
    """Each import and export has its rate and its ratio to a plain loop."""
    figures = tmp_path / "figures.json"
    command = [HERE / "transfer.py", "--images", "5", "--rounds", "1", "--json", figures]
    lines = run_benchmark(*command).stdout.splitlines()
    rates = json.loads(figures.read_text())
    assert len(rates) == len(lines) == 10
    assert all(rate > 0 for rate in rates.values())


def test_the_page_benchmark(tmp_path):
    """Each kind of page has its median and its 99th percentile."""
    figures = tmp_path / "figures.json"
    command = [HERE / "page.py", "--images", "300", "--requests", "2", "--json", figures]
    lines = run_benchmark(*command).stdout.splitlines()
    found = json.loads(figures.read_text())
    assert len(found) == 14
    assert len(lines) == len(found) + 2
    assert all(0 < median <= late for median, late in found.values())


def test_the_thumbnail_benchmark(tmp_path):
    """Each kind of picture has its times, and stores beside thumbnails their ratio."""
    figures = tmp_path / "figures.json"
    command = [HERE / "thumbnails.py", "--images", "3", "--rounds", "1", "--json", figures]
    lines = run_benchmark(*command).stdout.splitlines()
    measured = json.loads(figures.read_text())
    assert len(lines) == len(measured["times"]) + 2
    assert all(each > 0 for times in measured["times"].values() for each in times)
    assert measured["stores"] > 0


def test_the_uses_benchmark():
    """Every kind of query has its times, and so have the uses that are recorded."""
    command = [HERE / "uses.py", "--uses", "1000", "--queries", "2", "--database", "SQLite"]
    lines = run_benchmark(*command).stdout.splitlines()
    assert lines[0] == "1000 uses"
    assert len(lines) == 3 + 9
    assert all(float(line.split()[-1]) > 0 for line in lines[3:])

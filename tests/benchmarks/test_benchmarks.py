"""The benchmarks run, at a small size, so that they cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_crawls_are_compared(tmp_path):
    """The table has a row for each run, and warm crawls with the cache fetch no image."""
    figures = tmp_path / "figures.json"
    chosen = ["ImagesPipeline", "ours", "ours, service"]
    command = [sys.executable, HERE / "crawl.py", "--images", "10", "--rounds", "1"]
    command += [part for name in chosen for part in ("--only", name)]
    done = subprocess.run(
        [*command, "--json", figures], capture_output=True, text=True, check=True, timeout=120
    )
    told = json.loads(figures.read_text())
    assert list(told) == chosen
    for name in chosen:
        assert [told[name][run]["images"] for run in ("cold", "warm")] == [[10], [10]]
        assert f"{name} " in done.stdout

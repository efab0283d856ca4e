"""Real crawls of a small site, each crawl in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.site import Site

FATES = ("hit", "stored", "duplicate", "spooled", "rejected", "failed")

SUPPORT = Path(__file__).parents[1] / "support"


@dataclass
class Crawled:
    """What came of a crawl; `max_rss` in bytes."""

    items: list[dict[str, Any]]
    all_stats: list[dict[str, Any]]
    max_rss: int
    log: str
    returncode: int

    @property
    def stats(self) -> dict[str, Any]:
        """The stats of the only spider."""
        (stats,) = self.all_stats
        return stats

    @property
    def warnings(self) -> list[str]:
        """The lines of the log that warn of the cache."""
        return [
            line
            for line in self.log.splitlines()
            if "[imgcache_scrapy" in line and "] WARNING" in line
        ]

    @property
    def fates(self) -> dict[str, int]:
        """How many images had each fate, without the fates that none had."""
        counts = {fate: self.stats.get(f"imgcache/{fate}", 0) for fate in FATES}
        return {fate: count for fate, count in counts.items() if count}


@pytest.fixture
def site() -> Iterator[Site]:
    """A site that answers nothing yet."""
    site = Site()
    yield site
    site.close()


@pytest.fixture
def crawl(tmp_path: Path, site: Site) -> Callable[..., Crawled]:
    """Run a crawl: `crawl(items, settings, **spider)`; the cache is in `tmp_path`.

    It is sent a SIGINT as soon as `interrupt_when` says so.
    """

    def run(
        items: list[dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        *,
        spiders: list[dict[str, Any]] | None = None,
        environment: dict[str, str] | None = None,
        interrupt_when: Callable[[], bool] | None = None,
        **spider: Any,
    ) -> Crawled:
        spiders = spiders or [{"items": items or [], **spider}]
        out, result = tmp_path / "items", tmp_path / "result.json"
        result.unlink(missing_ok=True)
        shutil.rmtree(out, ignore_errors=True)
        config = {
            "settings": {"IMGCACHE_URL": str(tmp_path / "cache"), **(settings or {})},
            "spiders": [{"page": f"{site.url}/", **one} for one in spiders],
            "out": str(out),
            "result": str(result),
        }
        process = subprocess.Popen(
            [sys.executable, str(SUPPORT / "run_crawl.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | (environment or {}),
        )
        if interrupt_when is not None:
            Thread(target=_interrupt, args=[process, interrupt_when], daemon=True).start()
        try:
            _, log = process.communicate(json.dumps(config), timeout=120)
        finally:
            process.kill()
        lines = [line for path in sorted(out.glob("*")) for line in path.read_text().splitlines()]
        told = json.loads(result.read_text()) if result.exists() else {"stats": [], "max_rss": 0}
        return Crawled(
            items=[json.loads(line) for line in lines],
            all_stats=told["stats"],
            max_rss=told["max_rss"],
            log=log,
            returncode=process.returncode,
        )

    return run


def _interrupt(process: "subprocess.Popen[str]", when: Callable[[], bool]) -> None:
    while process.poll() is None and not when():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)

"""Real crawls of a small site, each crawl in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crawls.site import Site

FATES = ("hit", "stored", "duplicate", "spooled", "rejected", "failed")


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
    """Run a crawl: `crawl(items, settings, **spider)`; the cache is in `tmp_path`."""

    def run(
        items: list[dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        *,
        spiders: list[dict[str, Any]] | None = None,
        environment: dict[str, str] | None = None,
        **spider: Any,
    ) -> Crawled:
        spiders = spiders or [{"items": items or [], **spider}]
        out, result = tmp_path / "items.jsonl", tmp_path / "result.json"
        result.unlink(missing_ok=True)
        config = {
            "settings": {"IMGCACHE_URL": str(tmp_path / "cache"), **(settings or {})},
            "spiders": [{"page": f"{site.url}/", **one} for one in spiders],
            "out": str(out),
            "result": str(result),
        }
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("run_crawl.py"))],
            input=json.dumps(config),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=tmp_path,
            env=os.environ | (environment or {}),
        )
        lines = out.read_text().splitlines() if out.exists() else []
        told = json.loads(result.read_text()) if result.exists() else {"stats": [], "max_rss": 0}
        return Crawled(
            items=[json.loads(line) for line in lines],
            all_stats=told["stats"],
            max_rss=told["max_rss"],
            log=done.stderr,
            returncode=done.returncode,
        )

    return run

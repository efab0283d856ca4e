"""Real crawls of a small site, each in a separate process."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import Any

from tests.support.forking import start
from tests.support.run_crawl import run
from tests.support.site import Site
from tests.support.waiting import PATIENCE

_FOLDERS = ("files", "images")
FATES = ("hit", "stored", "duplicate", "revalidated", "spooled", "rejected", "failed")


@dataclass
class CrawlResult:
    """The result of a crawl; `max_rss` in bytes."""

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
        """The lines of the log in which the package warns."""
        return [
            line
            for line in self.log.splitlines()
            if "[imgcache_scrapy" in line and "] WARNING" in line
        ]

    @property
    def fates(self) -> dict[str, int]:
        """The number of images of each fate that occurred."""
        counts = {fate: self.stats.get(f"imgcache/{fate}", 0) for fate in FATES}
        return {fate: count for fate, count in counts.items() if count}


def run_crawl(
    tmp_path: Path,
    site: Site,
    items: list[dict[str, Any]] | None = None,
    settings: dict[str, Any] | None = None,
    *,
    spiders: list[dict[str, Any]] | None = None,
    environment: dict[str, str] | None = None,
    interrupt_when: Callable[[], bool] | None = None,
    **spider: Any,
) -> CrawlResult:
    """Run a crawl.

    Args:
        tmp_path: the working folder, which also contains the cache.
        site: the site with the start page.
        items: the items that the spider yields.
        settings: added to the settings of every crawl. With `WITHOUT_FILES` the local files of
            earlier crawls are deleted first.
        spiders: attributes of each spider, if there is more than one.
        environment: variables added to the environment.
        interrupt_when: called repeatedly; when it returns true, the crawl gets a SIGINT.
        spider: attributes of the only spider.
    """
    spiders = spiders or [{"items": items or [], **spider}]
    if settings is not None and settings.get("WITHOUT_FILES"):
        for folder in _FOLDERS:
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
    out, result = tmp_path / "items", tmp_path / "result.json"
    result.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    config = {
        "settings": {"IMGCACHE_URL": str(tmp_path / "cache"), **(settings or {})},
        "spiders": [{"page": f"{site.url}/", **one} for one in spiders],
        "out": str(out),
        "result": str(result),
    }
    with NamedTemporaryFile("r") as log:
        process = start(
            run,
            config,
            folder=tmp_path,
            environment={**os.environ, **(environment or {})},
            out=Path(log.name),
        )
        if interrupt_when is not None:
            Thread(target=_interrupt, args=[process, interrupt_when], daemon=True).start()
        process.join(PATIENCE)
        process.kill()
        process.join()
        log_text = log.read()
    lines = [line for path in sorted(out.glob("*")) for line in path.read_text().splitlines()]
    measured = json.loads(result.read_text()) if result.exists() else {"stats": [], "max_rss": 0}
    return CrawlResult(
        items=[json.loads(line) for line in lines],
        all_stats=measured["stats"],
        max_rss=measured["max_rss"],
        log=log_text,
        returncode=process.exitcode,
    )


def _interrupt(process: ForkServerProcess, when: Callable[[], bool]) -> None:
    while not when():
        if not process.is_alive():
            return
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)

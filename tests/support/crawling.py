"""Real crawls of a small site, each crawl in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Event, Thread, Timer
from typing import Any

from tests.support.site import Site
from tests.support.waiting import PATIENCE

FATES = ("hit", "stored", "duplicate", "spooled", "rejected", "failed")

SUPPORT = Path(__file__).parent


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


class Crawls:
    """Runs crawls, each in a process that is forked from one that has imported Scrapy already.

    To import all that a crawl needs takes longer than most of these crawls.
    """

    def __init__(self) -> None:
        command = [sys.executable, str(SUPPORT / "run_crawl.py")]
        # A library that has threads of its own must not be forked.
        own = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        self._forking = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own
        )

    def run(self, job: dict[str, Any], interrupt_when: Callable[[], bool] | None) -> int:
        """Run a crawl, and wait until it has ended.

        Returns:
            Its exit code.
        """
        requests, replies = self._forking.stdin, self._forking.stdout
        assert requests is not None
        assert replies is not None
        requests.write(json.dumps(job) + "\n")
        requests.flush()
        child, ended = int(replies.readline()), Event()
        if interrupt_when is not None:
            Thread(target=_interrupt, args=[child, ended, interrupt_when], daemon=True).start()
        too_long = Timer(PATIENCE, os.kill, [child, signal.SIGKILL])
        too_long.start()
        try:
            return int(replies.readline())
        finally:
            too_long.cancel()
            ended.set()

    def close(self) -> None:
        """End the process that forks."""
        self._forking.communicate()


def run_crawl(
    crawls: Crawls,
    tmp_path: Path,
    site: Site,
    items: list[dict[str, Any]] | None = None,
    settings: dict[str, Any] | None = None,
    *,
    spiders: list[dict[str, Any]] | None = None,
    environment: dict[str, str] | None = None,
    interrupt_when: Callable[[], bool] | None = None,
    **spider: Any,
) -> Crawled:
    """Run a crawl.

    Args:
        crawls: runs it.
        tmp_path: its working folder; the cache is in it.
        site: has the page that it begins with.
        items: what the spider yields.
        settings: added to those of every crawl.
        spiders: what each spider has, if there is more than one.
        environment: what is added to the environment.
        interrupt_when: is asked again and again; a SIGINT is sent as soon as it says so.
        spider: attributes of the only spider.
    """
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
    with NamedTemporaryFile("r") as log:
        job = {
            "config": config,
            "folder": str(tmp_path),
            "log": log.name,
            "environment": os.environ | (environment or {}),
        }
        returncode = crawls.run(job, interrupt_when)
        told_log = log.read()
    lines = [line for path in sorted(out.glob("*")) for line in path.read_text().splitlines()]
    told = json.loads(result.read_text()) if result.exists() else {"stats": [], "max_rss": 0}
    return Crawled(
        items=[json.loads(line) for line in lines],
        all_stats=told["stats"],
        max_rss=told["max_rss"],
        log=told_log,
        returncode=returncode,
    )


def _interrupt(process: int, ended: Event, when: Callable[[], bool]) -> None:
    while not when():
        if ended.wait(0.005):
            return
    os.kill(process, signal.SIGINT)

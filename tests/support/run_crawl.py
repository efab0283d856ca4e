"""Runs crawls, each in a process of its own, which is forked from one that has imported Scrapy.

Reads what to do as JSON, a line for each crawl, and writes what came of it.
"""

import importlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import attrs
import scrapy
from scrapy.crawler import AsyncCrawlerProcess, CrawlerProcess
from scrapy.settings import default_settings


class DeclaredItem(scrapy.Item):
    """A Scrapy item."""

    name = scrapy.Field()
    image_urls = scrapy.Field()
    images = scrapy.Field()


@dataclass
class DataclassItem:
    """A dataclass item."""

    name: str = ""
    image_urls: list = field(default_factory=list)
    images: list = field(default_factory=list)


@attrs.define
class AttrsItem:
    """An attrs item."""

    name: str = ""
    image_urls: list = attrs.Factory(list)
    images: list = attrs.Factory(list)


KINDS = {"dict": dict, "item": DeclaredItem, "dataclass": DataclassItem, "attrs": AttrsItem}


class ItemsSpider(scrapy.Spider):
    """Fetches one page, then yields the items it was told to."""

    name = "items"
    page = ""
    items = ()
    kind = "dict"
    requests = ()
    then = None

    async def start(self):
        yield scrapy.Request(self.page)

    def parse(self, response):
        for item in self.items:
            yield KINDS[self.kind](**item)
        for url, meta in self.requests:
            yield scrapy.Request(url, self.parse_image, meta=meta, dont_filter=True)

    def parse_image(self, response):
        entry = response.meta.get("imgcache_entry") or {}
        yield {
            "fetched": response.url,
            "flags": response.flags,
            "size": len(response.body),
            "type": type(response).__name__,
            "content_hash": entry.get("content_hash"),
        }
        if self.then and response.url != self.then:
            yield scrapy.Request(self.then, self.parse_image, meta=response.meta)


def peak_memory() -> int:
    """The most that this process has held, in bytes.

    Not by getrusage, to which a child is at least as large as its parent was.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


# What crawls import besides. None of it may install a reactor or start a thread.
PRELOADED = (
    "alembic.command",
    "imgcache_scrapy.engine.async_cache",
    "imgcache_scrapy.engine.cache",
    "imgcache_scrapy.plugin.addon",
    "imgcache_scrapy.plugin.middleware",
    "imgcache_scrapy.plugin.pipeline",
    "scrapy.core.downloader.handlers.http11",
    "scrapy.core.engine",
    "scrapy.extensions.feedexport",
    "scrapy.pipelines.images",
    *(
        path.rpartition(".")[0]
        for name in ("DOWNLOADER_MIDDLEWARES_BASE", "EXTENSIONS_BASE", "SPIDER_MIDDLEWARES_BASE")
        for path in getattr(default_settings, name)
    ),
    "scrapy.squeues",
    "tldextract",
    "twisted.internet.asyncioreactor",
    "twisted.web.client",
)


def main() -> None:
    run(forked())


def forked() -> dict[str, Any]:
    """Fork for each job that comes, and tell the child's number and, later, its exit code.

    Returns:
        In the child, what it is to do.
    """
    for module in PRELOADED:
        importlib.import_module(module)
    assert "twisted.internet.reactor" not in sys.modules
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(os.open(job["log"], os.O_WRONLY), 1)
            os.dup2(1, 2)
            os.chdir(job["folder"])
            os.environ.clear()
            os.environ.update(job["environment"])
            # Python reads it only when it starts.
            sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
            return job["config"]
        tell(child)
        tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sys.exit()


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def run(config: dict[str, Any]) -> None:
    """Crawl."""
    settings = {
        "LOG_LEVEL": "DEBUG",
        "REMOTE_CONTROL_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        # A file each: two spiders that wrote one would write over each other.
        "FEEDS": {f"{config['out']}/%(name)s.jsonl": {"format": "jsonlines"}},
        **config["settings"],
    }
    uses_asyncio = "asyncio" in settings.get("TWISTED_REACTOR", "asyncio")
    process = (AsyncCrawlerProcess if uses_asyncio else CrawlerProcess)(settings)
    crawlers = []
    for spider in config["spiders"]:
        made = type("Spider", (ItemsSpider,), spider)
        crawler = process.create_crawler(made)
        crawlers.append(crawler)
        process.crawl(crawler)
    process.start()
    result = {
        "stats": [crawler.stats.get_stats() for crawler in crawlers],
        "max_rss": peak_memory(),
    }
    Path(config["result"]).write_text(json.dumps(result, default=str))


if __name__ == "__main__":
    main()

"""The program that runs a crawl."""

import gc
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import attrs
import scrapy
from scrapy.crawler import AsyncCrawlerProcess, CrawlerProcess


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
    """A spider that requests one page, then yields the given items."""

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
    """Return the peak resident memory of this process, in bytes.

    getrusage is not used: its value for a child is at least that of the parent.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def run(config: dict[str, Any]) -> None:
    """Crawl, and write stats and memory to the file that the configuration names."""
    sys.path.insert(0, str(Path(__file__).parent))  # The settings name components of custom.py.
    # The modules are frozen before the fork. Counting their objects takes 30 ms.
    gc.get_freeze_count = lambda: 1
    settings = {
        "LOG_LEVEL": "DEBUG",
        "LOG_VERSIONS": [],
        "REMOTE_CONTROL_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        # One file for each spider, because two spiders would overwrite a common file.
        "FEEDS": {f"{config['out']}/%(name)s.jsonl": {"format": "jsonlines"}},
        **config["settings"],
    }
    uses_asyncio = "asyncio" in settings.get("TWISTED_REACTOR", "asyncio")
    process = (AsyncCrawlerProcess if uses_asyncio else CrawlerProcess)(settings)
    crawlers = []
    for spider in config["spiders"]:
        spider_class = type("Spider", (ItemsSpider,), spider)
        crawler = process.create_crawler(spider_class)
        crawlers.append(crawler)
        process.crawl(crawler)
    process.start()
    result = {
        "stats": [crawler.stats.get_stats() for crawler in crawlers],
        "max_rss": peak_memory(),
    }
    Path(config["result"]).write_text(json.dumps(result, default=str))

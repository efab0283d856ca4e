"""Run one crawl of the origin in a separate process, and write its measurements as JSON."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import scrapy
from scrapy import signals
from scrapy.crawler import AsyncCrawlerProcess

LAG_INTERVAL = 0.002


class PagesSpider(scrapy.Spider):
    """A spider that requests every page, and yields its images as one item."""

    name = "pages"

    async def start(self):
        for number in range(int(self.pages)):
            yield scrapy.Request(f"{self.origin}/page/{number}")

    def parse(self, response):
        urls = [response.urljoin(src) for src in response.css("img::attr(src)").getall()]
        item = {"image_urls": urls, "file_urls": urls} if self.only is None else {self.only: urls}
        yield {"page_url": response.url, **item}


class Stopwatch:
    """An extension that measures the time from spider opened to closed, and the loop's delays."""

    def __init__(self, crawler):
        self.lags = []
        crawler.signals.connect(self.opened, signals.spider_opened)
        crawler.signals.connect(self.closed, signals.spider_closed)
        crawler.stopwatch = self

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def opened(self):
        self.start = time.perf_counter()
        self.sampling = asyncio.ensure_future(self.sample())

    def closed(self):
        self.seconds = time.perf_counter() - self.start
        self.sampling.cancel()
        self.memory = peak_memory()

    async def sample(self):
        """Record the delay of the event loop at each tick of a clock, also at ticks that it misses.

        Otherwise a loop that blocks for 50 ms would give one sample, as a loop without a delay does
        (this error is known as coordinated omission).
        """
        due = time.perf_counter() + LAG_INTERVAL
        while True:
            await asyncio.sleep(due - time.perf_counter())
            now = time.perf_counter()
            while due <= now:
                self.lags.append(now - due)
                due += LAG_INTERVAL


def peak_memory() -> float:
    """Return the peak memory of this process and its children, in MB; Linux only.

    getrusage is not used: its value for a new child is at least that of the parent.
    """
    processes = [Path("/proc/self")]
    for task in Path("/proc/self/task").iterdir():
        processes += [Path("/proc") / child for child in (task / "children").read_text().split()]
    status = "".join((process / "status").read_text() for process in processes)
    return sum(int(peak) for peak in re.findall(r"VmHWM:\s+(\d+) kB", status)) / 1024


def main() -> None:
    config = json.load(sys.stdin)
    settings = {
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "REMOTE_CONTROL_ENABLED": False,
        "CONCURRENT_REQUESTS": 16,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        "EXTENSIONS": {Stopwatch: 0},
        **config["settings"],
    }
    process = AsyncCrawlerProcess(settings)
    crawler = process.create_crawler(PagesSpider)
    process.crawl(crawler, origin=config["origin"], pages=config["pages"], only=config["only"])
    process.start()
    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    json.dump(
        {
            "crawl": crawler.stopwatch.seconds,
            "cpu": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
            "memory": crawler.stopwatch.memory,
            "lags": crawler.stopwatch.lags,
            "images": crawler.stats.get_value("imgcache/hit", 0)
            + crawler.stats.get_value("imgcache/stored", 0)
            or crawler.stats.get_value("file_count", 0),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()

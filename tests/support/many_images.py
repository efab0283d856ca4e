"""A crawl of a very large number of images, half of them missing, that records its memory."""

import json
import sys
from pathlib import Path

import scrapy
from scrapy import signals
from scrapy.crawler import AsyncCrawlerProcess

IMAGES_PER_ITEM = 10


class ManySpider(scrapy.Spider):
    """A spider that requests a page per thousand images, and yields items with ten images each."""

    name = "many"

    async def start(self):
        for first in range(0, self.many, 1_000):
            yield scrapy.Request(f"{self.origin}/page/{first}")

    def parse(self, response):
        first = int(response.url.rpartition("/")[2])
        for number in range(first, first + 1_000, IMAGES_PER_ITEM):
            numbers = range(number, number + IMAGES_PER_ITEM)
            yield {"image_urls": [f"{self.origin}/image/{n}.png" for n in numbers]}


class MemorySampler:
    """An extension that records the resident memory after every hundred images."""

    def __init__(self, crawler):
        self.samples = []
        self.items = 0
        crawler.signals.connect(self.scraped, signals.item_scraped)
        crawler.sampler = self

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def scraped(self):
        self.items += 1
        if self.items % (100 // IMAGES_PER_ITEM) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.samples.append((self.items * IMAGES_PER_ITEM, pages * 4096))


def main():
    config = json.load(sys.stdin)
    process = AsyncCrawlerProcess(
        {
            "LOG_LEVEL": "ERROR",
            "TELNETCONSOLE_ENABLED": False,
            "REMOTE_CONTROL_ENABLED": False,
            "CONCURRENT_REQUESTS": 2,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 64,
            "CONCURRENT_ITEMS": 20,
            # Twisted keeps cancelled timers until the first one is due. With the default timeout
            # of 180 s there would be about 300,000 timers of completed downloads.
            "DOWNLOAD_TIMEOUT": 10,
            "EXTENSIONS": {MemorySampler: 0},
            **config["settings"],
        }
    )
    crawler = process.create_crawler(ManySpider)
    process.crawl(crawler, origin=config["origin"], many=config["many"])
    process.start()
    stats = crawler.stats.get_stats()
    json.dump({"samples": crawler.sampler.samples, "stats": stats}, sys.stdout, default=str)


if __name__ == "__main__":
    main()

"""3. The client: finds similar pictures for each photograph that a crawl has stored."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import scrapy
from scrapy.http import HtmlResponse

from imgcache_scrapy import get_client


class ClientSpider(scrapy.Spider):
    """Calls the cache directly and fetches no picture; run `scrapy crawl shop` first."""

    name = "client"

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Request the page, once for each callback."""
        url = f"http://127.0.0.1:{self.settings.getint('SITE_PORT')}/"
        yield scrapy.Request(url)
        yield scrapy.Request(url, self.parse_in_a_plain_def, dont_filter=True)

    async def parse(self, response: HtmlResponse) -> AsyncIterator[dict[str, Any]]:
        """Find similar pictures for each photograph, with the async client."""
        client = get_client(self.crawler)
        urls = [response.urljoin(src) for src in response.css("[src*=photos]::attr(src)").getall()]
        for url, entry in (await client.lookup_many(urls)).items():
            alike = await client.similar(entry["perceptual_hash"], 4)
            yield {"photo": url, "alike": [found["url"] for found in alike]}

    def parse_in_a_plain_def(self, response: HtmlResponse) -> Iterator[dict[str, Any]]:
        """Find the resized pictures, with the blocking client."""
        client = get_client(self.crawler).sync
        for entry in client.search(response.urljoin("/resized/"), limit=3):
            size = len(client.get_bytes(entry["content_hash"]))
            yield {"resized": entry["url"], "width": entry["width"], "bytes": size}

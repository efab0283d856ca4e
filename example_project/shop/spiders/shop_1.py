"""1. The pipeline: it fills `images` from `image_urls` and fetches no picture twice."""

from collections.abc import AsyncIterator, Iterator

import scrapy
from scrapy.http import HtmlResponse

from shop.items import Product


class ShopSpider(scrapy.Spider):
    """Scrapes the shop's page; run it twice to see hits."""

    name = "shop"

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Request the page."""
        yield scrapy.Request(f"http://127.0.0.1:{self.settings.getint('SITE_PORT')}/")

    def parse(self, response: HtmlResponse) -> Iterator[Product]:
        """Yield one item per product."""
        for product in response.css("article"):
            urls = [response.urljoin(url) for url in product.css("img::attr(src)").getall()]
            yield Product(name=product.css("h2::text").get(""), image_urls=urls)

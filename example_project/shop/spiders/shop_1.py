"""1. The pipeline: items with `image_urls` get `images`, and no picture is fetched twice."""

from collections.abc import AsyncIterator, Iterator

import scrapy
from scrapy.http import HtmlResponse

from shop.items import Product


class ShopSpider(scrapy.Spider):
    """Scrapes the shop's page; run it twice."""

    name = "shop"

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Ask for the page."""
        yield scrapy.Request(f"http://127.0.0.1:{self.settings.getint('SITE_PORT')}/")

    def parse(self, response: HtmlResponse) -> Iterator[Product]:
        """Make one item per product."""
        for product in response.css("article"):
            urls = [response.urljoin(url) for url in product.css("img::attr(src)").getall()]
            yield Product(name=product.css("h2::text").get(""), image_urls=urls)

"""4. Pictures that change: asks the site each time, which sends only what is new."""

from collections.abc import AsyncIterator

import scrapy

from shop.spiders.shop_1 import ShopSpider


class ChangingSpider(ShopSpider):
    """Scrapes the page of a webcam; run it twice to see a picture that has changed."""

    name = "changing"
    custom_settings = {"IMGCACHE_MAX_AGE": 0}  # noqa: RUF012 - as Scrapy documents it

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Request the page of the webcam."""
        yield scrapy.Request(f"http://127.0.0.1:{self.settings.getint('SITE_PORT')}/changing")

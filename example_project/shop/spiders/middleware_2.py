"""2. The middleware: the project keeps Scrapy's ImagesPipeline, and the cache answers it."""

from shop.spiders.shop_1 import ShopSpider


class MiddlewareSpider(ShopSpider):
    """Scrapes the shop with another pipeline, so the add-on adds only the middleware."""

    name = "middleware"
    custom_settings = {  # noqa: RUF012 - as Scrapy documents it
        "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1},
        "IMAGES_STORE": "images",
        "IMAGES_EXPIRES": -1,  # no local file is up to date, so each image is requested
        "MEDIA_ALLOW_REDIRECTS": True,
    }

"""2. The middleware alone: Scrapy's own ImagesPipeline stays, its downloads are answered."""

from shop.spiders.shop_1 import ShopSpider


class MiddlewareSpider(ShopSpider):
    """The shop, by a project that keeps its pipeline: the add-on then adds the middleware only."""

    name = "middleware"
    custom_settings = {  # noqa: RUF012 - as Scrapy documents it
        "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1},
        "IMAGES_STORE": "images",
        "IMAGES_EXPIRES": -1,  # never up to date, so that the pipeline asks each time
        "MEDIA_ALLOW_REDIRECTS": True,
    }

"""The settings of the project; the line ADDONS is all that the cache needs."""

BOT_NAME = "shop"
SPIDER_MODULES = ["shop.spiders"]

ADDONS = {"imgcache_scrapy.Addon": 500}

# The small picture site that starts and stops with each crawl. A real project has none.
EXTENSIONS = {"shop.site.PictureSite": 0}
SITE_PORT = 8765

LOG_LEVEL = "INFO"

"""Settings of crawls with each pipeline, and with the middleware."""

_FILES = {
    "FILES_STORE": "files",
    "FILES_URLS_FIELD": "image_urls",
    "FILES_RESULT_FIELD": "images",
}
PIPELINE = {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCachePipeline": 1}}
FILES = {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1}, **_FILES}
STOCK = {
    "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1},
    "DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585},
    **_FILES,
}

"""Pipelines as users write them."""

from itemadapter import ItemAdapter

from imgcache_scrapy import ImgCacheFilesPipeline, ImgCacheImagesPipeline, ImgCachePipeline


class RefererPipeline(ImgCachePipeline):
    """Sends a referer and a cookie."""

    def get_media_requests(self, item, info):
        for request in super().get_media_requests(item, info):
            request.headers["Referer"] = ItemAdapter(item)["page"]
            yield request.replace(cookies={"seen": "1"})


class MetaPipeline(ImgCachePipeline):
    """Gives each request the item's meta."""

    def get_media_requests(self, item, info):
        requests = super().get_media_requests(item, info)
        for request in requests:
            request.meta.update(ItemAdapter(item)["meta"])
        return requests


class NamedImages(ImgCacheImagesPipeline):
    """Names files by the item."""

    def file_path(self, request, response=None, info=None, *, item=None):
        return f"{ItemAdapter(item)['name']}/{request.url.rsplit('/', 1)[-1]}.jpg"


class NamedFiles(ImgCacheFilesPipeline):
    """Names files by the item."""

    def file_path(self, request, response=None, info=None, *, item=None):
        return f"{ItemAdapter(item)['name']}/{request.url.rsplit('/', 1)[-1]}"

"""Pipelines as users write them."""

import gc
import logging
import sys
import time
from base64 import b64decode
from pathlib import Path
from urllib.parse import quote
from weakref import ref

from itemadapter import ItemAdapter
from scrapy import Request, signals
from scrapy.exceptions import IgnoreRequest
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.images import ImagesPipeline
from scrapy.utils.request import fingerprint

from imgcache_scrapy import ImgCacheFilesPipeline, ImgCacheImagesPipeline, ImgCachePipeline
from tests.support.pictures import picture


class RefererPipeline(ImgCachePipeline):
    """A pipeline that sends a referer and a cookie."""

    def get_media_requests(self, item, info):
        for request in super().get_media_requests(item, info):
            request.headers["Referer"] = ItemAdapter(item)["page"]
            yield request.replace(cookies={"seen": "1"})


class WithMeta:
    """A mixin that copies the meta of an item to each request."""

    def get_media_requests(self, item, info):
        requests = super().get_media_requests(item, info)
        for request in requests:
            request.meta.update(ItemAdapter(item)["meta"])
        return requests


class MetaPipeline(WithMeta, ImgCachePipeline):
    """A pipeline without local files, whose requests have meta."""


class MetaFiles(WithMeta, ImgCacheFilesPipeline):
    """A drop-in whose requests have meta."""


class StockMetaFiles(WithMeta, FilesPipeline):
    """Scrapy's pipeline, whose requests have meta."""


class NamedImages(ImgCacheImagesPipeline):
    """A drop-in that takes the folder of a file from the item."""

    def file_path(self, request, response=None, info=None, *, item=None):
        return f"{ItemAdapter(item)['name']}/{request.url.rsplit('/', 1)[-1]}.jpg"


class SlowImages(ImgCacheImagesPipeline):
    """A drop-in that blocks the event loop for each picture."""

    def convert_image(self, image, size=None, *, response_body):
        time.sleep(4)
        return super().convert_image(image, size, response_body=response_body)


class NamedFiles(ImgCacheFilesPipeline):
    """A drop-in that takes the folder of a file from the item."""

    def file_path(self, request, response=None, info=None, *, item=None):
        return f"{ItemAdapter(item)['name']}/{request.url.rsplit('/', 1)[-1]}"


class _NamedFiles(FilesPipeline):
    """A pipeline of Scrapy that takes the folder of a file from the item."""

    file_path = NamedFiles.file_path


class SecondBaseFiles(ImgCacheFilesPipeline, _NamedFiles):
    """A drop-in in front of a pipeline of the project."""


class NestedFiles(ImgCacheFilesPipeline):
    """A drop-in with a hook that fetches a second image for each image."""

    async def file_downloaded(self, response, request, info, *, item=None):
        other = Request(request.url.replace("/a", "/b"), meta={"handle_httpstatus_all": True})
        await self.crawler.engine.download_async(other)
        return await super().file_downloaded(response, request, info, item=item)


class ErrbackPipeline(ImgCachePipeline):
    """A pipeline with two errbacks: one raises, and the other returns a result."""

    def get_media_requests(self, item, info):
        for request in super().get_media_requests(item, info):
            has_spare = "spare" in request.url
            yield request.replace(errback=self.spare if has_spare else self.give_up)

    def give_up(self, failure):
        failure.raiseException()

    def spare(self, failure):
        return {"url": "", "path": "spare", "checksum": None, "status": "spare"}


class PlaceholderFiles(ImgCacheFilesPipeline):
    """A drop-in that returns a result for a 404."""

    async def media_downloaded(self, response, request, info, *, item=None):
        if response.status == 404:
            return {"url": request.url, "path": "none", "checksum": None, "status": "none"}
        return await super().media_downloaded(response, request, info, item=item)


class FailingFiles(ImgCacheFilesPipeline):
    """A drop-in that fails all responses, and counts those in memory after the item."""

    def open_spider(self):
        super().open_spider()
        self.responses = []

    async def file_downloaded(self, response, request, info, *, item=None):
        self.responses.append(ref(response))
        raise ValueError("not this one")

    def item_completed(self, results, item, info):
        gc.collect()
        item["failed"] = [type(failure.value).__name__ for _, failure in results]
        item["in_memory"] = sum(response() is not None for response in self.responses)
        return item


class BuggyPipeline(ImgCachePipeline):
    """A pipeline with a bug in a hook."""

    def file_path(self, request, response=None, info=None, *, item=None):
        return f"{nmae}.jpg"  # noqa: F821 - the bug


class PostPipeline(ImgCachePipeline):
    """A pipeline that sends POST requests."""

    def get_media_requests(self, item, info):
        return [r.replace(method="POST") for r in super().get_media_requests(item, info)]


class _RenamedImages(ImagesPipeline):
    """A pipeline of Scrapy that puts all files into a folder."""

    def get_images(self, response, request, info, *, item=None):
        for path, image, content in super().get_images(response, request, info, item=item):
            yield f"mine/{path}", image, content


class SecondBasePipeline(ImgCacheImagesPipeline, _RenamedImages):
    """A drop-in in front of a pipeline of the project."""


class NumberFingerprinter:
    """Tells requests with different numbers in a header apart."""

    def fingerprint(self, request):
        return fingerprint(request, include_headers=["X-Number"])


class _WithNumbers:
    """Sends requests with a number in the field that the item names."""

    def get_media_requests(self, item, info):
        requests = super().get_media_requests(item, info)
        for number, request in enumerate(requests):
            numbered = {"body": f"{number}", "headers": {"X-Number": f"{number}"}}
            yield request.replace(**{item["numbered"]: numbered[item["numbered"]]})


class NumbersPipeline(_WithNumbers, ImgCachePipeline):
    """A pipeline that keeps images in the cache only."""


class NumbersFilesPipeline(_WithNumbers, ImgCacheFilesPipeline):
    """A drop-in."""


class NumbersStockPipeline(_WithNumbers, FilesPipeline):
    """A pipeline of Scrapy."""


class ItemNamedPipeline(ImgCachePipeline):
    """A pipeline that takes the folder of a path from the item."""

    def file_path(self, request, response=None, info=None, *, item=None):
        return f"{item['name']}/{super().file_path(request, response, info, item=item)}"


class SpoolReader:
    """A pipeline that adds to each item whether its spooled images are in the spool now."""

    def process_item(self, item):
        kept = b"".join(path.read_bytes() for path in Path(".scrapy/imgcache-spool").glob("[!#]*"))
        spooled = [image for image in item["images"] if image["status"] == "spooled"]
        return item | {"kept": all(image["url"].encode() in kept for image in spooled)}


class Base64Middleware:
    """A middleware that decodes base64 bodies of an API and does not change the headers."""

    def process_response(self, request, response):
        is_page = request.url.endswith("/")
        return response if is_page else response.replace(body=b64decode(response.body))


class ShrinkingMiddleware:
    """A middleware that makes each picture smaller and does not change the headers."""

    def process_response(self, request, response):
        is_page = request.url.endswith("/")
        return response if is_page else response.replace(body=picture(1, 8))


class PillowWatch:
    """An extension that logs at the end of a crawl whether Pillow was imported during it."""

    @classmethod
    def from_crawler(cls, crawler):
        watch = cls()
        for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
            del sys.modules[name]  # imported for the pictures of the test
        crawler.signals.connect(watch.closed, signals.spider_closed)
        return watch

    def closed(self):
        logging.getLogger("watch").info("Pillow was loaded: %s", "PIL" in sys.modules)


class FirstFiles(ImgCacheFilesPipeline):
    """A pipeline of a project."""


class SecondFiles(ImgCacheFilesPipeline):
    """Another pipeline of the same project."""


def key_of_directory(url: str) -> str:
    """Return the folder of a URL as its key: all its pictures are one."""
    return url.rpartition("/")[0] + "/"


def broken_key(url: str) -> str:
    """Fail, as a project's function with a bug does."""
    raise ValueError("no key")


class Troublemaker:
    """A downloader middleware that drops some requests, and has a bug with others."""

    def process_request(self, request):
        if request.url.endswith("/dropped.jpg"):
            raise IgnoreRequest("not this one")
        if request.url.endswith("/broken.jpg"):
            raise ValueError("a bug")


class NamesByResponse:
    """Names files by what the response says."""

    def file_path(self, request, response=None, info=None, *, item=None):
        if response is None:
            return "unknown"
        names = [b"Content-Disposition", b"ETag", b"Content-Type"]
        said = [response.url.encode(), *(response.headers.get(name, b"") for name in names)]
        return "named/" + quote(b" ".join(said), safe="")


class FilesNamedByResponse(NamesByResponse, ImgCacheFilesPipeline):
    """The drop-in with such names."""


class StockFilesNamedByResponse(NamesByResponse, FilesPipeline):
    """Scrapy's pipeline with such names."""


class ReversedImages(ImgCacheImagesPipeline):
    """A drop-in with own requests, which keeps only the URLs of its results."""

    def get_media_requests(self, item, info):
        for url in reversed(item.pop("image_urls")):
            yield Request(url)

    def item_completed(self, results, item, info):
        item["urls"] = [result["url"] for ok, result in results if ok]
        return item


class CountingPipeline(ImgCachePipeline):
    """A pipeline that only counts the paths of an item."""

    def item_completed(self, results, item, info):
        return {**item, "count": len(item.get("paths", ()))}

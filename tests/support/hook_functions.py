"""Hooks as users write them, each a row of the table: errbacks, results of all kinds."""

from io import BytesIO

from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.pipelines.images import ImageException
from scrapy.utils.request import fingerprint

from tests.support.hook_recorder import record_event
from tests.support.hook_table import ROWS, THUMBS, hook_row, row

FileException = ImageException.__mro__[1]


# Errbacks.


def errback_row(**more):
    """Add a row for missing files, whose requests have an errback."""

    def add(errback):
        @row("files", ["404.jpg", "404.jpg"], quiet=True, **more)
        def make(base):
            def get_media_requests(self, item, info):
                for request in base.get_media_requests(self, item, info):
                    yield request.replace(errback=errback)

            return type(errback.__name__, (base,), {"get_media_requests": get_media_requests})

        ROWS[errback.__name__] = ROWS.pop("make")
        return errback

    return add


@errback_row(reasons=["http_404"] * 2)
def errback_returns_the_failure(failure):
    record_event("errback", None, failure)
    return failure


@errback_row(reasons=["http_404"] * 2)
def errback_raises_the_failure(failure):
    failure.raiseException()


@errback_row(reasons=["http_404"] * 2)
def errback_has_a_bug(failure):
    return failure.nothing


@errback_row()
def errback_returns_a_result(failure):
    return {"path": "none.jpg", "url": "none", "status": "none"}


@errback_row()
def errback_returns_none(failure):
    return None


# What media_failed does with a failure.


@hook_row("files", ["404.jpg"])
def none__media_failed(self, failure, request, info):
    return None


@hook_row("files", ["404.jpg"])
def dict__media_failed(self, failure, request, info):
    return {"path": "none.jpg", "status": "none"}


@hook_row("files", ["404.jpg"], reasons=["http_404"], quiet=True)
def returned__media_failed(self, failure, request, info):
    return failure


@hook_row("files", ["404.jpg"], reasons=["http_404"], quiet=True)
def raised__media_failed(self, failure, request, info):
    raise FileException("mine") from failure.value


@hook_row("files", ["404.jpg"], reasons=["hook"])
def own__media_failed(self, failure, request, info):
    raise LookupError("mine")


# Results of hooks.


@hook_row("files")
def path__media_to_download(self, request, info, *, item=None):
    return "kept/elsewhere.jpg"


@hook_row("files")
def dict__media_to_download(self, request, info, *, item=None):
    return {"url": "own", "path": "own.jpg", "checksum": "own", "status": "own"}


@hook_row("files")
async def awaited__media_to_download(self, request, info, *, item=None):
    return {"path": "own.jpg"}


@hook_row("files", ["a.jpg", "404.jpg"], reasons=["http_404"], quiet=True)
async def super__media_to_download(self, request, info, *, item=None):
    return await self.base.media_to_download(self, request, info, item=item)


@hook_row("files")
async def response__media_downloaded(self, response, request, info, *, item=None):
    return response


@hook_row("files", ["404.jpg"])
async def accepted__media_downloaded(self, response, request, info, *, item=None):
    whole = response.replace(status=200)
    return await self.base.media_downloaded(self, whole, request, info, item=item)


@hook_row("files")
def text__media_downloaded(self, response, request, info, *, item=None):
    return "a text"


@hook_row("files")
def none__media_downloaded(self, response, request, info, *, item=None):
    return None


@hook_row("files")
def tuple__media_downloaded(self, response, request, info, *, item=None):
    return (response.status, len(response.body))


@hook_row("files")
async def own__media_downloaded(self, response, request, info, *, item=None):
    result = await self.base.media_downloaded(self, response, request, info, item=item)
    return result | {"url": "own", "status": "own", "checksum": None}


@hook_row("files", ["404.jpg"])
async def placeholder__media_downloaded(self, response, request, info, *, item=None):
    return {"path": "none.jpg", "status": "none", "code": response.status}


@hook_row("files", reasons=["filtered"], quiet=True)
def ignored__media_downloaded(self, response, request, info, *, item=None):
    raise IgnoreRequest("not this one")


@hook_row("files", reasons=["hook"])
async def refused__file_downloaded(self, response, request, info, *, item=None):
    raise FileException("not this one")


@hook_row("images", reasons=["hook"])
def refused__get_images(self, response, request, info, *, item=None):
    yield from self.base.get_images(self, response, request, info, item=item)
    raise ImageException("not nice enough")


@hook_row("images")
def own__convert_image(self, image, size=None, *, response_body):
    record_event("convert_image", None, size)
    return image, BytesIO(b"not a JPEG")


@hook_row("images", settings={"IMAGES_THUMBS": THUMBS})
def super__convert_image(self, image, size=None, *, response_body):
    record_event("convert_image", None, size)
    return self.base.convert_image(self, image, size, response_body=response_body)


@hook_row("images")
def own__get_images(self, response, request, info, *, item=None):
    for path, image, content in self.base.get_images(self, response, request, info, item=item):
        record_event("get_images", request, path, image)
        yield f"own/{path}", image, content


@hook_row("images")
async def super__image_downloaded(self, response, request, info, *, item=None):
    checksum = await self.base.image_downloaded(self, response, request, info, item=item)
    record_event("image_downloaded", request, checksum)
    return checksum.upper()


@hook_row("images")
async def none__image_downloaded(self, response, request, info, *, item=None):
    await self.base.image_downloaded(self, response, request, info, item=item)


@hook_row("files", ["b.jpg", "a.jpg"])
def json__item_completed(self, results, item, info):
    item["mine"] = [result["path"] for ok, result in results if ok]
    return item


@hook_row("files")
def known__item_completed(self, results, item, info):
    prints = [fingerprint(Request(url)) for url in item["urls"]]
    record_event("info", None, [each in info.downloaded for each in prints])
    record_event("info", None, len(info.downloading), sum(map(len, info.waiting.values())))
    return item


# Requests.


@hook_row("files")
def single__get_media_requests(self, item, info):
    return Request(item["urls"][0])


@hook_row("files")
def none__get_media_requests(self, item, info):
    return None


@hook_row("files")
def generated__get_media_requests(self, item, info):
    for number, url in enumerate(item["urls"]):
        yield Request(url, meta={"number": number}, headers={"Referer": "http://page/"})


@hook_row("files")
def posted__get_media_requests(self, item, info):
    return [Request(url, method="POST", body=b"x") for url in item["urls"]]


@hook_row("files")
def uncached__get_media_requests(self, item, info):
    return [Request(url, meta={"dont_cache": True}) for url in item["urls"]]


@hook_row("files")
def number__file_path(self, request, response=None, info=None, *, item=None):
    return 5


@hook_row("images")
def meta__file_path(self, request, response=None, info=None, *, item=None):
    request.meta["seen"] = request.meta.get("seen", 0) + 1
    record_event("seen", request, request.meta["seen"])
    return f"{item['row']}/{request.meta['seen']}.jpg"

"""Pipelines that write down what their hooks see, whatever class they extend."""

import json
import logging
import threading
from contextvars import ContextVar
from pathlib import Path

import scrapy
from itemadapter import ItemAdapter
from scrapy.exceptions import DropItem
from twisted.python.failure import Failure

TOLD = []
"""What each hook saw and gave: the row, the path of the URL, and a description."""

current_row = ContextVar("row", default=None)


class DeclaredItem(scrapy.Item):
    """An item that has no field for results."""

    row = scrapy.Field()
    urls = scrapy.Field()


def described(value):
    """Describe a value so that two crawls can be compared."""
    if isinstance(value, Failure):
        return described(value.value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {str(value).split(' at 0x')[0]}"
    if isinstance(value, dict):
        return {key: described(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    return value if isinstance(value, (str, int, type(None))) else type(value).__name__


def told(hook, request, *seen):
    path = "" if request is None else request.url.partition("/")[2].partition("/")[2]
    thread = threading.current_thread() is threading.main_thread()
    TOLD.append([current_row.get(), path, [hook, thread, *map(described, seen)]])


def recorded(base):
    """Extend a pipeline by hooks that tell what they see, and then do what Scrapy does."""
    return type("Recorded", (RecordedItem, RecordedFiles, base), {})


def recorded_images(base):
    """Do the same with the hooks that only an images pipeline has."""
    return type("RecordedImages", (RecordedImages, recorded(base)), {})


class RecordedItem:
    """The hooks that are called once for an item."""

    async def process_item(self, item):
        if item["row"] != self.row:
            return item
        current_row.set(self.row)
        try:
            return await super().process_item(item)
        except Exception as error:
            told("process_item", None, error)
            raise DropItem("told") from error

    def get_media_requests(self, item, info):
        told("get_media_requests", None, type(item), info)
        return super().get_media_requests(item, info)

    def item_completed(self, results, item, info):
        told("item_completed", None, results, type(item), info)
        return super().item_completed(results, item, info)


class RecordedFiles:
    """The hooks that are called for each request."""

    def media_to_download(self, request, info, *, item=None):
        told("media_to_download", request, type(item), info)
        return super().media_to_download(request, info, item=item)

    async def media_downloaded(self, response, request, info, *, item=None):
        told("media_downloaded", request, response, response.status, type(item))
        return await super().media_downloaded(response, request, info, item=item)

    def media_failed(self, failure, request, info):
        told("media_failed", request, failure, info)
        return super().media_failed(failure, request, info)

    def file_path(self, request, response=None, info=None, *, item=None):
        told("file_path", request, response, info, type(item))
        return super().file_path(request, response, info, item=item)

    async def file_downloaded(self, response, request, info, *, item=None):
        told("file_downloaded", request, response, info, type(item))
        return await super().file_downloaded(response, request, info, item=item)


class RecordedImages:
    """The hook that only an images pipeline has."""

    def thumb_path(self, request, thumb_id, response=None, info=None, *, item=None):
        told("thumb_path", request, thumb_id, response, info, type(item))
        return super().thumb_path(request, thumb_id, response, info, item=item)


class LogTeller(logging.Handler):
    """Tells each record of a hook's row."""

    def emit(self, record):
        if current_row.get() is not None and record.levelno > logging.DEBUG:
            has_traceback = bool(record.exc_info and record.exc_info[0]) or (
                "Traceback" in record.getMessage()
            )
            TOLD.append([current_row.get(), "log", [record.name, record.levelname, has_traceback]])


class First:
    """Comes before all others: gives an item its class."""

    def open_spider(self):
        logging.getLogger().addHandler(LogTeller())

    def process_item(self, item):
        if item["row"].endswith("without_field"):
            return DeclaredItem(item)
        if item["row"].endswith("tuple"):
            return item | {"urls": tuple(item["urls"])}
        return item


class Last:
    """Comes after all others: tells the item, and at the end writes what was told."""

    def __init__(self, path):
        self.path = Path(path)

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler.settings["HOOK_EVENTS"])

    def process_item(self, item):
        fields = dict(ItemAdapter(item))
        failures = fields.pop("failures", [])
        row = item["row"]
        TOLD.append([row, "item", [type(item).__name__, described(fields)]])
        TOLD.append([row, "reasons", [failure["reason"] for failure in failures]])
        return {"row": row}

    def close_spider(self):
        self.path.write_text(json.dumps(TOLD))

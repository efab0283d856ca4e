"""Classes that record what the hooks of any pipeline see."""

import json
import logging
import threading
from contextvars import ContextVar
from pathlib import Path

import scrapy
from itemadapter import ItemAdapter
from scrapy.exceptions import DropItem
from twisted.python.failure import Failure

EVENTS = []
"""The recorded events: for each one the row, the path of the URL, and a description."""

current_row = ContextVar("row", default=None)


class DeclaredItem(scrapy.Item):
    """An item that has no field for results."""

    row = scrapy.Field()
    urls = scrapy.Field()


def describe(value):
    """Describe a value so that two crawls can be compared."""
    if isinstance(value, Failure):
        return describe(value.value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {str(value).split(' at 0x')[0]}"
    if isinstance(value, dict):
        return {key: describe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(each) for each in value]
    return value if isinstance(value, (str, int, type(None))) else type(value).__name__


def record_event(hook, request, *seen):
    """Record a call of a hook, and the values that it saw."""
    path = "" if request is None else request.url.partition("/")[2].partition("/")[2]
    thread = threading.current_thread() is threading.main_thread()
    EVENTS.append([current_row.get(), path, [hook, thread, *map(describe, seen)]])


def recorded(base):
    """Extend a pipeline with hooks that record what they see, and then do what Scrapy does."""
    return type("Recorded", (RecordedItem, RecordedFiles, base), {})


def recorded_images(base):
    """Do the same, also with the hook that only an images pipeline has."""
    return type("RecordedImages", (RecordedImages, recorded(base)), {})


class RecordedItem:
    """The hooks that are called once per item."""

    async def process_item(self, item):
        if item["row"] != self.row:
            return item
        current_row.set(self.row)
        try:
            return await super().process_item(item)
        except Exception as error:
            record_event("process_item", None, error)
            raise DropItem("recorded") from error

    def get_media_requests(self, item, info):
        record_event("get_media_requests", None, type(item), info)
        return super().get_media_requests(item, info)

    def item_completed(self, results, item, info):
        record_event("item_completed", None, results, type(item), info)
        return super().item_completed(results, item, info)


class RecordedFiles:
    """The hooks that are called once or more per request."""

    def media_to_download(self, request, info, *, item=None):
        record_event("media_to_download", request, type(item), info)
        return super().media_to_download(request, info, item=item)

    async def media_downloaded(self, response, request, info, *, item=None):
        record_event("media_downloaded", request, response, response.status, type(item))
        return await super().media_downloaded(response, request, info, item=item)

    def media_failed(self, failure, request, info):
        record_event("media_failed", request, failure, info)
        return super().media_failed(failure, request, info)

    def file_path(self, request, response=None, info=None, *, item=None):
        record_event("file_path", request, response, info, type(item))
        return super().file_path(request, response, info, item=item)

    async def file_downloaded(self, response, request, info, *, item=None):
        record_event("file_downloaded", request, response, info, type(item))
        return await super().file_downloaded(response, request, info, item=item)


class RecordedImages:
    """The hook that only an images pipeline has."""

    def thumb_path(self, request, thumb_id, response=None, info=None, *, item=None):
        record_event("thumb_path", request, thumb_id, response, info, type(item))
        return super().thumb_path(request, thumb_id, response, info, item=item)


class LogRecorder(logging.Handler):
    """A log handler that records the messages of each row."""

    def emit(self, record):
        if current_row.get() is not None and record.levelno > logging.DEBUG:
            has_traceback = bool(record.exc_info and record.exc_info[0]) or (
                "Traceback" in record.getMessage()
            )
            EVENTS.append(
                [current_row.get(), "log", [record.name, record.levelname, has_traceback]]
            )


class First:
    """The first pipeline: converts an item to the class that its row needs."""

    def open_spider(self):
        logging.getLogger().addHandler(LogRecorder())

    def process_item(self, item):
        if item["row"].endswith("without_field"):
            return DeclaredItem(item)
        if item["row"].endswith("tuple"):
            return item | {"urls": tuple(item["urls"])}
        return item


class Last:
    """The last pipeline: records the item, and writes all events when the spider closes."""

    def __init__(self, path):
        self.path = Path(path)

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler.settings["HOOK_EVENTS"])

    def process_item(self, item):
        fields = dict(ItemAdapter(item))
        failures = fields.pop("failures", [])
        row = item["row"]
        EVENTS.append([row, "item", [type(item).__name__, describe(fields)]])
        EVENTS.append([row, "reasons", [failure["reason"] for failure in failures]])
        return {"row": row}

    def close_spider(self):
        self.path.write_text(json.dumps(EVENTS))

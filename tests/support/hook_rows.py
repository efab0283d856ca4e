"""The pipeline classes of each row of the table in `hook_table`.

For the row NAME, `stock_NAME` extends Scrapy's pipeline, and `ours_NAME` extends our drop-in.
"""

import sqlite3

from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.images import ImagesPipeline

from imgcache_scrapy import ImgCacheFilesPipeline, ImgCacheImagesPipeline
from tests.support import hook_bugs, hook_functions
from tests.support.hook_recorder import record_event, recorded, recorded_images
from tests.support.hook_table import ROWS, THUMBS, row

__all__ = ["ROWS", "hook_bugs", "hook_functions"]


# Classes that are more than a single hook.


@row("images", settings={"IMAGES_THUMBS": THUMBS})
def sqlite(base):
    class Pipeline(base):
        def open_spider(self):
            self.names = sqlite3.connect(":memory:")
            super().open_spider()

        def file_path(self, request, response=None, info=None, *, item=None):
            return self.names.execute("SELECT 'full/named.jpg'").fetchone()[0]

        def thumb_path(self, request, thumb_id, response=None, info=None, *, item=None):
            return self.names.execute("SELECT 'thumb/named.jpg'").fetchone()[0]

    return Pipeline


@row("files", settings={"FILES_URLS_FIELD": "no"})
def fields_in_init(base):
    class Pipeline(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.files_urls_field, self.files_result_field = "urls", "other"

    return Pipeline


@row("images", settings={"IMAGES_URLS_FIELD": "no"})
def fields_in_open_spider(base):
    class Pipeline(base):
        def open_spider(self):
            super().open_spider()
            self.images_urls_field, self.images_result_field = "urls", "other"

    return Pipeline


@row("files", settings={"FILES_URLS_FIELD": "no"})
def fields_in_from_crawler(base):
    class Pipeline(base):
        @classmethod
        def from_crawler(cls, crawler):
            pipeline = super().from_crawler(crawler)
            pipeline.files_urls_field, pipeline.files_result_field = "urls", "other"
            return pipeline

    return Pipeline


@row("images", reasons=["too_small"], quiet=True)
def minimum_in_open_spider(base):
    class Pipeline(base):
        def open_spider(self):
            super().open_spider()
            self.min_width = 999

    return Pipeline


@row("files", ["go.jpg"], settings={"MEDIA_ALLOW_REDIRECTS": 0}, reasons=["http_302"], quiet=True)
def redirect_forbidden(base):
    return base


@row("images", ["a.jpg", "404.jpg"], reasons=["http_404"], quiet=True)
def attributes_with_our_names(base):
    class Pipeline(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            for name in ("crawl", "deliver", "takes", "urls_field", "result_field", "session"):
                setattr(self, name, None)
            for name in ("flow", "log", "settings", "cache", "source", "client", "key"):
                setattr(self, name, None)
            for name in ("_key", "_image", "_put", "_job", "_fetch", "_results", "_converter"):
                setattr(self, name, None)
            for name in ("_converted", "_process", "_report", "needs_bytes", "must_store"):
                setattr(self, name, None)

    return Pipeline


@row("files", reasons=["processing"])
def no_folder(base):
    class Pipeline(base):
        def open_spider(self):
            super().open_spider()
            self.store.basedir = "/proc/no/such/folder"

    return Pipeline


@row("images", settings={"IMAGES_THUMBS": THUMBS})
def order_of_files(base):
    class Store:
        def stat_file(self, path, info):
            raise RuntimeError("unknown")

        async def persist_file(self, path, buf, info, meta=None, headers=None):
            record_event("persist_file", None, path, meta, headers)

    class Pipeline(base):
        def open_spider(self):
            super().open_spider()
            self.store = Store()

    return Pipeline


BASES = {
    "stock": {"files": FilesPipeline, "images": ImagesPipeline},
    "ours": {"files": ImgCacheFilesPipeline, "images": ImgCacheImagesPipeline},
}
RECORDED = {"files": recorded, "images": recorded_images}


def make_class(name, made, base):
    """Create the class of a row."""
    fields = {
        f"{kind.upper()}_{field}_FIELD": value
        for kind in BASES["stock"]
        for field, value in (("URLS", "urls"), ("RESULT", "found"))
    }
    return type(name, (made.make(RECORDED[made.kind](base)),), fields)


for _owner, _bases in BASES.items():
    for _name, _row in ROWS.items():
        _class = make_class(f"{_owner}_{_name}", _row, _bases[_row.kind])
        _class.row = _name
        globals()[_class.__name__] = _class

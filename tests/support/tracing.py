"""A Scrapy extension that writes down which functions of the package a crawl calls."""

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Self

from scrapy import signals
from scrapy.crawler import Crawler

import imgcache_scrapy

_PACKAGE = f"{Path(imgcache_scrapy.__file__).parent}/"
CALLS = "calls"
"""The file in the working folder: a line `file:function` for each, in the order of first calls."""


class CallTrace:
    """Writes `CALLS` when the crawl ends."""

    def __init__(self) -> None:
        self._calls: dict[str, None] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        trace = cls()
        # Not from the beginning: the imports have many calls.
        crawler.signals.connect(trace._begin, signals.response_received)
        crawler.signals.connect(trace._write, signals.engine_stopped)
        return trace

    def _begin(self) -> None:
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE):
            file = code.co_filename.removeprefix(_PACKAGE)
            self._calls.setdefault(f"{file}:{code.co_qualname}")

    def _write(self) -> None:
        sys.setprofile(None)
        Path(CALLS).write_text("\n".join(self._calls))

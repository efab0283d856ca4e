"""Local files: hold the files of the drop-ins to the same age as captures."""

import os
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from scrapy import Request
from scrapy.pipelines.files import FSFilesStore
from scrapy.pipelines.media import MediaPipeline

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.plugin.bypass import bypasses_cache
from imgcache_scrapy.plugin.freshness import seconds_of_days
from imgcache_scrapy.plugin.session import Session


class _Unset:
    """Stands for a maximum age that neither the request nor a setting names."""


_UNSET = _Unset()


def expiry(pipeline: MediaPipeline) -> float | None:
    """Return the age in seconds at which the files of a pipeline expire; None if they do not."""
    days = getattr(pipeline, "expires", None)
    return None if days is None else seconds_of_days(days)


def dated_file(session: Session, stat: Any, request: Request) -> Any:
    """Return what Scrapy must know of a local file, so that it is as fresh as a capture.

    Args:
        session: the session of the crawl.
        stat: what the store says about the file; a false value if there is no file.
        request: the request for the image.
    """
    rules = session.settings.freshness
    if not stat or not stat.get("last_modified") or bypasses_cache(request):
        return stat
    age = session.ages.of(request, request.url, _UNSET)
    if not isinstance(age, _Unset):
        return rules.dated_file(stat, time.time(), age)
    # Without an age of ours, Scrapy decides by its own setting.
    return stat if rules.mode == "normal" else rules.dated_file(stat, time.time(), None)


def date_file(pipeline: MediaPipeline, result: Any, entry: Entry) -> None:
    """Give a file that was written from the cache the time when its image was fetched.

    Otherwise an image that is nearly too old would become new by being written again. Stores that
    are no folder keep the time of writing.

    Args:
        pipeline: the pipeline that wrote the file.
        result: its result.
        entry: the entry of the image.
    """
    store, path = getattr(pipeline, "store", None), isinstance(result, dict) and result.get("path")
    if isinstance(store, FSFilesStore) and path:
        fetched = datetime.fromisoformat(entry["lookup_time"]).timestamp()
        with suppress(OSError):  # A subclass may have written no file.
            os.utime(Path(store.basedir, path), (fetched, fetched))

"""Local files: hold the files of the drop-ins to what holds for captures: age and blocks."""

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
from imgcache_scrapy.core.errors import ImgCacheError
from imgcache_scrapy.plugin.flow import Flow
from imgcache_scrapy.plugin.freshness import dated_stat, seconds_of_days
from imgcache_scrapy.plugin.keys import KeyFunctionError
from imgcache_scrapy.plugin.local_uses import LocalUse
from imgcache_scrapy.plugin.outcome import ImageWithheld
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
    if not stat or not stat.get("last_modified") or session.bypass.applies(request):
        return stat
    age = session.ages.of(request, request.url, _UNSET)
    if not isinstance(age, _Unset):
        return dated_stat(rules, stat, time.time(), age)
    # Without an age of ours, Scrapy decides by its own setting.
    return stat if rules.mode == "normal" else dated_stat(rules, stat, time.time(), None)


def blocks_nothing(flow: Flow) -> bool:
    """Return whether the cache blocks nothing; False if it was not asked in the last minute."""
    return flow.session.resilient_client.blocked_hashes.are_none()


async def is_blocked(flow: Flow, request: Request) -> bool:
    """Return whether the image of a local file is blocked, as far as the cache can tell.

    The bytes of a file need not be those of its image, so that the cache is asked for the URL; but
    only if it blocks any image, because a file that is up to date needs no lookup otherwise.

    Args:
        flow: the flow of the crawl.
        request: the request for the image.
    """
    session = flow.session
    if session.bypass.applies(request) or not await session.resilient_client.blocked_hashes.known():
        return False
    try:
        await flow.find(flow.image_url(request), request, reads=False)
    except ImageWithheld as error:
        return error.is_blocked
    except (ImgCacheError, KeyFunctionError):  # The file is delivered if the cache cannot tell.
        return False
    return False


def note_use(flow: Flow, request: Request) -> None:
    """Note that a local file is used, so that the cache does not remove its image first.

    Args:
        flow: the flow of the crawl.
        request: the request for the image, which needs no lookup.
    """
    uses = flow.session.local_uses
    if uses is not None and not flow.session.bypass.applies(request):
        with suppress(ImgCacheError, KeyFunctionError):  # Without a key, it is not in the cache.
            uses.add(LocalUse(flow.image_url(request), flow.accept_of(request)))


def is_of_writing(error: OSError) -> bool:
    """Return whether an open file could not be written, as on a full disk."""
    # An error of opening has the name of the file, one of Pillow has no number.
    return error.errno is not None and error.filename is None


def remove_file(pipeline: MediaPipeline, path: Any) -> None:
    """Remove a file of a pipeline if its store is a folder.

    Args:
        pipeline: the pipeline.
        path: the path in its store.
    """
    store = getattr(pipeline, "store", None)
    if isinstance(store, FSFilesStore):
        # A subclass may give a path that is no text.
        with suppress(OSError, TypeError, ValueError):
            Path(store.basedir, path).unlink()


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
        # A subclass may have written no file, or give a path that is no text.
        with suppress(OSError, TypeError, ValueError):
            os.utime(Path(store.basedir, path), (fetched, fetched))

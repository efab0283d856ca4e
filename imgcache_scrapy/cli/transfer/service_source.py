"""Copy from a service: what its API shows goes into a catalog of a temporary folder first."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imgcache_scrapy.client.client import ImgCacheClient
from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import NotFoundError, ProtocolError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.response_info import ResponseInfo, varies_by_accept
from imgcache_scrapy.core.times import microseconds
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.core.uses import NewUse
from imgcache_scrapy.engine.catalog.database import database_call, sqlite_url
from imgcache_scrapy.engine.catalog.restoring import RestoringCatalog
from imgcache_scrapy.engine.catalog.rows import Capture, Image, failure_digest, now
from imgcache_scrapy.engine.catalog.sources import digest_of
from imgcache_scrapy.engine.catalog.tables import audit, blocked, blocked_source, failure, image_use
from imgcache_scrapy.engine.catalog.use_rows import use_row

_TIMEOUT = 60.0
_PAGE_SIZE = 1000
# All of them are in memory for a moment.
_MAX_FAILURES = 100_000
# Captures and uses are listed newest first, so each gets a smaller id than the one before.
_LAST_ID = 2**48


class ServiceSource:
    """A service to copy from.

    Args:
        client: a client of the service.
        catalog: what the service lists.
    """

    def __init__(self, client: ImgCacheClient, catalog: RestoringCatalog) -> None:
        self._client = client
        self._catalog = catalog

    @property
    def catalog(self) -> RestoringCatalog:
        """What the service lists."""
        return self._catalog

    def read(self, content_hash: str) -> bytes | None:
        """Read an image, which the client checks; None if its bytes are missing or damaged."""
        try:
            return self._client.get_bytes(content_hash)
        except NotFoundError:
            return None


@contextmanager
def open_service(address: str, token: str | None) -> Iterator[ServiceSource]:
    """List all that a service has, for a block.

    Args:
        address: the address of the service.
        token: its bearer token; None for no token.

    Raises:
        ProtocolError: it is not our service, and has no lists.
    """
    with (
        TemporaryDirectory(prefix="imgcache-copy-") as folder,
        ImgCacheClient(address, _TIMEOUT, token=token) as client,
        closing(
            database_call(RestoringCatalog)(sqlite_url(Path(folder, "catalog.sqlite3")))
        ) as catalog,
    ):
        _add_captures(client, catalog)
        _add_uses(client, catalog)
        _add_lists(client, catalog)
        yield ServiceSource(client, catalog)


def _add_captures(client: ImgCacheClient, catalog: RestoringCatalog) -> None:
    ids = count(_LAST_ID, -1)
    page = client.list(limit=_PAGE_SIZE)
    while page:
        images = {entry["content_hash"]: _image_row(entry) for entry in page}
        known = catalog.known(images)
        catalog.add_images(row for name, row in images.items() if name not in known)
        catalog.add_captures(_capture_row(entry) | {"id": next(ids)} for entry in page)
        if page.after is None:
            return
        page = client.list(limit=_PAGE_SIZE, after=page.after)


def _add_uses(client: ImgCacheClient, catalog: RestoringCatalog) -> None:
    ids, after, at = count(_LAST_ID, -1), None, now()
    with suppress(ProtocolError):  # An older service has none.
        while True:
            page = client.list_uses(limit=_PAGE_SIZE, after=after)
            uses = (NewUse.of(ImageUrl(each["url"], each["key"], ()), each) for each in page)
            catalog.add_rows(image_use, (use_row(use, at) | {"id": next(ids)} for use in uses))
            after = page.after
            if after is None:
                return


def _add_lists(client: ImgCacheClient, catalog: RestoringCatalog) -> None:
    found = client.blocked()
    images = [each for each in found if each["content_hash"] is not None]
    sources = [each for each in found if each["content_hash"] is None]
    catalog.add_rows(blocked, map(_blocked_row, images))
    catalog.add_rows(blocked_source, map(_source_row, sources))
    catalog.add_rows(failure, map(_failure_row, client.failures(limit=_MAX_FAILURES)))
    catalog.add_rows(audit, map(_audit_row, reversed(client.audit())))


def _image_row(entry: Entry) -> dict[str, Any]:
    values = (entry[name] for name in Image._fields if name != "decode_error")  # type: ignore[literal-required]
    # The day of its last use is not listed.
    return Image(*values).row() | {
        "damaged": entry.get("damaged", False),
        "last_used": None,
        "decode_attempts": 0,
    }


def _capture_row(entry: Entry) -> dict[str, Any]:
    headers = entry.get("headers", {})
    # An older service does not list the request's header: the capture must not be a hit for all.
    accept = entry.get("accept", "" if varies_by_accept(headers) else None)
    capture = Capture(
        entry["url"],
        entry.get("bucket", ""),
        entry["client_name"],
        entry["original_filename"],
        datetime.fromisoformat(entry["lookup_time"]),
        ResponseInfo(headers, entry.get("final_url"), accept),
        None if entry["key"] == entry["url"] else entry["key"],
    )
    created_at = _time(entry["created_at"])
    return capture.row() | {"content_hash": entry["content_hash"], "created_at": created_at}


def _blocked_row(each: Any) -> dict[str, Any]:
    return {**each, "created_at": _time(each["created_at"])}


def _source_row(each: Any) -> dict[str, Any]:
    source = Source("host", each["host"]) if each["host"] else Source("url", each["url"])
    return {
        **source._asdict(),
        "digest": digest_of(source),
        "reason": each["reason"],
        "created_at": _time(each["created_at"]),
    }


def _failure_row(each: Any) -> dict[str, Any]:
    return {
        **each,
        "digest": failure_digest(each["bucket"], each["url"]),
        "host": host_of(each["url"]),
        "failed_at": _time(each["failed_at"]),
        "expires_at": _time(each["expires_at"]),
    }


def _audit_row(each: Any) -> dict[str, Any]:
    return {
        **each,
        "filter": json.dumps(each["filter"]),
        "done_at": _time(each["done_at"]),
    }


def _time(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))

"""Compute the fields of requests to a service: pure functions."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from imgcache_scrapy.core.limits import MAX_BATCH_BYTES, MAX_BATCH_URLS
from imgcache_scrapy.core.response_info import ResponseInfo

T = TypeVar("T")

# A character of a URL takes one byte in JSON, rarely up to six.
_BATCH_CHARACTERS = MAX_BATCH_BYTES // 2


def capture_fields(
    client_name: str,
    bucket: str,
    lookup_time: datetime | None,
    response: ResponseInfo,
) -> dict[str, Any]:
    """Return the fields of a capture that a claim and a store have in common.

    Args:
        client_name: the name of the client that fetched the image.
        bucket: the bucket.
        lookup_time: when it was fetched; None for now.
        response: what the site said.
    """
    headers, final_url, accept = response
    return {
        "client_name": client_name,
        "bucket": bucket,
        **without_none(
            lookup_time=None if lookup_time is None else lookup_time.isoformat(),
            headers=dict(headers) or None,
            final_url=final_url,
            accept=accept,
        ),
    }


def form_of(fields: dict[str, Any]) -> dict[str, str]:
    """Return fields as those of a form, which are all texts."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in fields.items()
    }


def batches_by_size(
    items: Iterable[T], size_of: Callable[[T], int], max_size: int = _BATCH_CHARACTERS
) -> Iterator[list[T]]:
    """Divide items into batches, each for one request.

    Args:
        items: the items.
        size_of: returns the number of characters of an item.
        max_size: maximum number of characters of a batch; a batch of one item may have more.
    """
    batch: list[T] = []
    size = 0
    for item in items:
        its_size = size_of(item)
        if batch and (len(batch) == MAX_BATCH_URLS or size + its_size > max_size):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += its_size
    if batch:
        yield batch


def without_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}

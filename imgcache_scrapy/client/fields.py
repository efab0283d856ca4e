"""Compute the fields of requests to a service: pure functions."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from imgcache_scrapy.core.limits import MAX_BATCH_BYTES, MAX_BATCH_URLS
from imgcache_scrapy.core.response_info import ResponseInfo

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


def batches_of_keys(keys: list[str]) -> Iterator[list[str]]:
    """Divide keys into batches, each for one request."""
    batch: list[str] = []
    size = 0
    for key in keys:
        if len(batch) == MAX_BATCH_URLS or size + len(key) > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += len(key)
    yield batch


def without_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}

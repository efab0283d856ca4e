"""Compute the fields of requests to a service: pure functions."""

import json
from datetime import datetime
from typing import Any

from imgcache_scrapy.core.response_info import ResponseInfo


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


def without_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}

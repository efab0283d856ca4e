"""The schemas of what answers contain, for the OpenAPI document."""

from typing import get_type_hints

# Pydantic supports `typing.TypedDict` only since Python 3.12, so `Entry` is defined again here.
from typing_extensions import TypedDict

from imgcache_scrapy.core import audit, blocked, entry, failures, uses

Entry = TypedDict("Entry", get_type_hints(entry.Entry, include_extras=True))  # type: ignore[misc]
Entry.__doc__ = entry.Entry.__doc__
BlockedImage = TypedDict("BlockedImage", get_type_hints(blocked.BlockedImage))  # type: ignore[misc]
BlockedImage.__doc__ = blocked.BlockedImage.__doc__
BlockedSource = TypedDict("BlockedSource", get_type_hints(blocked.BlockedSource))  # type: ignore[misc]
BlockedSource.__doc__ = blocked.BlockedSource.__doc__
AuditEntry = TypedDict("AuditEntry", get_type_hints(audit.AuditEntry))  # type: ignore[misc]
AuditEntry.__doc__ = audit.AuditEntry.__doc__
Use = TypedDict("Use", get_type_hints(uses.Use))  # type: ignore[misc]
Use.__doc__ = uses.Use.__doc__
Failure = TypedDict("Failure", get_type_hints(failures.Failure))  # type: ignore[misc]
Failure.__doc__ = failures.Failure.__doc__


class Found(TypedDict):
    """The answer to a batch of lookups."""

    entries: dict[str, Entry]
    failures: dict[str, Failure]
    blocked: list[str]

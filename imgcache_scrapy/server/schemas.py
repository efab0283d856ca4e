"""The schema of an entry for the OpenAPI document."""

from typing import get_type_hints

# Pydantic supports `typing.TypedDict` only since Python 3.12, so `Entry` is defined again here.
from typing_extensions import TypedDict

from imgcache_scrapy.core import entry

Entry = TypedDict("Entry", get_type_hints(entry.Entry, include_extras=True))  # type: ignore[misc]
Entry.__doc__ = entry.Entry.__doc__

"""The schemas of the OpenAPI document that are not made from a route's own types."""

from typing import get_type_hints

# Pydantic cannot read `typing.TypedDict` before Python 3.12.
from typing_extensions import TypedDict

from imgcache_scrapy.core import entry

Entry = TypedDict("Entry", get_type_hints(entry.Entry, include_extras=True))  # type: ignore[misc]
Entry.__doc__ = entry.Entry.__doc__

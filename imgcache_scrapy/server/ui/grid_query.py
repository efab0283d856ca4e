"""GridQuery: what the address of the grid says: which pictures it shows, and how large."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, ValidationError

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.filters import Filters, checked_filters
from imgcache_scrapy.core.limits import SEARCH_POSITION_PATTERN
from imgcache_scrapy.server.listing import FilterQuery
from imgcache_scrapy.server.ui.texts import address, refusal

NO_BUCKET = "(none)"
"""Stands for the bucket without a name, because an empty field of a form means any bucket."""
TILES = {"s": 120, "m": 60, "l": 36, "xl": 20}
"""The sizes of the grid, and how many pictures a page of each has."""

_LABELS = {
    "url_contains": "URL contains",
    "host": "host",
    "bucket": "bucket",
    "client_name": "client",
    "page_url": "used on",
    "job": "job",
    "content_type": "type",
    "since": "from",
    "until": "before",
    "min_width": "width from",
    "min_height": "height from",
    "min_bytes": "bytes from",
    "max_bytes": "bytes to",
    "damaged": "damaged",
    "state": "state",
}


class Chip(NamedTuple):
    """A condition of the grid.

    Attributes:
        label: what it is about.
        value: its value.
        without: the address of the grid without it.
    """

    label: str
    value: str
    without: str


class GridQuery(FilterQuery):
    """The parameters of the grid.

    Attributes:
        state: only images that are damaged, or only those that are not decoded.
        size: the size of the tiles.
        after: the position after which the page begins.
    """

    model_config = ConfigDict(extra="ignore")

    state: Literal["damaged", "not_decoded"] | None = None
    size: Literal["s", "m", "l", "xl"] = "m"
    after: Annotated[str, Field(pattern=SEARCH_POSITION_PATTERN)] | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Self:
        """Check the parameters of an address.

        Raises:
            InvalidRequestError: one of them is not valid.
        """
        try:
            return cls.model_validate(dict(parameters))
        except ValidationError as error:
            raise InvalidRequestError(
                refusal(error.errors(include_input=False, include_url=False))
            ) from error

    def filters(self) -> Filters:
        """Return the conditions as the engine takes them."""
        given = self.conditions()
        if self.bucket == NO_BUCKET:
            given["bucket"] = ""
        if self.state == "damaged":
            given["damaged"] = True
        return checked_filters(given)


def given_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that have a value: a form sends its empty fields, too."""
    return {name: value for name, value in parameters.items() if value}


def chips(parameters: Mapping[str, str]) -> list[Chip]:
    """Return the conditions in the parameters of an address."""
    return [
        Chip(label, parameters[name], address("/", parameters, **{name: None, "after": None}))
        for name, label in _LABELS.items()
        if name in parameters
    ]

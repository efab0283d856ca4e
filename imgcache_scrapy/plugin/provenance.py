"""Decide what is recorded of an item that uses images: which of its fields say what."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self

from itemadapter import ItemAdapter

from imgcache_scrapy.core.checks import cleaned
from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.uses import meta_text, page_of

MAX_LABEL = 255
"""Maximum characters of names; longer ones are cut."""
# In characters; the texts of an item may have any length.
_MAX_TEXT = 1000


class UseFields(NamedTuple):
    """The fields of items that say what is recorded; of several ones, the first that has a value.

    Attributes:
        page: the URL of the page.
        item: what identifies the item.
        alt: the alternative text: of all images, or a list of those of each, or a dict by URL.
        caption: the caption, as `alt`.
        meta: further values; all of these fields are recorded.
    """

    page: tuple[str, ...] = ("page_url", "url", "link")
    item: tuple[str, ...] = ("item_id", "id", "sku")
    alt: tuple[str, ...] = ("image_alts", "alt")
    caption: tuple[str, ...] = ("image_captions", "caption")
    meta: tuple[str, ...] = ()

    @classmethod
    def of(cls, fields: object) -> Self:
        """Read the fields of a setting, which replace the default ones.

        Args:
            fields: a dict of what is recorded, each with a field, a list of fields, or None.

        Raises:
            ConfigurationError: it is something else.
        """
        if not isinstance(fields, Mapping):
            raise ConfigurationError("it is no dict")
        unknown = set(map(str, fields)) - set(cls._fields)
        if unknown:
            raise ConfigurationError(f"{min(unknown)!r:.80} is none of {', '.join(cls._fields)}")
        return cls(**{name: _names(fields[name]) for name in fields})

    def named(self) -> set[tuple[str, ...]]:
        """Return the fields that a setting names; of each group, an item needs one."""
        default = UseFields()
        groups = zip(self[:-1], default[:-1], strict=True)
        return {own for own, its in groups if own and own != its} | {(name,) for name in self.meta}


class ItemUse(NamedTuple):
    """What the uses of one item's images have in common, and the texts of its images.

    Attributes:
        page_url: the page; None if no field has its URL.
        item: what identifies the item.
        meta: further values as JSON; None if there are none, or if they are too large.
        alt: the value of the field for alternative texts.
        caption: the value of the field for captions.
    """

    page_url: str | None
    item: str | None
    meta: str | None
    alt: Any
    caption: Any

    @classmethod
    def of(cls, item: Any, fields: UseFields) -> Self:
        """Read the fields of an item."""
        values = ItemAdapter(item)
        meta = {name: value for name in fields.meta if (value := values.get(name)) is not None}
        return cls(
            page_in([values.get(name) for name in fields.page]),
            _label(_first(values, fields.item)),
            _meta(meta) if meta else None,
            _first(values, fields.alt),
            _first(values, fields.caption),
        )


def page_in(values: list[Any]) -> str | None:
    """Return the first of these values that is the URL of a page; None if none is."""
    for value in values:
        page = _single(value)
        if isinstance(page, str) and "://" in page:
            with suppress(InvalidRequestError):
                return page_of(page)
    return None


def text_of(value: Any, position: int, url: str) -> str | None:
    """Return the text of one image.

    Args:
        value: the texts of all images of an item: one for all, a list, or a dict by URL.
        position: the place of the image, from 1.
        url: the URL of the image as the item has it.
    """
    if isinstance(value, Mapping):
        value = value.get(url)
    elif isinstance(value, (list, tuple)):
        value = value[position - 1] if position <= len(value) else None
    return cleaned(value, _MAX_TEXT) or None if isinstance(value, str) else None


def _names(value: object) -> tuple[str, ...]:
    names = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
        raise ConfigurationError(f"{value!r:.80} is neither a field nor a list of fields")
    return tuple(names)


def _first(values: ItemAdapter, fields: tuple[str, ...]) -> Any:
    found = (values.get(name) for name in fields)
    return next((each for each in found if not _is_empty(each)), None)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, tuple, Mapping)) and not value)


def _single(value: Any) -> Any:
    # Item loaders make lists.
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _label(value: Any) -> str | None:
    single = _single(value)
    return None if single is None else cleaned(str(single), MAX_LABEL) or None


def _meta(values: dict[str, Any]) -> str | None:
    try:
        return meta_text(json.loads(cleaned(json.dumps(values, default=str))))
    except (InvalidRequestError, TypeError, ValueError, RecursionError):
        return None

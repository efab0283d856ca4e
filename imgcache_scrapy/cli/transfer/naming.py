"""Names: compute the name of an exported file by a template."""

import re
import string
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from pathlib import PurePosixPath

from imgcache_scrapy.cli.transfer.pictures import Picture
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.urls import host_of

DEFAULT_TEMPLATE = "{host}/{name}-{hash8}.{ext}"

_ODD = re.compile(r'[/\\:*?"<>|%]')
_MAX_PART = 100
_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/svg+xml": "svg",
    "image/x-icon": "ico",
    "image/tiff": "tif",
}


def checked_template(template: str) -> str:
    """Check a template.

    Raises:
        ConfigurationError: it is none, has an unknown field, or leads out of the folder.
    """
    try:
        fields = fields_of(template)
    except ValueError as error:
        raise ConfigurationError(f"{template!r:.80} is not a template: {error}") from error
    unknown = sorted(fields.difference(FIELDS))
    if unknown:
        raise ConfigurationError(
            f"a name has no field {unknown[0]!r:.40}: the fields are {', '.join(FIELDS)}"
        )
    try:
        template.format_map(_SAMPLE)
    except (ValueError, KeyError, OverflowError) as error:
        raise ConfigurationError(f"{template!r:.80} is not a template: {error}") from error
    path = PurePosixPath(template)
    if path.is_absolute() or {"..", ".", ""} & set(template.split("/")):
        raise ConfigurationError(f"{template!r:.80} does not name a file in the folder")
    return template


@lru_cache
def fields_of(template: str) -> frozenset[str]:
    """Return the fields of a template.

    Raises:
        ValueError: it is not a template.
    """
    parts = list(string.Formatter().parse(template))
    if any("{" in (spec or "") for _, _, spec, _ in parts):
        raise ValueError("a field has another one in it")
    return frozenset(name for _, name, _, _ in parts if name is not None)


def name_of(picture: Picture, template: str) -> str:
    """Return the name of the file of a picture; it never leads out of its folder."""
    entry = picture.first
    values = ((name, _VALUES[name](entry)) for name in fields_of(template))
    cleaned = {name: _cleaned(each) if isinstance(each, str) else each for name, each in values}
    # A template may have empty parts, or a part of dots and spaces only.
    parts = template.format_map(cleaned).split("/")
    return "/".join(part.strip(" ").lstrip(".") or "_" for part in parts)


def with_hash(name: str, content_hash: str) -> str:
    """Return the name of a file whose first name another picture has."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}-{content_hash}{path.suffix}"))


def extension_of(entry: Entry) -> str:
    """Return the extension of an image's file, without the dot."""
    kind = entry["content_type"]
    if kind in _EXTENSIONS:
        return _EXTENSIONS[kind]
    main, _, sub = kind.partition("/")
    return sub if main == "image" and sub.isalnum() else "bin"


def _cleaned(value: str) -> str:
    text = _ODD.sub("_", value)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "_" for char in text)
    text = text.encode()[:_MAX_PART].decode(errors="ignore")
    return text.strip(" .") or "_"


_VALUES: dict[str, Callable[[Entry], str | int]] = {
    "host": lambda entry: host_of(entry["url"]),
    "name": lambda entry: PurePosixPath(entry["original_filename"] or "").stem or "image",
    "hash8": lambda entry: entry["content_hash"][:8],
    "hash": itemgetter("content_hash"),
    "ext": extension_of,
    "client": itemgetter("client_name"),
    "bucket": lambda entry: entry.get("bucket", ""),
    "date": lambda entry: entry["lookup_time"][:10],
    "width": lambda entry: entry["width"] or 0,
    "height": lambda entry: entry["height"] or 0,
}
_SAMPLE = dict.fromkeys(_VALUES, "x") | {"width": 1, "height": 1}

FIELDS = tuple(_VALUES)
"""The fields of a template."""

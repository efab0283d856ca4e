"""Read single values of settings: each function raises an error if the value is not valid."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scrapy.http import Headers
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object
from scrapy.utils.python import without_none_values

from imgcache_scrapy.client.address import folder_of, home_expanded
from imgcache_scrapy.core.checks import checked_token
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.failures import DEFAULT_SECONDS, checked_rules
from imgcache_scrapy.core.freshness import MODES, ON_GONE, Mode, OnGone
from imgcache_scrapy.core.key_rules import KeyRules
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.core.units import checked_size
from imgcache_scrapy.plugin.file_names.path_template import PathTemplate
from imgcache_scrapy.plugin.provenance import UseFields


def read_flag(value: Any) -> bool:
    """Read True or False; the words that Scrapy takes count, too."""
    return BaseSettings({"flag": value}).getbool("flag")


def read_text(value: Any) -> str:
    """Read a text or a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError
    return os.fspath(value)


def read_address(value: Any) -> str:
    """Read the address of a cache."""
    address = read_name(value)
    folder_of(address)
    return address


def read_name(value: Any) -> str:
    """Read a text that is not empty."""
    text = read_text(value)
    if not text:
        raise ValueError
    return text


def read_folder(value: Any) -> Path:
    """Read the path of a folder; `~` is the home folder, as in `IMGCACHE_URL`."""
    return home_expanded(read_name(value)).absolute()


def read_template(value: Any) -> PathTemplate:
    """Read the template of a path."""
    return PathTemplate.parse(read_text(value))


def read_token(value: Any) -> str | None:
    """Read a bearer token; None for an empty one."""
    return checked_token(read_text(value)) or None


def read_seconds(value: Any) -> float:
    """Read a number of seconds above 0."""
    seconds = float(value)
    if not 0 < seconds < math.inf:
        raise ValueError
    return seconds


def read_pixels(value: Any) -> int:
    """Read a number of pixels, 0 or more."""
    pixels = int(value)
    if pixels < 0:
        raise ValueError
    return pixels


def read_image_bytes(value: Any) -> int:
    """Read the size of the largest image, in bytes."""
    size = int(value)
    if not 1 <= size <= MAX_IMAGE_BYTES:
        raise ValueError
    return size


def read_total_bytes(value: Any) -> int:
    """Read the size of a cache, such as 10GB, in bytes."""
    size = checked_size(value)
    if not size:
        raise ValueError
    return size


def read_mode(value: Any) -> Mode:
    """Read the mode of a crawl."""
    return MODES[MODES.index(value)]


def read_on_gone(value: Any) -> OnGone:
    """Read what becomes of an image that is gone from its site."""
    return ON_GONE[ON_GONE.index(value)]


def one_of(names: Iterable[str]) -> str:
    """Return the names of a choice as a part of an error."""
    return " or ".join(quoted(name) for name in names)


def read_presets(value: Any) -> tuple[str, ...]:
    """Read the names of presets for cache keys."""
    # On the command line a list is a text with commas.
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    return KeyRules(presets=value).presets


def read_ignore_params(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Read the parameters that cache keys leave out, for each host."""
    params = json.loads(value) if isinstance(value, str) else value
    return KeyRules(ignore_params=params).ignore_params


def read_failures(value: Any) -> Mapping[str, float] | None:
    """Read for how many seconds a failure of each reason is remembered; None for never."""
    with suppress(TypeError, ValueError):
        return DEFAULT_SECONDS if read_flag(value) else None
    rules = json.loads(value) if isinstance(value, str) else value
    try:
        return checked_rules(rules)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def read_provenance(value: Any) -> UseFields | None:
    """Read which fields of items are recorded with the use of images; None for no record."""
    with suppress(TypeError, ValueError):
        return UseFields() if read_flag(value) else None
    return UseFields.of(json.loads(value) if isinstance(value, str) else value)


def read_function(value: Any) -> Callable[[str], str]:
    """Load the function that computes cache keys."""
    try:
        function = load_object(value)
    # A module of the project can raise anything while it is imported.
    except Exception as error:
        raise ConfigurationError(f"{type(error).__name__}: {error}") from error
    if not callable(function):
        raise TypeError
    return function  # type: ignore[no-any-return]


def request_headers_of(settings: BaseSettings) -> dict[str, str]:
    """Return the headers that Scrapy adds to each request of a crawl, without the codings."""
    headers = Headers(without_none_values(settings.getdict("DEFAULT_REQUEST_HEADERS")))
    if settings.get("USER_AGENT"):
        headers.setdefault("User-Agent", settings["USER_AGENT"])
    # What Scrapy decompresses, `fetch` may not.
    headers.pop("Accept-Encoding", None)
    pairs = headers.to_unicode_dict().items()
    return {str(name): str(value) for name, value in pairs}

"""Every IMGCACHE_* setting, read once into one frozen object."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from scrapy.exceptions import NotConfigured
from scrapy.settings import BaseSettings
from scrapy.utils.project import data_path

from imgcache_scrapy.client.address import folder_of
from imgcache_scrapy.client.spool import SPOOL_FOLDER
from imgcache_scrapy.core.checks import checked_token
from imgcache_scrapy.core.errors import ConfigurationError

T = TypeVar("T")

_ADDRESS = "http(s)://host, file:///folder or a path"


@dataclass(frozen=True)
class Settings:
    """What a project says about the cache.

    Attributes:
        enabled: whether there is a cache at all.
        url: where it is: `http(s)://…`, `file://…` or a path.
        token: the service's bearer token; None for none.
        bucket: the only bucket that pipelines and middleware look in.
        client_name: who stores; None for the spider's name.
        timeout: seconds for one call in a crawl.
        urls_field: where `ImgCachePipeline` finds an item's image URLs.
        result_field: where it puts the images.
        failures_field: where every pipeline puts the URLs that gave no image; None for nowhere.
        min_width: pixels; `ImgCachePipeline` rejects narrower images.
        min_height: pixels; `ImgCachePipeline` rejects lower images.
        strict: whether trouble with the cache fails an image, which is fetched otherwise.
        spool_dir: the folder of the images that the cache did not take.
    """

    enabled: bool
    url: str
    token: str | None
    bucket: str
    client_name: str | None
    timeout: float
    urls_field: str
    result_field: str
    failures_field: str | None
    min_width: int
    min_height: int
    strict: bool
    spool_dir: str

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """Read the settings of a crawl.

        Raises:
            ConfigurationError: a value cannot be; the message names the setting.
        """
        get = _Reader(settings).get
        return cls(
            enabled=get("ENABLED", True, _flag, "True or False"),
            url=get("URL", None, _address, _ADDRESS) or _default_address(),
            token=get("TOKEN", os.environ.get("IMGCACHE_TOKEN"), _token, "printable ASCII"),
            bucket=get("BUCKET", "", _text, "a string"),
            client_name=get("CLIENT_NAME", None, _name, "a name"),
            timeout=get("TIMEOUT", 10.0, _seconds, "a number of seconds above 0"),
            urls_field=get("URLS_FIELD", "image_urls", _name, "the name of a field"),
            result_field=get("RESULT_FIELD", "images", _name, "the name of a field"),
            failures_field=get("FAILURES_FIELD", None, _name, "the name of a field"),
            min_width=get("MIN_WIDTH", 0, _pixels, "a number of pixels, 0 or more"),
            min_height=get("MIN_HEIGHT", 0, _pixels, "a number of pixels, 0 or more"),
            strict=get("STRICT", False, _flag, "True or False"),
            spool_dir=get("SPOOL_DIR", None, _name, "a folder") or _default_spool(),
        )


class _Reader:
    def __init__(self, settings: BaseSettings) -> None:
        self._settings = settings

    def get(self, name: str, default: T, read: Callable[[Any], T], wanted: str) -> T:
        value = self._settings.get(f"IMGCACHE_{name}")
        if value is None:
            return default
        try:
            return read(value)
        except (TypeError, ValueError, ConfigurationError) as error:
            reason = f" ({error})" if isinstance(error, ConfigurationError) else ""
            shown = "what it is" if read is _token else repr(value)
            raise ConfigurationError(
                f"IMGCACHE_{name} must be {wanted}, not {shown}{reason}"
            ) from error


def _default_address() -> str:
    """Give the environment's address, else the folder in the project's data folder."""
    address = os.environ.get("IMGCACHE_URL")
    try:
        return _address(address) if address else data_path("imgcache")
    except ConfigurationError as error:
        raise ConfigurationError(f"IMGCACHE_URL in the environment: {error}") from error
    except NotConfigured as error:
        raise ConfigurationError(f"set IMGCACHE_URL to {_ADDRESS}: {error}") from error


def _default_spool() -> str:
    try:
        return data_path(SPOOL_FOLDER.name)
    except NotConfigured:  # a settings module without scrapy.cfg
        return str(SPOOL_FOLDER)


def _flag(value: Any) -> bool:
    return BaseSettings({"flag": value}).getbool("flag")


def _text(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError
    return os.fspath(value)


def _address(value: Any) -> str:
    address = _name(value)
    folder_of(address)
    return address


def _name(value: Any) -> str:
    text = _text(value)
    if not text:
        raise ValueError
    return text


def _token(value: Any) -> str | None:
    return checked_token(_text(value)) or None


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 < seconds < math.inf:
        raise ValueError
    return seconds


def _pixels(value: Any) -> int:
    pixels = int(value)
    if pixels < 0:
        raise ValueError
    return pixels

"""Settings: reads all IMGCACHE_* settings once and checks them."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, TypeVar

from scrapy.exceptions import NotConfigured
from scrapy.settings import BaseSettings
from scrapy.utils.project import data_path

from imgcache_scrapy.client.spool import SPOOL_FOLDER
from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.fetch_rules import FetchRules
from imgcache_scrapy.core.freshness import MODES, ON_GONE, FreshnessRules, Mode, OnGone
from imgcache_scrapy.core.key_presets import DEFAULT_PRESETS
from imgcache_scrapy.core.key_rules import KeyRules
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.core.text import printable
from imgcache_scrapy.plugin.file_names.path_template import PathTemplate
from imgcache_scrapy.plugin.freshness import checked_max_ages
from imgcache_scrapy.plugin.keys import KeyFinder
from imgcache_scrapy.plugin.provenance import UseFields
from imgcache_scrapy.plugin.setting_values import (
    one_of,
    read_address,
    read_failures,
    read_flag,
    read_folder,
    read_function,
    read_ignore_params,
    read_image_bytes,
    read_mode,
    read_name,
    read_on_gone,
    read_pixels,
    read_presets,
    read_provenance,
    read_seconds,
    read_template,
    read_text,
    read_token,
    read_total_bytes,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)

_ADDRESS = "http(s)://host, file:///folder or a path"
_AGES = "a number of seconds, 0 or more, or a dict of hosts, each with its number"
_TEMPLATE = "a template of a path, such as '{item[sku]}-{index}.{ext}'"
_IMAGE_BYTES = f"a number of bytes, 1 to {MAX_IMAGE_BYTES}"
_RULES = "True, False or a dict of reasons, each with a number of seconds"
_FIELDS = f"True, False or a dict of {', '.join(UseFields._fields)}, each with a field of the items"
_PARAMS = "a dict of hosts, each with a list of parameters"


@dataclass(frozen=True)
class Settings:
    """The checked settings of a crawl.

    Attributes:
        enabled: whether the cache is used.
        url: address of the cache: `http(s)://…`, `file://…` or a path.
        token: the service's bearer token; None for no token.
        bucket: the bucket of pipelines and middleware.
        client_name: name of the client that stores images; None for the spider's name.
        timeout: seconds for one call in a crawl.
        urls_field: the item field with the image URLs, for `ImgCachePipeline`.
        result_field: the item field for the results, for `ImgCachePipeline`.
        failures_field: the item field for the URLs that gave no image, for all pipelines; None
            for no such field.
        paths_field: the item field for the paths of the images, for all pipelines; None for no
            such field.
        drop_empty: whether items without any image are dropped, by all pipelines.
        path: the template of the paths of files, for the drop-ins; None for Scrapy's paths.
        min_width: minimum width in pixels; `ImgCachePipeline` rejects narrower images.
        min_height: minimum height in pixels; `ImgCachePipeline` rejects lower images.
        max_image_bytes: size of the largest image that is kept, in bytes.
        max_bytes: size of all images of an embedded cache together, in bytes; None for no limit.
        strict: whether an error of the cache fails the image; otherwise the image is fetched.
        spool_dir: the folder for images that could not be stored.
        max_age: maximum age of a capture or a local file in seconds, for each host and its
            subdomains; None for no limit. The host `*` is every host.
        mode: `normal`, or `refresh` or `offline` to ask the site for every image or for none.
        on_gone: `fail`, or `stale` to deliver the stale image if the site answers 404 or 410.
        key_presets: the names of the presets for cache keys.
        key_ignore_params: for each host, the parameters that cache keys leave out.
        key_function: computes the cache key of a URL instead; None for no such function.
        remember_failures: for how many seconds a failure of each reason is remembered; None if
            failures are neither remembered nor looked up.
        retry_failed: whether URLs with a remembered failure are requested.
        provenance: the fields of items that say what is recorded of the use of an image; None to
            record nothing.
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
    paths_field: str | None
    drop_empty: bool
    path: PathTemplate | None
    min_width: int
    min_height: int
    max_image_bytes: int
    max_bytes: int | None
    strict: bool
    spool_dir: Path
    max_age: Mapping[str, float | None]
    mode: Mode
    on_gone: OnGone
    key_presets: tuple[str, ...]
    key_ignore_params: Mapping[str, tuple[str, ...]]
    key_function: Callable[[str], str] | None
    remember_failures: Mapping[str, float] | None
    retry_failed: bool
    provenance: UseFields | None

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """Read the settings of a crawl; a name that is no setting gives a warning.

        Raises:
            ConfigurationError: a value is not valid; the message names the setting.
        """
        _warn_of_unknown(settings, [f"IMGCACHE_{each.name.upper()}" for each in fields(cls)])
        reader = _Reader(settings)
        get = reader.get
        return cls(
            enabled=get("ENABLED", True, read_flag, "True or False"),
            url=get("URL", None, read_address, _ADDRESS) or _default_address(),
            token=get("TOKEN", os.environ.get("IMGCACHE_TOKEN"), read_token, "printable ASCII"),
            bucket=get("BUCKET", "", read_text, "a string"),
            client_name=get("CLIENT_NAME", None, read_name, "a name"),
            timeout=get("TIMEOUT", 10.0, read_seconds, "a number of seconds above 0"),
            urls_field=get("URLS_FIELD", "image_urls", read_name, "the name of a field"),
            result_field=get("RESULT_FIELD", "images", read_name, "the name of a field"),
            failures_field=get("FAILURES_FIELD", None, read_name, "the name of a field"),
            paths_field=get("PATHS_FIELD", None, read_name, "the name of a field"),
            drop_empty=get("DROP_EMPTY", False, read_flag, "True or False"),
            path=get("PATH", None, read_template, _TEMPLATE),
            min_width=get("MIN_WIDTH", 0, read_pixels, "a number of pixels, 0 or more"),
            min_height=get("MIN_HEIGHT", 0, read_pixels, "a number of pixels, 0 or more"),
            max_image_bytes=get("MAX_IMAGE_BYTES", MAX_IMAGE_BYTES, read_image_bytes, _IMAGE_BYTES),
            max_bytes=get("MAX_BYTES", None, read_total_bytes, "a size, such as 10GB"),
            strict=get("STRICT", False, read_flag, "True or False"),
            spool_dir=get("SPOOL_DIR", None, read_folder, "a folder") or _default_spool(),
            max_age=reader.max_age(),
            mode=get("MODE", "normal", read_mode, one_of(MODES)),
            on_gone=get("ON_GONE", "fail", read_on_gone, one_of(ON_GONE)),
            key_presets=get("KEY_PRESETS", DEFAULT_PRESETS, read_presets, "a list of presets"),
            key_ignore_params=get("KEY_IGNORE_PARAMS", {}, read_ignore_params, _PARAMS),
            key_function=get("KEY_FUNCTION", None, read_function, "the path of a function"),
            remember_failures=get("REMEMBER_FAILURES", read_failures(True), read_failures, _RULES),
            retry_failed=get("RETRY_FAILED", False, read_flag, "True or False"),
            provenance=get("PROVENANCE", None, read_provenance, _FIELDS),
        )

    @lazy_property
    def freshness(self) -> FreshnessRules:
        """What decides whether the site is asked again."""
        return FreshnessRules(self.mode, self.max_age, self.on_gone)

    @lazy_property
    def fetch_rules(self) -> FetchRules:
        """What decides how images are fetched, in a crawl and by `fetch`."""
        return FetchRules(
            self.freshness, self.remember_failures, self.retry_failed, self.max_image_bytes
        )

    @lazy_property
    def key_of(self) -> KeyFinder:
        """What computes the cache keys of the crawl."""
        return KeyFinder(KeyRules(self.key_presets, self.key_ignore_params), self.key_function)


class _Reader:
    def __init__(self, settings: BaseSettings) -> None:
        self._settings = settings

    def max_age(self) -> Mapping[str, float | None]:
        # None is a value, too: no limit, also for the drop-ins.
        name = "IMGCACHE_MAX_AGE"
        if name in self._settings and self._settings.get(name) is None:
            return checked_max_ages(None)
        return self.get("MAX_AGE", {}, checked_max_ages, _AGES)

    def get(self, name: str, default: T, read: Callable[[Any], T], wanted: str) -> T:
        value = self._settings.get(f"IMGCACHE_{name}")
        if value is None:
            return default
        try:
            return read(value)
        except (TypeError, ValueError, ConfigurationError, InvalidRequestError) as error:
            reason = f" ({error})" if isinstance(error, ConfigurationError) else ""
            shown = "" if read is read_token else f", not {printable(repr(value))}"
            sentence = f"IMGCACHE_{name} must be {wanted}{shown}{reason}"
            # Only an error of the project's own module says more than the sentence.
            cause = error.__cause__ if read is read_function else None
            raise ConfigurationError(sentence) from cause


def _warn_of_unknown(settings: BaseSettings, known: list[str]) -> None:
    for name in settings:
        if name.startswith("IMGCACHE_") and name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0.85)
            hint = f"; do you mean {nearest[0]}?" if nearest else ""
            _log.warning("%s is no setting of imgcache-scrapy, so it is ignored%s", name, hint)


def warn_of_ignored(settings: BaseSettings, pipeline: str, ignored: Mapping[str, str]) -> None:
    """Warn of settings that have a value, but that a pipeline does not read.

    Args:
        settings: the settings of the crawl.
        pipeline: the name of the pipeline.
        ignored: the names of the settings, each with what to do instead.
    """
    for name, instead in ignored.items():
        if settings.get(name) is not None:
            _log.warning("%s is ignored by %s: %s", name, pipeline, instead)


def _default_address() -> str:
    """Return the address from the environment, else a folder in the project's data folder."""
    address = os.environ.get("IMGCACHE_URL")
    try:
        return read_address(address) if address else data_path("imgcache")
    except ConfigurationError as error:
        raise ConfigurationError(f"IMGCACHE_URL in the environment: {error}") from error
    except NotConfigured as error:
        raise ConfigurationError(f"set IMGCACHE_URL to {_ADDRESS}: {error}") from error


def _default_spool() -> Path:
    return Path(project_data_path(SPOOL_FOLDER.name)).absolute()


def project_data_path(name: str) -> str:
    """Return the path of a file or folder in the project's data folder, `.scrapy`."""
    try:
        return data_path(name)
    except NotConfigured:  # there is no scrapy.cfg
        return str(SPOOL_FOLDER.parent / name)

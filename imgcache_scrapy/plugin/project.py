"""Read the cache settings of the Scrapy project in the current folder, without a crawl."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import TypeVar

from scrapy.settings import BaseSettings
from scrapy.utils.project import get_project_settings

from imgcache_scrapy.core.environment import SETTINGS_VARIABLE
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.plugin.setting_values import request_headers_of
from imgcache_scrapy.plugin.settings import Settings

T = TypeVar("T")


@cache
def read_project_settings(folder: Path) -> Settings:
    """Read a project's settings of the cache, as a crawl from the current folder would.

    The result is remembered. Output of the settings module goes to standard error.

    Args:
        folder: the folder with the project's `scrapy.cfg`, for the error messages.

    Returns:
        The settings, without those of single spiders; with those of `scrapy imgcache -s …`.

    Raises:
        ConfigurationError: the settings cannot be read, or one has a wrong value.
    """
    return _read(folder, Settings.from_settings)


def read_request_headers(folder: Path) -> dict[str, str]:
    """Read the headers that a project's crawls send; see `read_project_settings`."""
    return _read(folder, request_headers_of)


def _read(folder: Path, read: Callable[[BaseSettings], T]) -> T:
    try:
        with redirect_stdout(sys.stderr):
            settings = get_project_settings()
            settings.setdict(json.loads(os.environ.get(SETTINGS_VARIABLE, "{}")), "cmdline")
            return read(settings)
    except ConfigurationError as error:
        raise ConfigurationError(f"the Scrapy project in {folder}: {error}") from error
    # A settings module can run any code, also code that ends the process.
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(
            f"the settings of the Scrapy project in {folder} cannot be read: {reason}"
        ) from error

"""The settings of the Scrapy project in the current folder, read without a crawl."""

import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

from scrapy.utils.project import get_project_settings

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.plugin.settings import Settings


@cache
def read_project_settings(folder: Path) -> Settings:
    """Read what a project's crawls know of the cache, as a crawl from the current folder does.

    They are read once. What the settings module prints goes to standard error.

    Args:
        folder: the folder with the project's `scrapy.cfg`, which the messages name.

    Returns:
        The settings; those of single spiders and of `-s` are not among them.

    Raises:
        ConfigurationError: the settings cannot be read, or one has a wrong value.
    """
    try:
        with redirect_stdout(sys.stderr):
            return Settings.from_settings(get_project_settings())
    except ConfigurationError as error:
        raise ConfigurationError(f"the Scrapy project in {folder}: {error}") from error
    # A settings module is any code: it may even end the process.
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(
            f"the settings of the Scrapy project in {folder} cannot be read: {reason}"
        ) from error

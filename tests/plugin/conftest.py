"""Fixtures: a small site, and real crawls of it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.crawling import CrawlResult, run_crawl
from tests.support.site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    """Return a site without answers."""
    site = Site()
    yield site
    site.close()


@pytest.fixture
def crawl(tmp_path: Path, site: Site) -> Callable[..., CrawlResult]:
    """Return `crawl(items, settings, **spider)`, which runs a crawl with a cache in `tmp_path`."""
    return partial(run_crawl, tmp_path, site)

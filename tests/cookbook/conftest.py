"""Fixtures of the cookbook: the shop, and pictures that are in its cache already."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shop import NAMES, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return a shop whose pictures nobody has fetched yet."""
    shop = Shop(tmp_path)
    yield shop
    shop.close()


@pytest.fixture
def filled(shop: Shop) -> Shop:
    """Return a shop whose pictures are in the cache, fetched a minute ago."""
    shop.store(dict.fromkeys(NAMES, 1 / 1440))
    return shop

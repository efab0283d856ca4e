"""Fixtures of the engine's tests: empty caches and databases, and addresses of blob stores."""

from contextlib import closing
from uuid import uuid4

import pytest

from imgcache_scrapy.engine.cache import ImageCache


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a cache that does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    """Open an empty cache in `folder`."""
    with closing(ImageCache.in_folder(folder)) as cache:
        yield cache


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request, tmp_path):
    """Return a function that creates an empty database; once for SQLite, once for PostgreSQL."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql").new_database
    return lambda: f"sqlite:///{tmp_path / uuid4().hex}.sqlite3"


@pytest.fixture
def database_url(new_database):
    return new_database()


@pytest.fixture
def blobs_url(tmp_path):
    return (tmp_path / "blobs").as_uri()

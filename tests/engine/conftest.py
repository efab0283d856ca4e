"""Fixtures of the engine's tests: empty databases of each kind, and addresses of blob stores."""

from uuid import uuid4

import pytest


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

"""Catalogs of older versions and of other caches, as the commands meet them."""

import pytest

from imgcache_scrapy.engine.catalog.tables import SCHEMA
from tests.support import schema_1
from tests.support.commands import assert_failed, run_imgcache
from tests.support.service import http_client


@pytest.fixture(params=["folder", "PostgreSQL and files"])
def old(request, stopped_service, tmp_path):
    """Give the service a catalog of schema 1; return the catalog's URL."""
    folder = stopped_service.folder
    folder.mkdir()
    database_url = f"sqlite:///{folder / 'catalog.sqlite3'}"
    if request.param != "folder":
        database_url = request.getfixturevalue("postgresql").new_database()
        stopped_service.environment["IMGCACHE_DATABASE_URL"] = database_url
    schema_1.put(schema_1.make(database_url, 50), folder / "blobs")
    return database_url


@pytest.fixture
def run(stopped_service):
    """Run a command where the service runs."""

    def run(*words):
        return run_imgcache(stopped_service.home, *words, env=stopped_service.environment)

    return run


def number_of(database_url):
    with schema_1.connected(database_url) as connection:
        return connection.execute("SELECT number FROM imgcache_schema").fetchone()[0]


def count(service):
    with http_client(service.url) as http:
        return http.get("/stats").json()["captures"]


def test_a_service_refuses_an_older_catalog_until_it_is_upgraded(old, run, stopped_service):
    """One sentence names the command, nothing is touched, and the command helps; twice, too."""
    before = schema_1.rows(old)
    for _ in range(2):
        assert_failed(run("serve", "--port", "0"), "`imgcache upgrade`")
    assert (number_of(old), schema_1.rows(old)) == (1, before)
    for _ in range(2):
        done = run("upgrade")
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert (number_of(old), schema_1.rows(old)) == (SCHEMA, before)
    stopped_service.start()
    assert count(stopped_service) == 45


def test_a_service_upgrades_where_it_is_told_to(old, stopped_service):
    """`serve --upgrade`, with workers, serves an older catalog at once."""
    before = schema_1.rows(old)
    stopped_service.options = ("--upgrade", "--workers", "2")
    stopped_service.start()
    assert count(stopped_service) == 45
    assert (number_of(old), schema_1.rows(old)) == (SCHEMA, before)


def test_there_must_be_something_to_upgrade(run, stopped_service):
    """A folder that is not there is not made, and a service cannot be upgraded from afar."""
    assert_failed(run("upgrade"), "there is no cache")
    assert_failed(run("upgrade", "http://127.0.0.1:9"), "is a service")
    assert not stopped_service.folder.exists()


def test_another_database_without_its_blobs_is_refused(old, run, tmp_path, stopped_service):
    """`serve --database X` takes the blobs of ./imgcache: they are seen to be another cache's."""
    assert run("upgrade").returncode == 0
    before = schema_1.rows(old)
    stopped_service.environment.clear()
    other = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    done = run("serve", "--port", "0", "--database", other)
    assert_failed(done, "the blobs hold images of another catalog", "--blobs")
    assert schema_1.rows(old) == before

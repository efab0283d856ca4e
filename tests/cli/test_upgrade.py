"""Commands with catalogs of older versions, and with the blobs of other caches."""

import pytest

from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from tests.support import schema_1
from tests.support.commands import assert_failed, run_imgcache
from tests.support.service import http_client


@pytest.fixture(params=["folder", "PostgreSQL and files"])
def old_catalog(request, stopped_service, tmp_path):
    """Create a catalog of schema 1 for the service; return the catalog's URL."""
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
    """Return a function that runs a command with the folder and environment of the service."""

    def run(*words):
        return run_imgcache(stopped_service.home, *words, env=stopped_service.environment)

    return run


def schema_number(database_url):
    """Return the schema number of a catalog."""
    with schema_1.connected(database_url) as connection:
        return connection.execute("SELECT number FROM imgcache_schema").fetchone()[0]


def count_captures(service):
    """Return the number of captures that a service reports."""
    with http_client(service.url) as http:
        return http.get("/stats").json()["captures"]


def test_a_service_refuses_an_older_catalog_until_it_is_upgraded(old_catalog, run, stopped_service):
    """The error names `imgcache upgrade`, which keeps all rows and may be run twice.

    Only the digest of each URL becomes that of its key.
    """
    before = schema_1.rows(old_catalog)
    for _ in range(2):
        assert_failed(run("serve", "--port", "0"), "`imgcache upgrade`")
    assert (schema_number(old_catalog), schema_1.rows(old_catalog)) == (1, before)
    for is_first in (True, False):
        done = run("upgrade")
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
        assert (b"45 older captures get their keys" in done.stderr) is is_first
    assert run("upgrade", "--json").stdout == b'{"filled": 0}\n'
    after = schema_1.rows(old_catalog)
    assert (schema_number(old_catalog), after) == (SCHEMA, with_keys(before))
    stopped_service.start()
    assert count_captures(stopped_service) == 45


def with_keys(rows):
    """Return rows whose digests are those of the keys, not of the URLs."""
    keyed = [(row[0], digest(cache_key(row[3])), *row[2:]) for row in rows["capture"]]
    assert keyed != rows["capture"]
    return rows | {"capture": keyed}


def test_serve_with_upgrade_upgrades_the_catalog(old_catalog, stopped_service):
    """`serve --upgrade`, also with workers, upgrades an older catalog and serves it."""
    before = schema_1.rows(old_catalog)
    stopped_service.options = ("--upgrade", "--workers", "2")
    stopped_service.start()
    assert count_captures(stopped_service) == 45
    assert (schema_number(old_catalog), schema_1.rows(old_catalog)) == (SCHEMA, before)


def test_upgrade_needs_an_existing_local_cache(run, stopped_service):
    """`upgrade` creates no folder, and refuses the address of a service."""
    assert_failed(run("upgrade"), "there is no cache")
    assert_failed(run("upgrade", "http://127.0.0.1:9"), "is a service")
    assert not stopped_service.folder.exists()


def test_another_database_without_its_blobs_is_refused(old_catalog, run, tmp_path, stopped_service):
    """`serve --database` without `--blobs` detects the blobs of another cache."""
    assert run("upgrade").returncode == 0
    before = schema_1.rows(old_catalog)
    stopped_service.environment.clear()
    other = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    done = run("serve", "--port", "0", "--database", other)
    assert_failed(done, "the blobs hold images of another catalog", "--blobs")
    assert schema_1.rows(old_catalog) == before

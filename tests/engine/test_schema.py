"""The schema: migrations and code define the same tables, and opening a catalog is cheap."""

import subprocess
import sys
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import database, migrations, tables
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.schema import open_schema
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from tests.support import schema_1
from tests.support.programs import program
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("real_migrations")


def description_of(engine):
    """Return the columns, keys and indexes of every table in a database."""
    found = sa.inspect(engine)
    return {
        name: (
            [(each["name"], str(each["type"]), each["nullable"]) for each in columns],
            found.get_pk_constraint(name)["constrained_columns"],
            [
                (each["constrained_columns"], each["referred_table"])
                for each in found.get_foreign_keys(name)
            ],
            sorted(
                (each["name"], each["unique"], each["column_names"], each.get("expressions"))
                for each in found.get_indexes(name)
            ),
        )
        for name in tables.metadata.tables
        for columns in [found.get_columns(name)]
    }


@pytest.fixture(params=["new", "upgraded"])
def migrated(request, database_url):
    """Connect to a catalog that the migrations created or upgraded."""
    if request.param == "upgraded":
        schema_1.make(database_url)
    engine = database.create_engine(database_url)
    open_schema(engine, upgrade=True)
    yield engine
    engine.dispose()


def test_the_migrations_create_the_tables_of_the_code(migrated, new_database):
    """Alembic and an inspection find no difference between `tables.py` and the database."""

    def is_ours(_object, name, kind, _reflected, _other):
        return kind != "table" or name in tables.metadata.tables

    with migrated.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": is_ours, "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []
    expected = database.create_engine(new_database())
    tables.metadata.create_all(expected)
    assert description_of(migrated) == description_of(expected)
    expected.dispose()


def test_a_new_sqlite_catalog_never_reuses_ids(database_url):
    """A new SQLite catalog has AUTOINCREMENT, which neither SQLAlchemy nor Alembic compares."""
    Catalog(database_url).close()
    if database_url.startswith("sqlite"):
        with schema_1.connected(database_url) as connection:
            query = "SELECT sql FROM sqlite_master WHERE name = 'capture'"
            assert "AUTOINCREMENT" in connection.execute(query).fetchone()[0]


def test_the_newest_revision_is_the_number_of_the_schema():
    """Each schema number has one revision, which follows the one before it."""
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    revisions = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert revisions == [migrations.revision_of(number) for number in range(SCHEMA, 0, -1)]


COUNT_STATEMENTS = """
from sqlalchemy import event
from sqlalchemy.engine import Engine
sys.stdin.readline()
statements = []
event.listen(Engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
ImageCache(*sys.argv[1:]).close()
print("alembic" in sys.modules, len(statements))
"""


def test_opening_a_current_catalog_needs_two_statements_and_no_alembic(database_url, blobs_url):
    """Only the process that creates a catalog imports Alembic."""
    printed = []
    for _ in range(2):
        with program(COUNT_STATEMENTS, database_url, blobs_url) as process:
            process.stdin.write("go\n")
            printed.append(process.stdout.readline().split())
    assert printed[0][0] == "True"
    assert printed[1] == ["False", "2"]


def test_another_program_may_use_alembic_in_the_same_database(database_url, blobs_url):
    """Another program's version table in the same database stays unchanged."""
    with schema_1.connected(database_url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('theirs')")
    with closing(ImageCache(database_url, blobs_url)) as cache:
        assert cache.store("http://a.test/", b"an image", "test")["created"]
    with schema_1.connected(database_url) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version")
        assert list(found) == [("theirs",)]


def test_an_upgrade_logs_nothing(database_url, tmp_path):
    """Alembic writes no line to the log of a crawl."""
    code = f"""
import logging
logging.basicConfig(level=logging.DEBUG)
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.migrations import import_alembic
import_alembic()
Catalog({database_url!r}).close()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert "alembic" not in done.stderr

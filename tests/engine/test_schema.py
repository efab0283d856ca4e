"""The schema: what the migrations make is what the code means, and opening it costs little."""

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


def described(engine):
    """Describe every table as the database has it: columns, keys, indexes."""
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
    """Connect to a catalog that was made by the migrations, or upgraded by them."""
    if request.param == "upgraded":
        schema_1.make(database_url)
    engine = database.create_engine(database_url)
    open_schema(engine, upgrade=True)
    yield engine
    engine.dispose()


def test_the_migrations_make_the_tables_that_the_code_means(migrated, new_database):
    """What `tables.py` says is what the database has, by Alembic's judgement and by a look."""

    def is_ours(_object, name, kind, _reflected, _other):
        return kind != "table" or name in tables.metadata.tables

    with migrated.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": is_ours, "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []
    meant = database.create_engine(new_database())
    tables.metadata.create_all(meant)
    assert described(migrated) == described(meant)
    meant.dispose()


def test_ids_go_on_counting_in_a_catalog_of_today(database_url):
    """SQLite's AUTOINCREMENT, which no part of SQLAlchemy compares, is in new catalogs, too."""
    Catalog(database_url).close()
    if database_url.startswith("sqlite"):
        with schema_1.connected(database_url) as connection:
            query = "SELECT sql FROM sqlite_master WHERE name = 'capture'"
            assert "AUTOINCREMENT" in connection.execute(query).fetchone()[0]


def test_the_newest_revision_is_the_number_of_the_schema():
    """Each schema has one revision, of its number, and each follows the one before it."""
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    revisions = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert revisions == [migrations.revision_of(number) for number in range(SCHEMA, 0, -1)]


COUNT_STATEMENTS = """
from sqlalchemy import event
from sqlalchemy.engine import Engine
sys.stdin.readline()
statements = []
event.listen(Engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
ImageCache(*sys.argv[1:]).close()
print("alembic" in sys.modules, len(statements))
"""


def test_a_catalog_of_today_is_opened_by_two_questions_and_without_alembic(database_url, blobs_url):
    """Whoever makes it pays for Alembic; after that its import is saved."""
    said = []
    for _ in range(2):
        with program(COUNT_STATEMENTS, database_url, blobs_url) as process:
            process.stdin.write("go\n")
            said.append(process.stdout.readline().split())
    assert said[0][0] == "True"
    assert said[1] == ["False", "2"]


def test_another_program_may_use_alembic_in_the_same_database(database_url, blobs_url):
    """Its table of versions is its own, and is left as it is."""
    with schema_1.connected(database_url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('theirs')")
    with closing(ImageCache(database_url, blobs_url)) as cache:
        assert cache.store("http://a.test/", b"an image", "test")["created"]
    with schema_1.connected(database_url) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version")
        assert list(found) == [("theirs",)]


def test_an_upgrade_is_silent(database_url, tmp_path):
    """No line of Alembic's is in the log of a crawl."""
    code = f"""
import logging
logging.basicConfig(level=logging.DEBUG)
from imgcache_scrapy.engine.catalog.catalog import Catalog
Catalog({database_url!r}).close()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert "alembic" not in done.stderr

"""Upgrades of older catalogs: each runs once, completely or not at all, and loses nothing."""

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing

import pytest
import sqlalchemy as sa

from imgcache_scrapy import AsyncImgCacheClient
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.errors import (
    REFUSALS,
    ConfigurationError,
    NotFoundError,
    UnavailableError,
)
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import database, tables
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from tests.support import lists, schema_1
from tests.support.programs import forked_program, program

pytestmark = pytest.mark.usefixtures("real_migrations")

HERE = "http://a.test/here.png"
A = b"the bytes of an image"


@pytest.fixture
def old(database_url, tmp_path):
    """Create a cache of schema 1, and return its rows before it is opened."""
    schema_1.put(schema_1.make(database_url, 300), tmp_path / "blobs")
    return schema_1.rows(database_url)


def schema_of(database_url):
    """Return the rows of a catalog's schema table; schema 1 has fewer columns in it."""
    with schema_1.connected(database_url) as connection:
        return list(connection.execute("SELECT * FROM imgcache_schema"))


def copy_of(database_url, new_database):
    """Copy a database that has no open connections."""
    url, copy = sa.make_url(database_url), sa.make_url(new_database())
    if url.get_backend_name() == "sqlite":
        with (
            schema_1.connected(database_url) as source,
            schema_1.connected(copy.render_as_string()) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=WAL")
    else:
        with schema_1.connected(database_url.replace(url.database, "postgres")) as administrator:
            administrator.execute(f"DROP DATABASE {copy.database}")
            administrator.execute(f"CREATE DATABASE {copy.database} TEMPLATE {url.database}")
    return copy.render_as_string(hide_password=False)


@pytest.mark.parametrize("captures", [3_000, pytest.param(100_000, marks=pytest.mark.endurance)])
def test_an_upgrade_from_schema_1_changes_no_rows(database_url, blobs_url, tmp_path, captures):
    """An upgrade keeps every row, the search index and the next id, and answers stay the same."""
    blobs = schema_1.make(database_url, captures)
    schema_1.put(blobs, tmp_path / "blobs")
    before = schema_1.rows(database_url)
    assert len(before["capture"]) == captures * 9 // 10
    with closing(ImageCache(database_url, blobs_url)) as cache:
        assert schema_1.rows(database_url) == before
        assert schema_of(database_url)[0][0] == SCHEMA
        assert_answers(cache, before, blobs)
        url = "http://a.test/new.png"
        assert cache.store(url, A, "test")["created"]
    after = schema_1.rows(database_url)
    assert after["capture"][:-1] == before["capture"]
    assert after["capture"][-1][0] == captures + 1
    with closing(ImageCache(database_url, blobs_url)) as cache:
        assert cache.catalog.lookup_many([url])


def assert_answers(cache, rows, blobs):
    """Assert that a cache answers every kind of query from these rows."""
    damaged = {row[0] for row in rows["image"] if row[-1]}
    sizes = {row[0]: row[3:6] for row in rows["image"]}
    newest = {}
    for row in sorted(rows["capture"], key=lambda row: (row[7], row[0])):
        if row[4] not in damaged:
            newest[row[3]] = row
    found = {}
    urls = [*newest, "http://a.test/unknown"]
    for start in range(0, len(urls), 1000):
        found |= cache.catalog.lookup_many(urls[start : start + 1000])
    assert found.keys() == newest.keys()
    for url, entry in found.items():
        assert (entry["bucket"], entry["content_hash"]) == (newest[url][2], newest[url][4])
        assert (entry["original_filename"], entry["client_name"]) == newest[url][5:7]
        shown = entry["width"], entry["height"], entry["perceptual_hash"]
        assert shown == sizes[entry["content_hash"]]
    assert cache.catalog.stats() == {
        "images": len(blobs),
        "captures": len(rows["capture"]),
        "bytes": sum(map(len, blobs.values())),
        "damaged": len(damaged),
    }
    for part in ("ä-17", "shop3.test", "_42", "ä-1234.", "Products"):
        entries = {entry["url"] for entry in lists.search(cache.catalog, part)}
        assert entries == {url for url in found if part in url}
    for row in rows["capture"][:50]:
        if row[4] not in damaged:
            assert cache.get_image(row[4], row[2])[0] == blobs[row[4]]
        else:
            with pytest.raises(NotFoundError):
                cache.get_image(row[4], row[2])


OPEN = """
sys.stdin.readline()
cache = ImageCache(*sys.argv[1:])
print(cache.catalog.cache_id, len(cache.catalog.search_page("shop").entries), flush=True)
cache.close()
"""


def test_eight_processes_open_an_old_catalog_at_once(old, database_url, blobs_url):
    """Eight processes open an old catalog: one upgrades it, and all of them find every image."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(forked_program(OPEN, database_url, blobs_url)) for _ in range(8)
        ]
        for process in processes:
            process.stdin.write("go\n")
        lines = {process.stdout.readline() for process in processes}
        assert {process.wait() for process in processes} == {0}
    assert len(lines) == 1
    cache_id, found = lines.pop().split()
    (row,) = schema_of(database_url)
    assert row[:3] == (SCHEMA, cache_id, False)
    assert int(found) > 100
    assert schema_1.rows(database_url) == old


OPEN_AND_DIE = """
import signal
from alembic import command
from sqlalchemy import event
from sqlalchemy.engine import Engine

def die_at(number):
    steps = []
    def step(*arguments):
        steps.append(arguments)
        if len(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)
    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)

for line in sys.stdin:
    number, *addresses = line.split()
    child = os.fork()
    if not child:
        die_at(int(number))
        ImageCache(*addresses).close()
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.endurance)])
def test_a_kill_at_any_statement_leaves_the_old_or_the_new_schema(
    old, database_url, new_database, tmp_path, step
):
    """A kill leaves the catalog intact, and the next opening completes the upgrade.

    By default at every third statement.
    """
    found = Counter()
    copy, number, status = None, 1 - step, signal.SIGKILL
    with program(OPEN_AND_DIE) as process:
        while status:
            number += step
            if copy is None:
                # A catalog that the last kill left unchanged is used again.
                copy = copy_of(database_url, new_database)
                folder = tmp_path / f"{number}" / "blobs"
                schema_1.put(schema_1.blobs_of(300), folder)
            process.stdin.write(f"{number} {copy} {folder.as_uri()}\n")
            status = int(process.stdout.readline())
            assert status in {0, signal.SIGKILL}
            row = schema_of(copy)[0]
            found[row[0]] += 1
            assert schema_1.rows(copy) == old
            if row == (1,):
                continue
            assert row[0] == SCHEMA
            with closing(ImageCache(copy, folder.as_uri())) as cache:
                assert lists.search(cache.catalog, "shop")
                assert cache.blobs.owner() == cache.catalog.cache_id
            assert schema_of(copy)[0][::2] == (SCHEMA, False)
            assert schema_1.rows(copy) == old
            copy = None
    # Some kills came before the commit, some after it; their exact number does not matter.
    assert found[1] > 10 // step
    assert found[SCHEMA] > 2 // step


def test_a_process_of_an_older_version_stops_writing_after_an_upgrade(
    database_url, blobs_url, tmp_path
):
    """An older process refuses writes after an upgrade, and still answers lookups."""
    with closing(ImageCache(database_url, blobs_url)) as cache:
        image = cache.store(HERE, A, "test")["content_hash"]
        before = schema_1.rows(database_url)
        with schema_1.connected(database_url) as newer:
            newer.execute(f"UPDATE imgcache_schema SET number = {SCHEMA + 1}")
        for change in (
            lambda: cache.store(HERE, A, "test"),
            lambda: cache.store(f"{HERE}?2", b"other", "test"),
            lambda: cache.delete(image),
        ):
            with pytest.raises(UnavailableError, match=f"schema {SCHEMA + 1}.*upgrade it"):
                change()
        assert schema_1.rows(database_url) == before
        assert cache.catalog.lookup_many([HERE])[HERE]["content_hash"] == image
        assert cache.get_image(image)[0] == A
    with pytest.raises(ConfigurationError, match="upgrade"):
        ImageCache(database_url, blobs_url)
    assert not issubclass(UnavailableError, REFUSALS)


async def test_images_go_to_the_spool_after_an_upgrade_by_a_newer_version(tmp_path):
    """An older client spools the images that an upgraded catalog refuses."""
    folder, spool = tmp_path / "cache", tmp_path / "spool"

    async with AsyncImgCacheClient(folder.as_uri()) as client:
        await client.store(HERE, A, "test")
        with schema_1.connected(f"sqlite:///{folder / 'catalog.sqlite3'}") as newer:
            newer.execute(f"UPDATE imgcache_schema SET number = {SCHEMA + 1}")
        logged = []
        resilient = ResilientClient(
            client.transport,
            spool,
            bucket="",
            cache_name=str(folder),
            count=lambda _: None,
            log=lambda *line: logged.append(str(line)),
        )
        entry = await resilient.store(ImageUrl.of(f"{HERE}?2"), b"other", "test")
        await resilient.aclose()
        assert any("upgrade it and start it again" in line for line in logged)
        assert "created" not in entry
    assert [waiting.record.data for waiting in Spool(spool).listed()] == [b"other"]


def test_an_upgrade_waits_for_an_open_transaction(database_url, blobs_url):
    """A transaction that began under the old schema number commits before the number changes."""
    with closing(Catalog(database_url)) as catalog, ThreadPoolExecutor(1) as threads:
        engine = database.create_engine(database_url)

        def upgrade():
            with engine.begin() as connection:
                database.lock_schema(connection)
                database.wait_for_writers(connection, tables.schema)
                connection.execute(tables.schema.update().values(number=SCHEMA + 1))

        with catalog.exclusive([]):
            upgrading = threads.submit(upgrade)
            assert not wait([upgrading], timeout=0.5).done
        upgrading.result()
        assert schema_of(database_url)[0][0] == SCHEMA + 1
        with pytest.raises(UnavailableError, match="upgrade it"), catalog.exclusive([]):
            pytest.fail("the catalog accepted a write")
        engine.dispose()


def test_an_older_catalog_is_refused_without_upgrade(old, database_url, blobs_url):
    """With `upgrade=False` an older catalog stays unchanged, and the error names the command."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"schema 1, .*`imgcache upgrade`"):
            ImageCache(database_url, blobs_url, upgrade=False)
    assert schema_of(database_url) == [(1,)]
    assert schema_1.rows(database_url) == old
    ImageCache(database_url, blobs_url).close()
    ImageCache(database_url, blobs_url, upgrade=False).close()


def test_a_new_catalog_needs_no_upgrade_flag(database_url, blobs_url):
    """`upgrade=False` does not prevent the creation of a missing catalog."""
    with closing(ImageCache(database_url, blobs_url, upgrade=False)) as cache:
        assert cache.store(HERE, A, "test")["created"]


def test_threads_upgrade_several_catalogs_at_once(new_database):
    """Upgrades in several threads wait for each other, because Alembic uses global variables."""
    addresses = [new_database() for _ in range(4)]
    for address in addresses:
        schema_1.make(address)
    with ThreadPoolExecutor(4) as threads:
        for catalog in threads.map(Catalog, addresses):
            catalog.close()
    assert len({schema_of(address)[0] for address in addresses}) == 4

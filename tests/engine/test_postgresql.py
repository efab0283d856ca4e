"""ImageCache on PostgreSQL and an object store: many processes, and failures of either server."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError, NotFoundError, UnavailableError
from imgcache_scrapy.engine.cache import ImageCache
from tests.support import lists
from tests.support.programs import forked_program, upkeep_of
from tests.support.servers import DebianPostgreSQL, ObjectStoreServer, PostgreSQLServer
from tests.support.service import new_storage_environment
from tests.support.waiting import PATIENCE

HERE = "http://a.test/here.png"
A = b"the bytes of an image"
A_HASH = content_hash_of(A)


@pytest.fixture
def environment(postgresql, object_store, monkeypatch):
    """Set the environment variables of a new cache."""
    environment = new_storage_environment(postgresql, object_store)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def cache(environment, tmp_path):
    with closing(ImageCache.in_folder(tmp_path / "unused")) as cache:
        yield cache


@pytest.fixture
def administrator(environment):
    """Open a separate connection to the catalog's database, as its administrator."""
    url = make_url(environment["IMGCACHE_DATABASE_URL"])
    with psycopg.connect(
        host=url.query["host"], user="postgres", dbname=url.database, autocommit=True
    ) as connection:
        yield connection


def test_no_file_is_written_locally(cache, tmp_path):
    """Catalog and blobs are on the servers, and nothing is written to the folder."""
    cache.store(HERE, A, "test")
    assert cache.get_image(A_HASH)[0] == A
    assert not list(tmp_path.iterdir())


STORE_MANY = """
from imgcache_scrapy.engine.store_request import StoreRequest
folder, count, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()
cache, created = ImageCache.in_folder(folder), 0
for start in range(0, count, 10):
    stores = [
        StoreRequest.of(
            f"http://a.test/{number}/{i}", b"image %d" % (number * count // 2 + i), "test"
        )
        for i in range(start, start + 10)
    ]
    created += sum(entry["created"] for entry in cache.store_many(stores))
cache.close()
print(created)
"""


@pytest.mark.parametrize("is_postgresql", [False, True], ids=["sqlite", "postgresql"])
@pytest.mark.parametrize("count", [100, pytest.param(2500, marks=pytest.mark.endurance)])
def test_four_processes_store_overlapping_images(request, tmp_path, is_postgresql, count):
    """Every store is acknowledged, no image is lost, and each image is created once."""
    if is_postgresql:
        request.getfixturevalue("environment")
    folder = tmp_path / "cache"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(forked_program(STORE_MANY, folder, count, number))
            for number in range(4)
        ]
        for process in processes:
            process.stdin.write("go\n")
        created = sum(int(process.communicate()) for process in processes)
        assert [process.errors for process in processes] == [""] * 4
    distinct = count // 2 * 5
    with closing(ImageCache.in_folder(folder)) as cache:
        totals = cache.catalog.stats()
        assert created == totals["images"] == distinct
        assert (totals["captures"], totals["damaged"]) == (4 * count, 0)
        for number in range(distinct):
            data = b"image %d" % number
            owner = min(number // (count // 2), 3)
            url = f"http://a.test/{owner}/{number - owner * count // 2}"
            assert cache.catalog.lookup_many([url])[url]["content_hash"] == content_hash_of(data)
            assert cache.get_image(content_hash_of(data))[0] == data


def test_threads_store_one_image_at_once(cache):
    """Of 64 concurrent stores of the same bytes one creates the image, and all URLs are hits."""
    urls = [f"{HERE}?{number}" for number in range(64)]
    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(lambda url: cache.store(url, A, "test")["created"], urls))
    assert created.count(True) == 1
    assert cache.catalog.stats() == {"images": 1, "captures": 64, "bytes": len(A), "damaged": 0}
    assert len(cache.catalog.lookup_many(urls)) == 64


def test_concurrent_operations_on_one_image_are_consistent(cache, tmp_path):
    """In any order of delete, store and `gc`, row and blob both exist or are both missing."""

    def delete():
        try:
            cache.delete(A_HASH)
        except NotFoundError:
            return

    def collect():
        for orphan in other.orphans(timedelta(0)):
            other.remove(orphan)

    with upkeep_of(tmp_path) as other, ThreadPoolExecutor(3) as pool:
        for _ in range(50):
            steps = delete, lambda: other.cache.store(HERE, A, "test"), collect
            for step in [pool.submit(step) for step in steps]:
                step.result()
            has_row = cache.catalog.stats()["images"] == 1
            assert cache.blobs.sizes([A_HASH]) == {A_HASH: len(A) if has_row else None}


def test_a_store_is_repeated_after_a_lost_connection(cache, administrator, postgresql):
    """A store whose connection is cut in its transaction is repeated on a new connection."""
    cache.store(HERE, b"before", "test")
    lock = int(A_HASH[:16], 16) - (1 << 63)
    administrator.execute("SELECT pg_advisory_lock(%s)", [lock])
    with ThreadPoolExecutor(1) as pool:
        storing = pool.submit(cache.store, HERE, A, "test")
        # Other tests may use the same server, with databases of their own.
        waiting = (
            "FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        while not administrator.execute(f"SELECT count(*) {waiting}").fetchone()[0]:
            assert not storing.done()
        administrator.execute(f"SELECT pg_terminate_backend(pid) {waiting}")
        administrator.execute("SELECT pg_advisory_unlock(%s)", [lock])
        assert storing.result(timeout=PATIENCE)["created"]
    assert cache.catalog.lookup_many([HERE])[HERE]["content_hash"] == A_HASH


def test_nothing_is_lost_while_postgresql_restarts(tmp_path, object_store, monkeypatch):
    """Every image acknowledged around three crashes is found, and the cache reconnects."""
    server = PostgreSQLServer()
    try:
        for name, value in new_storage_environment(server, object_store).items():
            monkeypatch.setenv(name, value)
        acknowledged, refused = [], []

        def store_on(thread):
            for number in range(60):
                data = f"{thread} {number}".encode()
                try:
                    acknowledged.append(cache.store(f"{HERE}?{thread}-{number}", data, "test"))
                except UnavailableError as error:
                    refused.append(error)

        with (
            closing(ImageCache.in_folder(tmp_path / "unused")) as cache,
            ThreadPoolExecutor(4) as pool,
        ):
            storing = [pool.submit(store_on, thread) for thread in range(4)]
            for share in (1, 2, 3):
                while len(acknowledged) + len(refused) < share * 50:
                    time.sleep(0.01)
                server.restart()
            for future in storing:
                future.result()
            found = cache.catalog.lookup_many([entry["url"] for entry in acknowledged])
            assert len(found) == len(acknowledged)
            for entry in acknowledged:
                assert cache.get_image(entry["content_hash"])[0]
            assert cache.store(HERE, A, "test")["created"]
    finally:
        server.close()


def test_a_frozen_object_store_times_out(tmp_path, postgresql, monkeypatch):
    """Stores and reads time out, lookups work, and the store is used again when it answers."""
    with ObjectStoreServer(tmp_path / "data") as object_store:
        for name, value in new_storage_environment(postgresql, object_store).items():
            monkeypatch.setenv(name, value)
        with (
            closing(ImageCache.in_folder(tmp_path / "unused")) as cache,
            ThreadPoolExecutor(3) as pool,
        ):
            cache.store(HERE, A, "test")
            object_store.freeze()
            start = time.monotonic()
            calls = [
                pool.submit(cache.store, f"{HERE}?1", b"another", "test"),
                pool.submit(cache.get_image, A_HASH),
                pool.submit(cache.check),
            ]
            assert cache.catalog.lookup_many([HERE])[HERE]["content_hash"] == A_HASH
            for call in calls:
                with pytest.raises(UnavailableError, match="image storage"):
                    call.result()
            assert time.monotonic() - start < PATIENCE
            object_store.thaw()
            assert cache.get_image(A_HASH)[0] == A
            assert cache.store(f"{HERE}?1", b"another", "test")["created"]


def test_a_newer_catalog_is_refused(cache, administrator, environment):
    """A catalog of a later version is not opened."""
    administrator.execute("UPDATE imgcache_schema SET number = 99")
    with pytest.raises(ConfigurationError, match="schema 99"):
        ImageCache(environment["IMGCACHE_DATABASE_URL"], environment["IMGCACHE_BLOBS_URL"])


@pytest.mark.parametrize(
    ("database_url", "words"),
    [
        ("nonsense", "sqlite:///path or postgresql"),
        ("mysql://user@host/database", "sqlite:///path or postgresql"),
        ("postgresql+psycopg2://user@host/database", r"postgresql\+psycopg://"),
    ],
)
def test_a_bad_database_url_is_explained(tmp_path, database_url, words):
    """The error is one sentence that says what to do."""
    with pytest.raises(ConfigurationError, match=words):
        ImageCache(database_url, Path(tmp_path).as_uri())


@pytest.fixture
def debian_postgresql():
    """Start PostgreSQL with its extensions, which the package on PyPI does not have."""
    server = DebianPostgreSQL()
    yield server
    server.close()


def test_with_pg_trgm_urls_are_indexed(debian_postgresql, tmp_path):
    """`search` has an index where the extension pg_trgm is installed, and scans elsewhere."""
    database_url, blobs_url = debian_postgresql.new_database(), (tmp_path / "blobs").as_uri()
    name = make_url(database_url).database
    with (
        closing(ImageCache(database_url, blobs_url)) as cache,
        psycopg.connect(
            host=debian_postgresql.host, user="postgres", dbname=name, autocommit=True
        ) as administrator,
    ):
        index = "SELECT 1 FROM pg_indexes WHERE indexname = 'ix_capture_url'"
        cache.store(HERE, A, "test")
        assert lists.search(cache.catalog, "here.p")[0]["url"] == HERE
        assert not administrator.execute(index).fetchone()
        administrator.execute("CREATE EXTENSION pg_trgm")
        with closing(ImageCache(database_url, blobs_url)) as again:
            assert lists.search(again.catalog, "here.p")[0]["url"] == HERE
        assert administrator.execute(index).fetchone()
        administrator.execute("SET enable_seqscan = off")
        plan = administrator.execute("EXPLAIN SELECT id FROM capture WHERE url LIKE '%here.p%'")
        assert "ix_capture_url" in str(plan.fetchall())

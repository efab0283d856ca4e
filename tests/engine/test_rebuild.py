"""Snapshots of a catalog, a catalog that is rebuilt from its blobs, and backups."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError, NotFoundError, UnavailableError
from imgcache_scrapy.engine.backup import back_up
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.cache import ImageCache, StoreRequest
from imgcache_scrapy.engine.rebuild import rebuild
from imgcache_scrapy.engine.snapshots import snapshots_of
from tests.support import lists
from tests.support.pictures import jpeg
from tests.support.programs import (
    PREAMBLE,
    assert_no_row_without_blob,
    catalog_of,
    program,
    upkeep_of,
)
from tests.support.waiting import wait_until

COUNT = 600
PAGE = 4096


def url(number):
    return f"http://a.test/{number}.jpg"


def image(number):
    return b"image %d" % (number % 50)


def fill(folder, numbers):
    with closing(ImageCache.in_folder(folder)) as cache:
        numbers = list(numbers)
        for first in range(0, len(numbers), 100):
            cache.store_many(
                [
                    StoreRequest.of(url(n), image(n), "me", bucket="b" * (n % 2))
                    for n in numbers[first : first + 100]
                ]
            )


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Return the folder of a cache with many URLs and few images, one of them a picture."""
    folder = tmp_path_factory.mktemp("rebuild") / "cache"
    fill(folder, range(COUNT))
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store(url("picture"), jpeg(1), "me")
    return folder


@pytest.fixture
def folder(template, tmp_path):
    """Return a copy of the cache."""
    return shutil.copytree(template, tmp_path / "cache ü")


def rebuilt(folder, **options):
    """Rebuild the catalog in a folder."""
    with closing(FileBlobs(folder / "blobs")) as blobs:
        return rebuild(folder / "catalog.sqlite3", blobs, **options)


def found_urls(folder):
    """Return those URLs that a lookup finds with the right image."""
    with closing(ImageCache.in_folder(folder, create=False)) as cache:
        found = cache.catalog.lookup_many(url(n) for n in range(COUNT))
        for n in range(COUNT):
            if url(n) in found:
                assert found[url(n)]["content_hash"] == content_hash_of(image(n))
                assert found[url(n)]["bucket"] == "b" * (n % 2)
        return set(found)


def all_urls():
    return {url(n) for n in range(COUNT)}


def rows_of(folder):
    with catalog_of(folder) as database:
        return [
            database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in ("image", "capture", "imgcache_schema")
        ]


def make_older(path, days=2):
    """Make a file some days older."""
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


# Snapshots


def test_a_cache_gets_a_snapshot_when_it_is_closed(folder):
    """The first close takes it, the next ones of the same day do not; readers take none."""
    (snapshot,) = snapshots_of(folder / "catalog.sqlite3")
    assert [each.name for each in snapshot.parent.iterdir()] == [snapshot.name]
    fill(folder, [1])
    assert snapshots_of(folder / "catalog.sqlite3") == [snapshot]
    make_older(snapshot)
    found_urls(folder)
    assert snapshots_of(folder / "catalog.sqlite3") == [snapshot]


def test_two_snapshots_are_kept(folder):
    """Each day a snapshot is added, and the oldest one is removed."""
    for day in range(3):
        newest = snapshots_of(folder / "catalog.sqlite3")[0]
        make_older(newest.rename(newest.with_name(f"catalog-2000010{day}T120000Z.sqlite3")))
        fill(folder, [COUNT + day])
    found = snapshots_of(folder / "catalog.sqlite3")
    assert [each.stem[8:16] for each in found[1:]] == ["20000102"]
    with catalog_of(folder) as database:
        database.execute("ATTACH ? AS newest", (str(found[0]),))
        count = "SELECT count(*) FROM {}.capture"
        assert database.execute(count.format("newest")).fetchone()[0] == COUNT + 4


def test_snapshots_of_a_wrong_clock_are_the_oldest(folder):
    """A clock that was ahead for two days stops no later snapshot, and leaves none for good."""
    (first,) = snapshots_of(folder / "catalog.sqlite3")
    ahead = [first.with_name(f"catalog-9000010{day}T120000Z.sqlite3") for day in range(2)]
    for path in ahead:
        make_older(shutil.copy(first, path), days=-1000)
    first.unlink()
    for day in range(2):
        fill(folder, [COUNT + day])
        newest = snapshots_of(folder / "catalog.sqlite3")[0]
        assert newest not in ahead
        make_older(newest.rename(newest.with_name(f"catalog-2000010{day}T120000Z.sqlite3")))
    found = snapshots_of(folder / "catalog.sqlite3")
    assert [each.stem[8:16] for each in found] == ["20000101", "20000100"]


@pytest.mark.parametrize(
    ("limit", "count"), [("1000", 0), ("1000000000", 1), ("1KB", 0), ("1GB", 1)]
)
def test_a_large_catalog_gets_no_snapshot(folder, monkeypatch, limit, count):
    """The variable in the environment sets the limit in bytes."""
    shutil.rmtree(folder / "snapshots")
    monkeypatch.setenv("IMGCACHE_MAX_SNAPSHOT_BYTES", limit)
    fill(folder, [1])
    assert len(snapshots_of(folder / "catalog.sqlite3")) == count


def test_a_wrong_limit_is_a_configuration_error(folder, monkeypatch):
    """The error names the variable."""
    monkeypatch.setenv("IMGCACHE_MAX_SNAPSHOT_BYTES", "much")
    with pytest.raises(ConfigurationError, match="IMGCACHE_MAX_SNAPSHOT_BYTES"):
        ImageCache.in_folder(folder)


def test_a_failed_snapshot_is_one_warning(folder, caplog):
    """The cache is closed all the same."""
    shutil.rmtree(folder / "snapshots")
    (folder / "snapshots").write_bytes(b"in the way")
    fill(folder, [1])
    (record,) = caplog.records
    assert "no new snapshot" in record.getMessage()


def test_a_cache_that_stays_open_gets_a_snapshot_each_day(folder, monkeypatch):
    """A service is seldom closed: after a day, a store starts the snapshot in the background."""
    monkeypatch.setattr("imgcache_scrapy.engine.snapshots._DAY_SECONDS", 0)
    shutil.rmtree(folder / "snapshots")
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store(url("new"), b"new", "me")
        wait_until(lambda: snapshots_of(folder / "catalog.sqlite3"))


# Rebuild


def test_a_lost_catalog_is_rebuilt_with_the_urls_of_the_snapshot(folder):
    """Everything of the snapshot is there again; later images are found by their hash only."""
    before = rows_of(folder)
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store(url("late"), b"late", "me")
    for path in folder.glob("catalog*"):
        path.unlink()
    done = rebuilt(folder)
    assert (done.images, done.captures, done.without_url) == (52, COUNT, 2)
    assert done.source == snapshots_of(folder / "catalog.sqlite3")[0]
    assert found_urls(folder) == all_urls()
    image_rows, capture_rows, schema_rows = rows_of(folder)
    assert capture_rows == [row for row in before[1] if row[3] != url("picture")]
    assert schema_rows == before[2]
    assert set(image_rows) >= set(before[0])
    with closing(ImageCache.in_folder(folder)) as cache:
        assert cache.get_image(content_hash_of(b"late"))[0] == b"late"
        assert cache.get_image(content_hash_of(jpeg(1)))[1] == "image/jpeg"
        assert lists.search(cache.catalog, "/7.jpg")[0]["url"] == url(7)


def test_a_catalog_without_snapshot_is_rebuilt_without_urls(folder):
    """Images have type, size and decode information again; a store gives them their URLs."""
    images = rows_of(folder)[0]
    shutil.rmtree(folder / "snapshots")
    for path in folder.glob("catalog*"):
        path.unlink()
    done = rebuilt(folder)
    assert (done.images, done.captures, done.without_url, done.source) == (51, 0, 51, None)
    assert rows_of(folder)[0] == images
    with closing(ImageCache.in_folder(folder)) as cache:
        assert cache.catalog.lookup_many([url(0)]) == {}
        assert cache.get_image(content_hash_of(image(0)))[0] == image(0)
        with pytest.raises(NotFoundError):
            cache.get_image(content_hash_of(image(0)), "b")
        assert not cache.store(url(0), image(0), "me")["created"]
        assert list(cache.catalog.lookup_many([url(0)])) == [url(0)]
        cache.delete(content_hash_of(image(1)))
        assert cache.blobs.get(content_hash_of(image(1))) is None
        with pytest.raises(NotFoundError):
            cache.delete(content_hash_of(image(1)))
    with upkeep_of(folder) as upkeep:
        upkeep.check_whole()
        assert {each.state for each in upkeep.verify()} == {"sound"}


def test_a_new_catalog_in_the_place_of_a_lost_one_is_not_taken_for_it(folder):
    """A store after the loss is refused, and leaves an empty catalog, which has another id."""
    for path in folder.glob("catalog*"):
        path.unlink()
    with ImgCacheClient(str(folder)) as client, pytest.raises(ConfigurationError, match="rebuild"):
        client.store(url("new"), b"new", "me")
    assert (folder / "catalog.sqlite3").exists()
    assert rebuilt(folder).captures == COUNT
    assert found_urls(folder) == all_urls()


def test_what_was_deleted_after_the_snapshot_stays_deleted(folder):
    """If every row of the broken catalog can be read, the snapshot adds none."""
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.delete(content_hash_of(image(1)), "b")
    with catalog_of(folder) as database:
        database.execute("UPDATE imgcache_schema SET number = 0")
    done = rebuilt(folder)
    assert done.captures == COUNT + 1 - COUNT // 50
    assert len(found_urls(folder)) == COUNT - COUNT // 50


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_catalog_is_rebuilt(folder, seed):
    """What can be read in it is newer than the snapshot; the snapshot has the rest."""
    fill(folder, range(COUNT, COUNT + 20))
    with catalog_of(folder) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    catalog = folder / "catalog.sqlite3"
    data = catalog.read_bytes()
    page = random.Random(seed).randrange(2, len(data) // PAGE)
    broken = data[: page * PAGE] + random.Random(seed).randbytes(PAGE) + data[(page + 1) * PAGE :]
    catalog.write_bytes(broken)
    done = rebuilt(folder)
    assert done.kept.read_bytes() == broken
    assert found_urls(folder) == all_urls()
    with upkeep_of(folder) as upkeep:
        upkeep.check_whole()
        assert {each.state for each in upkeep.verify()} == {"sound"}
    assert not list(folder.glob("#*"))


def test_a_page_in_a_wrong_place_loses_no_urls(folder):
    """Each row that can be read is sound, but those of the overwritten page are missing."""
    with catalog_of(folder) as database:
        query = "SELECT pageno FROM dbstat WHERE name = 'capture' AND pagetype = 'leaf'"
        pages = [row[0] - 1 for row in database.execute(query)]
    data = (folder / "catalog.sqlite3").read_bytes()
    start, other = pages[3] * PAGE, pages[6] * PAGE
    copied = data[other : other + PAGE]
    (folder / "catalog.sqlite3").write_bytes(data[:start] + copied + data[start + PAGE :])
    rebuilt(folder)
    assert found_urls(folder) == all_urls()


def test_a_sound_catalog_stays_as_it_is(folder):
    """A rebuild that was not needed loses nothing, and takes in images that had no row."""
    before = rows_of(folder)
    path = folder / "blobs" / blob_key(content_hash_of(b"lone"))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"lone")
    steps = []
    done = rebuilt(folder, on_progress=steps.append)
    assert sum(steps) == len(list(folder.glob("blobs/??/*"))) == 52
    image_rows, *others = rows_of(folder)
    assert others == before[1:]
    assert set(image_rows) > set(before[0])
    assert done.without_url == 1


def test_bytes_that_do_not_fit_their_name_are_left_out(folder):
    """A damaged blob is reported, and is no image of the new catalog."""
    for path in folder.glob("catalog*"):
        path.unlink()
    shutil.rmtree(folder / "snapshots")
    name = content_hash_of(image(3))
    (folder / "blobs" / blob_key(name)).write_bytes(b"bad")
    done = rebuilt(folder)
    assert (done.images, done.damaged) == (50, [name])


REBUILD = """
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.rebuild import rebuild
print("starting", flush=True)
rebuild(Path(sys.argv[1]) / "catalog.sqlite3", FileBlobs(Path(sys.argv[1]) / "blobs"))
"""


@pytest.mark.parametrize("count", [2, pytest.param(25, marks=pytest.mark.endurance)])
def test_a_rebuild_that_was_killed_can_be_repeated(folder, count):
    """Whenever it is killed, the next one finds every URL and removes what the first one left."""
    rng = random.Random(count)
    for _ in range(count):
        for path in folder.glob("catalog*"):
            path.unlink()
        with program(REBUILD, folder) as process:
            assert process.stdout.readline() == "starting\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.random())
            process.kill()
        assert rebuilt(folder).captures == COUNT
        assert found_urls(folder) == all_urls()
        assert not list(folder.glob("#*"))


def add_more_rows(folder, numbers):
    """Insert failures, blocks and acts of the audit list, as far as the tables need values."""
    with catalog_of(folder) as database:
        for n in numbers:
            values = (b"%016d" % n, "b", url(n), "a.test", "http_404", 404, 1, 2)
            database.execute("INSERT INTO failure VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            database.execute("INSERT INTO blocked VALUES (?, ?, ?)", (f"{n:064}", "why", n))
            values = (b"%016d" % n, "host", f"{n}.test", "why", n)
            database.execute("INSERT INTO blocked_source VALUES (?, ?, ?, ?, ?)", values)
            values = (n + 1, n, "me@here", "block", "{}", 1, 2, 3)
            database.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


MORE = ("failure", "blocked", "blocked_source")


def more_rows(folder, tables=MORE):
    """Return all failures and blocks."""
    with catalog_of(folder) as database:
        queries = [f"SELECT * FROM {table} ORDER BY 1" for table in tables]
        return [database.execute(query).fetchall() for query in queries]


def damage_an_index(folder):
    """Overwrite a page of an index, so that the catalog is damaged, but every row can be read."""
    with catalog_of(folder) as database:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_capture_content_hash'"
        page = database.execute(query).fetchone()[0]
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (folder / "catalog.sqlite3").open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(random.Random(1).randbytes(PAGE))


@pytest.mark.parametrize("is_whole", [True, False])
def test_failures_and_blocked_images_are_kept(folder, is_whole):
    """A rebuild keeps them, whether the old catalog is whole, or another part of it is damaged."""
    add_more_rows(folder, range(40))
    before, acts = more_rows(folder), more_rows(folder, ["audit"])
    if not is_whole:
        damage_an_index(folder)
    done = rebuilt(folder)
    assert (done.source == folder / "catalog.sqlite3") is is_whole
    assert more_rows(folder) == before
    assert more_rows(folder, ["audit"]) == acts
    assert found_urls(folder) == all_urls()


def test_failures_and_blocked_images_of_a_snapshot_are_kept(folder, tmp_path):
    """If the catalog is lost, those of the newest snapshot come back; a backup has them, too."""
    add_more_rows(folder, range(40))
    before = more_rows(folder)
    shutil.rmtree(folder / "snapshots")
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.delete(content_hash_of(jpeg(1)), "")
        back_up(cache, tmp_path / "backup")
    assert more_rows(tmp_path / "backup") == before
    assert list(snapshots_of(folder / "catalog.sqlite3"))
    (folder / "catalog.sqlite3").unlink()
    rebuilt(folder)
    assert more_rows(folder) == before


def test_what_was_unblocked_since_the_snapshot_stays_so(folder):
    """A damaged catalog whose tables of them can be read knows more than the snapshot."""
    add_more_rows(folder, range(40))
    shutil.rmtree(folder / "snapshots")
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.delete(content_hash_of(jpeg(1)), "")
    with catalog_of(folder) as database:
        for table in MORE:
            database.execute(f"DELETE FROM {table} WHERE rowid % 2")
    before = more_rows(folder)
    damage_an_index(folder)
    rebuilt(folder)
    assert more_rows(folder) == before


def test_nothing_is_rebuilt_from_nothing(tmp_path):
    """An empty folder gets no catalog."""
    with pytest.raises(ConfigurationError, match="no blobs"):
        rebuilt(tmp_path)
    assert not list(tmp_path.iterdir())


# Backup


WRITE = """
from itertools import count
cache = ImageCache.in_folder(Path(sys.argv[1]))
sys.stdin.readline()
for number in count():
    data = b"written %d" % number
    entry = cache.store(f"http://b.test/{number}", data, "writer")
    if number % 3 == 0:
        cache.delete(entry["content_hash"])
    if number == 10:
        print("writing", flush=True)
"""


@pytest.mark.parametrize("count", [3, pytest.param(12, marks=pytest.mark.endurance)])
def test_backups_are_consistent_while_others_write(folder, tmp_path, count):
    """Each copy is a sound cache with everything that was there when it began."""
    words = [sys.executable, "-c", PREAMBLE + WRITE, folder]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout.readline() == "ready\n"
            writer.stdin.write("go\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "writing\n"
            copies = [tmp_path / f"copy {number}" for number in range(count)]
            for copy in copies:
                with closing(ImageCache.in_folder(folder)) as cache:
                    assert back_up(cache, copy).missing == []
            assert writer.poll() is None
        finally:
            writer.kill()
    for copy in copies:
        assert_no_row_without_blob(copy)
        assert found_urls(copy) == all_urls()
        with upkeep_of(copy) as upkeep:
            upkeep.check_whole()
            assert {each.state for each in upkeep.verify()} == {"sound"}


class CacheWithDelete(ImageCache):
    """A cache from which another program deletes an image when its blobs are used."""

    deletes = None

    @property
    def blobs(self):
        name, self.deletes = self.deletes, None
        if name is not None:
            with closing(ImageCache.in_folder(self.catalog.file.parent)) as other:
                other.delete(name)
        return super().blobs


def test_an_image_that_is_deleted_during_a_backup_is_left_out(folder, tmp_path):
    """The copied catalog still names it, but its bytes are gone."""
    with closing(CacheWithDelete.in_folder(folder)) as cache:
        cache.deletes = content_hash_of(jpeg(1))
        assert back_up(cache, tmp_path / "copy") == (50, [])
    with upkeep_of(tmp_path / "copy") as upkeep:
        upkeep.check_whole()
        assert {each.state for each in upkeep.verify()} == {"sound"}
    assert found_urls(tmp_path / "copy") == all_urls()


def test_a_backup_is_restored_by_copying_it_back(folder, tmp_path):
    """The copy of a copy works in the place of the old cache, which has the same id."""
    with closing(ImageCache.in_folder(folder)) as cache:
        back_up(cache, tmp_path / "copy")
    before = rows_of(folder)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    assert rows_of(folder) == before
    assert found_urls(folder) == all_urls()
    with closing(ImageCache.in_folder(folder)) as cache:
        assert [each["url"] for each in lists.search(cache.catalog, "/599.jpg")] == [url(599)]
        cache.store(url("new"), b"new", "me")
        assert lists.search(cache.catalog, "test/new")


def test_a_backup_on_another_disk_has_copies(folder):
    """Between two file systems there are no links, so the bytes are copied."""
    with TemporaryDirectory(dir="/dev/shm") as other:
        copy = Path(other, "copy")
        assert Path(other).stat().st_dev != folder.stat().st_dev
        with closing(ImageCache.in_folder(folder)) as cache:
            assert back_up(cache, copy).images == 51
        blob = copy / "blobs" / blob_key(content_hash_of(image(0)))
        assert blob.stat().st_nlink == 1
        assert found_urls(copy) == all_urls()
        with upkeep_of(copy) as upkeep:
            assert {each.state for each in upkeep.verify()} == {"sound"}


def test_a_backup_tells_which_bytes_are_lost(folder, tmp_path):
    """An image without bytes is damaged in the copy, so that the next store repairs it."""
    name = content_hash_of(image(0))
    (folder / "blobs" / blob_key(name)).unlink()
    with closing(ImageCache.in_folder(folder)) as cache:
        assert back_up(cache, tmp_path / "copy").missing == [name]
    assert url(0) not in found_urls(tmp_path / "copy")
    assert url(1) in found_urls(tmp_path / "copy")


@pytest.mark.parametrize("disk", ["same", "other"])
def test_an_interrupted_backup_goes_on(folder, tmp_path, disk):
    """It copies what is missing, and is not taken for a cache before; another cache is refused."""

    def interrupt(_):
        raise KeyboardInterrupt

    with (
        TemporaryDirectory(dir="/dev/shm" if disk == "other" else tmp_path) as parent,
        closing(ImageCache.in_folder(folder)) as cache,
    ):
        copy = Path(parent, "copy")
        with pytest.raises(KeyboardInterrupt):
            back_up(cache, copy, on_progress=interrupt)
        assert not (copy / "catalog.sqlite3").exists()
        blobs = {path: path.stat().st_ino for path in copy.glob("blobs/??/*")}
        next(iter(blobs)).unlink()
        with (
            closing(ImageCache.in_folder(tmp_path / "another")) as another,
            pytest.raises(ConfigurationError, match="not empty"),
        ):
            back_up(another, copy)
        totals, steps = [], []
        done = back_up(cache, copy, on_total=totals.append, on_progress=steps.append)
        assert done == (51, [])
        assert (totals, sum(steps)) == ([51], 51)
        kept = [path for path, inode in blobs.items() if path.stat().st_ino == inode]
        assert len(kept) >= len(blobs) - 1
        assert sorted(path.name for path in copy.iterdir()) == ["blobs", "catalog.sqlite3"]
        assert found_urls(copy) == all_urls()


def test_two_backups_do_not_share_a_folder(folder, tmp_path):
    """The second one is refused while the first one runs, which is not disturbed."""
    copy = tmp_path / "copy"

    def back_up_again(_):
        with pytest.raises(UnavailableError, match="another `imgcache backup` uses"):
            back_up(cache, copy)

    with closing(ImageCache.in_folder(folder)) as cache:
        done = back_up(cache, copy, on_total=back_up_again)
    assert done.missing == []
    assert found_urls(copy) == all_urls()


def test_two_rebuilds_do_not_disturb_each_other(folder):
    """The second one is refused while the first one runs, also if the catalog is lost."""
    (folder / "catalog.sqlite3").unlink()

    def rebuild_again(_):
        with pytest.raises(UnavailableError, match="another `imgcache rebuild` uses"):
            rebuilt(folder)

    assert rebuilt(folder, on_progress=rebuild_again).damaged == []
    assert found_urls(folder) == all_urls()
    assert not list(folder.glob("#*"))


def test_a_backup_needs_an_empty_folder(folder, tmp_path):
    """A folder with anything in it is refused, and stays as it is."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with (
        closing(ImageCache.in_folder(folder)) as cache,
        pytest.raises(ConfigurationError, match="not empty"),
    ):
        back_up(cache, tmp_path / "used")
    assert [each.name for each in (tmp_path / "used").iterdir()] == ["file"]


def test_a_backup_of_another_database_is_refused(postgresql, tmp_path):
    """The error says what to do."""
    with (
        closing(ImageCache(postgresql.new_database(), (tmp_path / "blobs").as_uri())) as cache,
        pytest.raises(ConfigurationError, match="not in SQLite"),
    ):
        back_up(cache, tmp_path / "copy")

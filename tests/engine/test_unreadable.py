"""Blobs that cannot be read: the trouble of one blob is its own, that of all is an outage."""

import errno
import os
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError, NotFoundError, UnavailableError
from imgcache_scrapy.engine.backup import back_up
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.blobs.opening import open_blobs
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.rebuild import rebuild
from imgcache_scrapy.engine.upkeep import Upkeep
from tests.support.pictures import jpeg
from tests.support.programs import blobs, catalog_of, program, remove_orphans

URL = "http://a.test"
PICTURES = {content_hash_of(data): data for data in (b"image %d" % n for n in range(100))}
NAMES = list(PICTURES)


def store(cache, name):
    return cache.store(f"{URL}/{name}", PICTURES[name], "test")


def found(cache):
    """Return the hashes of the images that lookups find."""
    entries = cache.catalog.lookup_many(f"{URL}/{name}" for name in NAMES)
    return {entry["content_hash"] for entry in entries.values()}


def states(cache):
    return {verdict.content_hash: verdict.state for verdict in Upkeep(cache).verify()}


def readable(cache):
    """Return the hashes of the images that can be read; the others are not found."""
    names = set()
    for name in NAMES:
        try:
            assert cache.get_image(name)[0] == PICTURES[name]
            names.add(name)
        except NotFoundError:
            continue
    return names


class FaultyBlobs(FileBlobs):
    """Blobs in a folder, of which some cannot be read until they are written again.

    Attributes:
        denied: the content hashes of blobs that must not be read.
        left: how many reads of a blob still fail, whichever it is.
    """

    def __init__(self, folder):
        super().__init__(folder)
        self.denied = set()
        self.left = 0

    def get(self, content_hash):
        self.left -= 1
        if content_hash in self.denied or self.left >= 0:
            error = PermissionError(errno.EACCES, "Permission denied")
            raise UnavailableError("the image storage failed") from error
        return super().get(content_hash)

    def put_many(self, found):
        self.denied -= found.keys()
        return super().put_many(found)


def to_folder(path):
    path.unlink()
    path.mkdir()
    (path / "file").write_bytes(b"a file")


def to_loop(path):
    path.unlink()
    path.symlink_to(path)


def to_io_error(path):
    path.unlink()
    path.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("is_read_first", [False, True])
def test_each_unreadable_blob_is_found_and_repaired(cache, folder, is_read_first):
    """Seventy blobs of four kinds: all are listed, misses, and repaired by the next store."""
    faulty = cache._unchecked_blobs = FaultyBlobs(folder / "blobs")
    for name in NAMES:
        store(cache, name)
    bad, sound = NAMES[:70], set(NAMES[70:])
    for number, name in enumerate(bad):
        damage = (faulty.denied.add, to_folder, to_loop, to_io_error)[number % 4]
        damage(name if number % 4 == 0 else folder / "blobs" / blob_key(name))

    for step in ("read", "verify") if is_read_first else ("verify", "read"):
        if step == "read":
            assert readable(cache) == sound
        else:
            expected = {name: "sound" if name in sound else "unreadable" for name in NAMES}
            assert states(cache) == expected
        assert found(cache) == sound
        assert cache.catalog.stats()["damaged"] == 70

    for name in NAMES:
        assert not store(cache, name)["created"]
    assert set(states(cache).values()) == {"sound"}
    assert found(cache) == readable(cache) == set(NAMES)


def test_a_blob_that_is_too_large_for_an_image_is_not_read(cache, folder):
    """A file with a hole of 4 TB takes no place on the disk, but its bytes fill any memory."""
    for name in NAMES[:2]:
        store(cache, name)
    os.truncate(folder / "blobs" / blob_key(NAMES[0]), 2**42)
    assert states(cache) == {NAMES[0]: "unreadable", NAMES[1]: "sound"}
    assert readable(cache) == {NAMES[1]}
    store(cache, NAMES[0])
    assert readable(cache) == {NAMES[0], NAMES[1]}


@pytest.mark.skipif(not os.access("/proc/kmsg", os.R_OK), reason="only root may read this file")
def test_a_blob_that_is_a_file_of_the_kernel_is_not_waited_for(cache, folder):
    """The kernel says that this file is empty, but reading it waits for its next message."""
    for name in NAMES[:2]:
        store(cache, name)
    path = folder / "blobs" / blob_key(NAMES[0])
    path.unlink()
    path.symlink_to("/proc/kmsg")
    verdicts = states(cache)
    assert verdicts.pop(NAMES[0]) != "sound"
    assert verdicts == {NAMES[1]: "sound"}
    store(cache, NAMES[0])
    assert readable(cache) == {NAMES[0], NAMES[1]}


@pytest.mark.parametrize("damage", [to_folder, to_loop, to_io_error])
@pytest.mark.parametrize("disk", [None, "/dev/shm"], ids=["same disk", "other disk"])
def test_unreadable_blobs_stop_no_backup(cache, folder, damage, disk):
    """The copy has the other images, and the unreadable one as damaged."""
    for name in NAMES[:3]:
        store(cache, name)
    damage(folder / "blobs" / blob_key(NAMES[0]))
    with TemporaryDirectory(dir=disk or folder) as other:
        assert back_up(cache, Path(other, "copy")) == (3, [NAMES[0]])
        with closing(ImageCache.in_folder(Path(other, "copy"))) as copy:
            assert found(copy) == readable(copy) == set(NAMES[1:3])


def test_unreadable_blobs_stop_no_rebuild(cache, folder):
    """The new catalog has the other images, and the unreadable blob is named."""
    for name in NAMES[:3]:
        store(cache, name)
    cache.catalog.close()
    (folder / "catalog.sqlite3").unlink()
    faulty = FaultyBlobs(folder / "blobs")
    faulty.denied = {NAMES[0]}
    done = rebuild(folder / "catalog.sqlite3", faulty)
    assert (done.images, done.damaged) == (2, [NAMES[0]])


def rebuild_and_collect(folder, faulty):
    """Rebuild the catalog, and remove all orphans as if they were old."""
    done = rebuild(folder / "catalog.sqlite3", faulty)
    remove_orphans(folder)
    return done


@pytest.mark.parametrize("has_catalog", [False, True])
def test_a_rebuild_leaves_no_blob_to_be_removed(cache, folder, has_catalog):
    """A picture that cannot be read during the rebuild is healed when it can be read again."""
    picture = jpeg(1)
    name = cache.store(f"{URL}/picture", picture, "test")["content_hash"]
    store(cache, NAMES[0])
    cache.close()
    if has_catalog:
        with catalog_of(folder) as database:
            database.execute("UPDATE image SET damaged = 1")  # So that the bytes are read.
    else:
        shutil.rmtree(folder / "snapshots")
        (folder / "catalog.sqlite3").unlink()
    faulty = FaultyBlobs(folder / "blobs")
    faulty.denied = {name}
    done = rebuild_and_collect(folder, faulty)
    assert (done.images, done.captures, done.damaged) == (1, 2 * has_catalog, [name])
    assert done.without_url == (not has_catalog)
    with closing(ImageCache.in_folder(folder)) as rebuilt:
        assert rebuilt.catalog.lookup_many([f"{URL}/picture"]) == {}
        assert states(rebuilt)[name] == "healed"
        list(Upkeep(rebuilt).decode())
        assert rebuilt.get_image(name) == (picture, "image/jpeg")
        assert len(rebuilt.catalog.lookup_many([f"{URL}/picture"])) == has_catalog


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_only_files_are_read(cache, folder, make):
    """In the place of the catalog or of the cache's id there is a folder or a pipe."""
    store(cache, NAMES[0])
    cache.close()
    catalog, owner = folder / "catalog.sqlite3", folder / "blobs" / "cache_id"
    kept = catalog.rename(folder / "kept")
    make(catalog)
    with pytest.raises(ConfigurationError, match="not a file"):
        rebuild(catalog, FileBlobs(folder / "blobs"))
    catalog.rename(folder / "elsewhere")
    kept.rename(catalog)
    owner.unlink()
    make(owner)
    with closing(ImageCache.in_folder(folder)) as reopened:
        assert found(reopened) == {NAMES[0]}
        with pytest.raises(UnavailableError, match="image storage failed"):
            store(reopened, NAMES[1])


def test_a_rebuild_keeps_what_a_whole_catalog_knows_of_lost_images(cache, folder):
    """When the blob is there again, for example from a backup, the image is, too."""
    for name in NAMES[:3]:
        store(cache, name)
    cache.close()
    blob = folder / "blobs" / blob_key(NAMES[1])
    blob.rename(folder / "elsewhere")
    done = rebuild_and_collect(folder, FileBlobs(folder / "blobs"))
    assert (done.images, done.captures, done.damaged) == (2, 3, [NAMES[1]])
    (folder / "elsewhere").rename(blob)
    remove_orphans(folder)
    with closing(ImageCache.in_folder(folder)) as rebuilt:
        assert found(rebuilt) == {NAMES[0], NAMES[2]}
        assert states(rebuilt)[NAMES[1]] == "healed"
        assert found(rebuilt) == readable(rebuilt) == set(NAMES[:3])


REBUILD_WITHOUT_POWERS = """
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.rebuild import rebuild
from tests.support.confinement import WITHOUT_POWERS, confine
confine({WITHOUT_POWERS: "1"})
folder = Path(sys.argv[1])
try:
    rebuild(folder / "catalog.sqlite3", FileBlobs(folder / "blobs"))
except UnavailableError as error:
    print(error)
"""


@pytest.mark.parametrize("mode", [0, 0o400], ids=["not listed", "without sizes"])
def test_a_folder_that_cannot_be_listed_stops_a_rebuild(cache, folder, mode):
    """Its images would be orphans later, so the error names it, and nothing is changed."""
    for name in NAMES[:20]:
        store(cache, name)
    cache.close()
    (folder / "catalog.sqlite3").unlink()
    hidden = folder / "blobs" / NAMES[0][:2]
    hidden.chmod(mode)
    try:
        with program(REBUILD_WITHOUT_POWERS, folder) as process:
            text = process.stdout.read()
    finally:
        hidden.chmod(0o755)
    assert "Permission denied" in text
    assert str(hidden) in text
    assert not list(folder.glob("catalog*"))
    assert rebuild(folder / "catalog.sqlite3", FileBlobs(folder / "blobs")).images == 20


def lose_folder(cache, folder):
    (folder / "blobs").rename(folder / "elsewhere")


def unmount(cache, folder):
    lose_folder(cache, folder)
    (folder / "blobs").mkdir()


def replace_all(cache, folder):
    """Answer each read with a page, as a broken proxy in front of an object store does."""
    shutil.copytree(folder / "blobs", folder / "elsewhere")
    for path in (*(folder / "blobs").glob("*/*"), folder / "blobs" / "cache_id"):
        path.write_bytes(b"<h1>Service unavailable</h1>")


@pytest.mark.parametrize("outage", [lose_folder, unmount, replace_all])
@pytest.mark.parametrize(
    "work",
    [readable, states, lambda cache: store(cache, NAMES[0])],
    ids=["read", "verify", "store"],
)
def test_an_outage_marks_nothing(cache, folder, outage, work):
    """If the whole storage is gone, reads, stores and verify fail, and lookups still work."""
    for name in NAMES[:30]:
        store(cache, name)
    outage(cache, folder)
    if outage is not replace_all or work in {readable, states}:
        with pytest.raises(UnavailableError, match="image storage failed"):
            work(cache)
    assert found(cache) == set(NAMES[:30])
    assert cache.catalog.stats()["damaged"] == 0
    if (folder / "blobs").exists():
        assert outage is replace_all or blobs(folder) == {}
        shutil.rmtree(folder / "blobs")
    (folder / "elsewhere").rename(folder / "blobs")
    assert Counter(states(cache).values()) == {"sound": 30}
    assert readable(cache) == set(NAMES[:30])


@pytest.mark.parametrize("outage", ["down", "another bucket"])
def test_an_outage_of_an_object_store_marks_nothing(
    object_store, database_url, monkeypatch, outage
):
    """Thirty images are sound and found after an object store was away for a while."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    with closing(ImageCache(database_url, object_store.new_bucket())) as cache:
        for name in NAMES[:30]:
            store(cache, name)
        sound = cache._unchecked_blobs
        if outage == "down":
            monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
        away = cache._unchecked_blobs = open_blobs(object_store.new_bucket())
        for work in (states, lambda cache: cache.get_image(NAMES[0])):
            with pytest.raises(UnavailableError, match="image storage failed"):
                work(cache)
        cache._unchecked_blobs = sound
        away.close()
        assert cache.catalog.stats()["damaged"] == 0
        assert found(cache) == set(NAMES[:30])
        assert Counter(states(cache).values()) == {"sound": 30}


def test_a_blob_is_read_again_before_the_verdict(cache, folder):
    """A read that fails only once marks nothing, because an outage may be over by the check."""
    faulty = cache._unchecked_blobs = FaultyBlobs(folder / "blobs")
    for name in NAMES[:2]:
        store(cache, name)
    faulty.left = 1
    assert cache.get_image(NAMES[0])[0] == PICTURES[NAMES[0]]
    faulty.left = 1
    assert set(states(cache).values()) == {"sound"}
    assert cache.catalog.stats()["damaged"] == 0


def test_a_scan_continues_if_a_folder_disappears(cache, folder):
    """A folder that cannot be read hides its own files only."""
    for name in NAMES:
        store(cache, name)
    scan = cache.blobs.scan()
    listed = {next(scan).content_hash}
    gone = next(name[:2] for name in NAMES if {name[:2]} != {each[:2] for each in listed})
    shutil.rmtree(folder / "blobs" / gone)
    listed |= {each.content_hash for each in scan}
    assert listed == {name for name in NAMES if name[:2] != gone}

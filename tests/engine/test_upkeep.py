"""Upkeep: it finds every damage and every orphan, and does not disturb concurrent work."""

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from threading import Barrier

import pytest

from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.core.errors import NotFoundError
from imgcache_scrapy.engine.cache import ImageCache
from tests.support.programs import (
    blob_files,
    blobs,
    catalog_of,
    forked_program,
    images,
    remove_orphans,
    upkeep_of,
)
from tests.support.service import new_storage_environment
from tests.support.waiting import PATIENCE

URL = "http://a.test/image"
DATA = b"the bytes of an image"
HASH = content_hash_of(DATA)
NO_AGE = timedelta(0)


@pytest.fixture
def upkeep(folder):
    with upkeep_of(folder) as upkeep:
        yield upkeep


@pytest.fixture(params=["folder", "PostgreSQL and an object store"])
def any_upkeep(request, folder, monkeypatch):
    """Open the upkeep of each kind of cache."""
    if request.param != "folder":
        servers = map(request.getfixturevalue, ("postgresql", "object_store"))
        for name, value in new_storage_environment(*servers).items():
            monkeypatch.setenv(name, value)
    with upkeep_of(folder) as upkeep:
        yield upkeep


def flip_one_bit(path):
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


DAMAGES = [
    (flip_one_bit, "altered"),
    (lambda path: os.truncate(path, random.randrange(1, path.stat().st_size)), "truncated"),
    (lambda path: os.truncate(path, 0), "truncated"),
    (lambda path: path.unlink(), "missing"),
]


def path_of(folder, content_hash=HASH):
    return folder / "blobs" / blob_key(content_hash)


def verdicts(upkeep):
    return {verdict.content_hash: verdict.state for verdict in upkeep.verify()}


def readable(cache, names):
    """Return the bytes of those images that can be read."""
    found = {}
    for name in names:
        try:
            found[name] = cache.get_image(name)[0]
        except NotFoundError:
            continue
    return found


@pytest.mark.parametrize("is_read_first", [False, True])
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.endurance)])
def test_all_damage_is_found_and_repaired(upkeep, folder, count, is_read_first):
    """Verify finds each of four kinds of damage; damaged images are misses until the next store."""
    pictures = {
        content_hash_of(data): data for data in map(random.randbytes, range(300, count + 300))
    }
    urls = {name: f"{URL}/{name}" for name in pictures}
    for name, data in pictures.items():
        upkeep.cache.store(urls[name], data, "test")
    expected = dict.fromkeys(pictures, "sound")
    for number, name in enumerate(random.sample(sorted(pictures), count * 6 // 10)):
        damage, expected[name] = DAMAGES[number % len(DAMAGES)]
        damage(path_of(folder, name))
    sound = {name: data for name, data in pictures.items() if expected[name] == "sound"}
    if is_read_first:
        assert readable(upkeep.cache, pictures) == sound

    for _ in range(2):
        assert verdicts(upkeep) == expected
        assert upkeep.cache.catalog.lookup_many(urls.values()).keys() == {
            urls[name] for name in sound
        }
        assert readable(upkeep.cache, pictures) == sound

    for name, data in pictures.items():
        assert not upkeep.cache.store(urls[name], data, "test")["created"]
    assert set(verdicts(upkeep).values()) == {"sound"}
    assert len(upkeep.cache.catalog.lookup_many(urls.values())) == count
    assert readable(upkeep.cache, pictures) == pictures


def test_verify_examines_all_pages_of_images(upkeep, folder):
    """Verify gives one verdict for each image, also for more images than one query lists."""
    names = [f"{number:064x}" for number in range(1201)]
    with catalog_of(folder) as database:
        database.executemany(
            "INSERT INTO image (content_hash, content_type, file_size_bytes, damaged)"
            " VALUES (?, 'image/png', 1, 0)",
            [[name] for name in names],
        )
    assert [verdict.content_hash for verdict in upkeep.verify()] == names
    assert upkeep.cache.catalog.stats()["damaged"] == 1201


class BlobsForTwoReaders:
    """Blobs that return bytes only after a second reader has asked."""

    def __init__(self, blobs):
        self.blobs, self._both = blobs, Barrier(2, timeout=PATIENCE)

    def get(self, content_hash):
        self._both.wait()
        return self.blobs.get(content_hash)

    def __getattr__(self, name):
        return getattr(self.blobs, name)


def test_verify_reads_images_concurrently(upkeep):
    """Verify reads several images at once, so that slow storage delays only some of them."""
    for data in (b"one", b"two"):
        upkeep.cache.store(f"{URL}/{data.decode()}", data, "test")
    upkeep.cache._unchecked_blobs = BlobsForTwoReaders(upkeep.cache.blobs)
    assert list(verdicts(upkeep).values()) == ["sound", "sound"]


def test_upkeep_works_on_each_kind_of_storage(any_upkeep):
    """Upkeep finds damage and orphans, and removes orphans, in a folder and in an object store."""
    upkeep = any_upkeep
    lost, rotten, sound = b"lost", b"rotten", b"sound"
    for data in (lost, rotten, sound):
        upkeep.cache.store(f"{URL}/{data.decode()}", data, "test")
    upkeep.cache.blobs.delete(content_hash_of(lost))
    upkeep.cache.blobs.put(content_hash_of(rotten), b"ROTTEN")
    upkeep.cache.blobs.put(HASH, DATA)
    assert verdicts(upkeep) == {
        content_hash_of(lost): "missing",
        content_hash_of(rotten): "altered",
        content_hash_of(sound): "sound",
    }
    assert list(upkeep.orphans(timedelta(hours=1))) == []
    (orphan,) = upkeep.orphans(NO_AGE)
    assert (orphan.content_hash, orphan.size) == (HASH, len(DATA))
    assert upkeep.remove(orphan)
    assert list(upkeep.orphans(NO_AGE)) == []
    assert upkeep.cache.blobs.get(HASH) is None
    assert upkeep.cache.get_image(content_hash_of(sound))[0] == sound


def test_verify_removes_a_mark_of_damage_that_is_no_longer_true(upkeep, folder):
    """An image whose bytes were restored, for example from a backup, is found again."""
    upkeep.cache.store(URL, DATA, "test")
    path_of(folder).write_bytes(b"")
    assert verdicts(upkeep) == {HASH: "truncated"}
    path_of(folder).write_bytes(DATA)
    assert upkeep.cache.catalog.lookup_many([URL]) == {}
    assert verdicts(upkeep) == {HASH: "healed"}
    assert upkeep.cache.catalog.lookup_many([URL])[URL]["content_hash"] == HASH
    assert verdicts(upkeep) == {HASH: "sound"}


@pytest.mark.parametrize("is_deleted", [False, True])
def test_verify_checks_again_before_it_marks_damage(upkeep, folder, is_deleted):
    """Bytes that a concurrent delete removed are not damage."""
    upkeep.cache.store(URL, DATA, "test")
    with ThreadPoolExecutor(1) as pool, catalog_of(folder) as writer:
        writer.execute("BEGIN IMMEDIATE")
        path_of(folder).unlink()
        examining = pool.submit(verdicts, upkeep)
        assert not wait([examining], timeout=0.3).done
        if is_deleted:
            writer.execute("DELETE FROM capture")
            writer.execute("DELETE FROM image")
        else:
            path_of(folder).write_bytes(DATA)
        writer.execute("COMMIT")
        assert examining.result() == {HASH: "sound"}
    assert upkeep.cache.catalog.stats()["damaged"] == 0


def write_file(path, *, age):
    """Write a file of this age."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"1234")
    changed = time.time() - age.total_seconds()
    os.utime(path, (changed, changed))


def test_orphans_are_old_files_without_an_image(upkeep, folder):
    """Old blobs without a row and old drafts are orphans; images and foreign files are not."""
    upkeep.cache.store(URL, DATA, "test")
    os.utime(path_of(folder), (0, 0))
    other = content_hash_of(b"other")
    orphans = {
        blob_key(other),
        f"{blob_key(HASH)}#{'a1' * 16}",
        f"{blob_key(other)}#1",
        f"#{'b2' * 16}",
    }
    foreign = {"README", "zz", f"{HASH[:2]}/.hidden", f"{HASH[:2]}/#notes", HASH, f"ab/{HASH}"}
    for key in orphans | foreign:
        write_file(folder / "blobs" / key, age=timedelta(hours=2))
    for age, found in [
        (NO_AGE, orphans),
        (timedelta(hours=1), orphans),
        (timedelta(hours=3), set()),
    ]:
        assert {orphan.key for orphan in upkeep.orphans(age)} == found
    for orphan in upkeep.orphans():
        assert upkeep.remove(orphan)
    assert blob_files(folder) == foreign | {blob_key(HASH)}


def test_a_young_draft_is_never_an_orphan(upkeep, folder):
    """A draft younger than a minute is never an orphan, because a store may still write it."""
    draft = path_of(folder).with_name(f"{HASH[2:]}#{'a1' * 16}")
    for age, is_found in [(timedelta(seconds=30), False), (timedelta(seconds=90), True)]:
        write_file(draft, age=age)
        assert bool(list(upkeep.orphans(NO_AGE))) is is_found


def test_an_orphan_that_became_an_image_stays(upkeep):
    """An orphan that was stored as an image after the search is not removed."""
    upkeep.cache.blobs.put(HASH, DATA)
    (orphan,) = upkeep.orphans(NO_AGE)
    upkeep.cache.store(URL, DATA, "test")
    assert not upkeep.remove(orphan)
    assert upkeep.cache.get_image(HASH)[0] == DATA


def test_the_removal_of_an_orphan_waits_for_writers(upkeep, folder):
    """The removal waits for a writer, because it may be storing this image."""
    upkeep.cache.blobs.put(HASH, DATA)
    (orphan,) = upkeep.orphans(NO_AGE)
    with ThreadPoolExecutor(1) as pool, catalog_of(folder) as writer:
        writer.execute("BEGIN IMMEDIATE")
        removing = pool.submit(upkeep.remove, orphan)
        assert not wait([removing], timeout=0.3).done
        assert path_of(folder).exists()
        writer.execute("COMMIT")
        assert removing.result()
    assert not path_of(folder).exists()


@pytest.mark.parametrize("races", [200, pytest.param(10_000, marks=pytest.mark.endurance)])
def test_concurrent_operations_on_one_image_are_consistent(upkeep, folder, races):
    """In any order of operations, row and blob both exist or are both missing."""
    start, outcomes = Barrier(4), Counter()

    def step(action, *arguments):
        start.wait()
        try:
            action(*arguments)
        except NotFoundError:
            return

    def collect():
        for orphan in upkeep.orphans(NO_AGE):
            upkeep.remove(orphan)

    with closing(ImageCache.in_folder(folder)) as other, ThreadPoolExecutor(4) as pool:
        for _ in range(races):
            other.store(URL, DATA, "test")
            steps = [
                pool.submit(step, upkeep.cache.store, URL, DATA, "test"),
                pool.submit(step, other.delete, HASH),
                pool.submit(step, upkeep.cache.get_image, HASH),
                pool.submit(step, collect),
            ]
            for future in steps:
                future.result()
            outcomes[bool(images(folder))] += 1
            assert set(blobs(folder)) == images(folder)
            assert upkeep.cache.catalog.stats()["damaged"] == 0
    assert outcomes[True]


WORK = """
from datetime import timedelta
from threading import Thread
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.upkeep import Upkeep
from imgcache_scrapy.core.errors import NotFoundError

folder, count, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()
cache, is_done = ImageCache.in_folder(folder), False
upkeep = Upkeep(cache)

def collect():
    while not is_done:
        for orphan in upkeep.orphans(timedelta(0)):
            upkeep.remove(orphan)

collecting = Thread(target=collect)
if number < 2:
    collecting.start()
created = 0
try:
    for i in range(count):
        mine = cache.store(f"http://a.test/{number}/{i}", b"mine %d %d" % (number, i), "test")
        shared = cache.store(f"http://a.test/{number}/shared/{i}", b"shared %d" % i, "test")
        created += mine["created"] + shared["created"]
        if i % 2:
            cache.delete(mine["content_hash"])
finally:
    is_done = True
    if number < 2:
        collecting.join()
    cache.close()
print(created)
"""


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.endurance)])
def test_processes_store_delete_and_collect_in_one_folder(upkeep, folder, count):
    """Eight processes, two of which collect orphans, lose no image and leave no orphan."""
    with eight_programs(WORK, folder, count) as processes:
        for process in processes:
            process.stdin.write("go\n")
        created = [int(process.communicate()) for process in processes]
        assert [process.returncode for process in processes] == [0] * 8
    assert sum(created) == 8 * count + count
    kept = {b"mine %d %d" % (number, i) for number in range(8) for i in range(0, count, 2)}
    kept |= {b"shared %d" % i for i in range(count)}
    assert upkeep.cache.catalog.stats()["captures"] == 8 * (count + (count + 1) // 2)
    assert set(verdicts(upkeep).values()) == {"sound"}
    remove_orphans(folder)
    assert blobs(folder) == {content_hash_of(data): data for data in kept}
    assert images(folder) == {content_hash_of(data) for data in kept}


@contextmanager
def eight_programs(text, *arguments):
    """Start the program eight times, each with its own number as the last argument."""
    with ExitStack() as stack:
        yield [stack.enter_context(forked_program(text, *arguments, number)) for number in range(8)]

"""The spool: records outlive whoever wrote them, and each is stored or set aside, never lost."""

import errno
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest

from imgcache_scrapy.client import spool_index
from imgcache_scrapy.client.record import MAX_RECORD_BYTES, DamagedRecordError, Record
from imgcache_scrapy.client.replay import Replayer
from imgcache_scrapy.client.spool import LockedRecord, Spool
from imgcache_scrapy.client.spool_index import SpoolIndex, read_header
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import TooLargeError, UnavailableError
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES, MAX_URL_BYTES
from tests.support.records import (
    CACHE,
    FETCHED,
    UNREADABLE,
    add_unreadable,
    filled,
    kept,
    record_of,
    replayed,
)
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def spool(tmp_path):
    """A spool whose folder is not there yet."""
    return Spool(tmp_path / "data" / "spool")


# records


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"url": "http://h.example/" + "\x7f\n ü" * 100, "bucket": "b\n", "client_name": "ü"},
        {"data": b"\n\n\0\n"},
        {"data": b""},
        {"cache": "/srv/ü\n"},
    ],
)
def test_a_record_is_read_as_it_was_written(changes):
    """Whatever its texts and its bytes hold."""
    record = record_of(1, **changes)
    assert Record.unpacked(record.packed()) == record


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"\n", b"{}\n", b"[1]\n", b"\xff\n", b'["a","b","c",1]\n', b"[" * 10**5 + b"\n"],
        b'["http://h.example/","","me","0001-01-01T00:00:00+01:00"]\n',
    ],
)
def test_what_is_no_record_is_told(content):
    """A file of somebody else's."""
    with pytest.raises(DamagedRecordError):
        Record.unpacked(content)


def test_the_largest_record_can_be_read():
    """No image that the cache would take is too large for the spool."""
    longest = record_of(1, url="ü" * (MAX_URL_BYTES // 2), data=b"")
    assert len(longest.packed()) + MAX_IMAGE_BYTES < MAX_RECORD_BYTES


def test_a_record_of_the_first_version_is_read():
    """It names no cache, so that any cache may take it."""
    line = b'["http://h.example/a.gif#1", "b", "me", "2026-03-04T05:06:07+00:00"]'
    record = Record.unpacked(line + b"\nGIF89a")
    assert (record.cache, record.bucket, record.data) == (None, "b", b"GIF89a")
    assert record.url == "http://h.example/a.gif"
    assert record.belongs_to("any")


# writing


def test_a_record_waits_until_it_is_stored(spool):
    """Another process finds it; after its store it is gone."""
    records = filled(spool, 3)
    other = Spool(spool.folder)
    assert sorted(kept(other)) == records
    for name in other.names():
        outcome, (stored,) = replayed(other, name)
        assert outcome.is_stored
        records.remove(stored)
    assert records == kept(spool) == []
    assert list(spool.folder.iterdir()) == []


def test_a_record_is_synced_before_its_name_is_there(spool, tmp_path):
    """Write, sync, rename, sync the folder: seen from outside, as the system calls."""
    script = (
        "import sys; from pathlib import Path; "
        "from tests.client.test_spool import Spool, record_of; "
        "Spool(Path(sys.argv[1])).put(record_of(1))"
    )
    trace = tmp_path / "trace"
    calls = "trace=fsync,rename,renameat,renameat2"
    subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-o",
            trace,
            "-e",
            calls,
            sys.executable,
            "-c",
            script,
            spool.folder,
        ],
        check=True,
        timeout=PATIENCE,
        cwd=Path(__file__).parents[2],
    )
    seen = [line.split(None, 1)[1] for line in trace.read_text().splitlines() if "spool" in line]
    of_record = [line for line in seen if "/spool" in line]
    kinds = [(line.split("(")[0], "#" in line) for line in of_record]
    assert kinds == [("fsync", True), ("rename", True), ("fsync", False)], seen


def test_a_full_spool_takes_no_more(tmp_path):
    """Room that another process made is found; what was refused takes room too."""
    spool = Spool(tmp_path, limit=1000)
    records = [record_of(n, data=b"GIF89a" + bytes(300)) for n in range(3)]
    spool.put(records[0])
    spool.put(records[1])
    with pytest.raises(UnavailableError, match="is full"):
        spool.put(records[2])
    first, second = spool.names()
    assert replayed(Spool(tmp_path), first)[0].is_stored
    spool.put(records[2])
    replayed(Spool(tmp_path), second, TooLargeError("no"))
    with pytest.raises(UnavailableError, match="is full"):
        spool.put(records[0])


@pytest.mark.parametrize("folder", ["", "refused"])
def test_a_full_spool_is_counted_again_when_it_has_changed(tmp_path, folder):
    """Not for each image: that takes seconds if there are many records."""
    large = tmp_path / folder / "large"
    large.parent.mkdir(exist_ok=True)
    large.write_bytes(bytes(1000))
    spool = Spool(tmp_path, limit=1000)
    for is_removed in (False, True):
        if is_removed:
            large.unlink()
        for each in (tmp_path, large.parent):
            os.utime(each, (1, 1))
        with pytest.raises(UnavailableError, match="is full"):
            spool.put(record_of(1))
    os.utime(large.parent, (2, 2))
    spool.put(record_of(1))


def test_a_spool_counts_what_it_removes(tmp_path):
    """It stays below its limit however many records come and go."""
    spool = Spool(tmp_path, limit=500)
    for number in range(20):
        spool.put(record_of(number, data=b"GIF89a" + bytes(200)))
        (name,) = spool.names()
        replayed(spool, name)


def test_a_record_that_cannot_be_written_leaves_no_trace(tmp_path):
    """The error is the disk's, and no room is taken."""
    folder = tmp_path / "spool"
    folder.write_bytes(b"no folder")
    os.utime(folder, (1, 1))
    spool = Spool(folder, limit=150)
    for _ in range(3):
        with pytest.raises(OSError, match="spool"):
            spool.put(record_of(1))


def test_what_a_crash_left_half_written_is_removed(spool):
    """After an hour; until then somebody may be writing it."""
    filled(spool, 1)
    old, new = spool.folder / "#old", spool.folder / "#new"
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert len(spool.names()) == 1
    assert (old.exists(), new.exists()) == (False, True)


# replaying


@pytest.mark.parametrize("error", [UnavailableError("down"), RuntimeError("bug")])
def test_a_record_that_cannot_be_stored_now_waits_on(spool, error):
    """As often as that happens."""
    records = filled(spool, 1)
    for _ in range(3):
        with pytest.raises(type(error)):
            replayed(spool, spool.names()[0], error)
    assert kept(spool) == records


def test_a_record_that_is_refused_is_set_aside(spool):
    """With its reason and its bytes, and never tried again."""
    (record,) = filled(spool, 1)
    outcome, _ = replayed(spool, spool.names()[0], TooLargeError("more than the cache takes"))
    assert (outcome.is_stored, outcome.refusal) == (False, "more than the cache takes")
    assert spool.names() == []
    (refused,) = spool.listed()
    assert (refused.record, refused.reason) == (record, "more than the cache takes")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"x" + b, lambda b: b[:-1] + b"x"]
)
def test_a_damaged_record_is_set_aside(spool, damage):
    """Cut off, emptied or altered: its bytes are kept for whoever can make something of them."""
    filled(spool, 1)
    (name,) = spool.names()
    path = spool.folder / name
    path.write_bytes(damaged := damage(path.read_bytes()))
    outcome, stored = replayed(spool, name)
    assert "damaged" in outcome.refusal
    assert stored == spool.names() == []
    assert (spool.folder / "refused" / name).read_bytes() == damaged
    (refused,) = spool.listed()
    assert "damaged" in refused.reason


def test_a_record_in_use_is_left_to_whoever_has_it(spool):
    """Nobody else stores it meanwhile; released, it can be taken again."""
    filled(spool, 1)
    (name,) = spool.names()
    locked = spool.lock(name, CACHE)
    outcome, stored = replayed(Spool(spool.folder), name)
    assert (outcome.is_stored, outcome.refusal, stored) == (False, None, [])
    locked.release()
    assert replayed(Spool(spool.folder), name)[0].is_stored


@pytest.mark.parametrize("code", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_holds_up_no_record(spool, monkeypatch, code):
    """NFS and CIFS: to store a record twice is harmless, to store it never is not."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    filled(spool, 1)
    monkeypatch.setattr("fcntl.flock", refuse)
    assert replayed(spool, spool.names()[0])[0].is_stored
    assert spool.names() == []


@pytest.mark.parametrize("end", ["remove", "refuse"])
def test_a_record_that_went_meanwhile_is_not_taken(spool, end):
    """Not even by who had opened it before."""
    filled(spool, 1)
    (name,) = spool.names()
    with (spool.folder / name).open("rb"):
        locked = spool.lock(name, CACHE)
        locked.remove() if end == "remove" else locked.refuse("no")
        assert spool.lock(name, CACHE) is None


def test_many_that_take_records_take_each_once(spool):
    """However they meet."""
    count = 300
    filled(spool, count)
    names, taken, start = spool.names(), [], Barrier(8)

    def take():
        start.wait()
        for name in names:
            if locked := Spool(spool.folder).lock(name, CACHE):
                taken.append(name)
                locked.remove()

    threads = [Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == names


def test_a_record_goes_to_no_other_cache(spool):
    """It stays, however often another cache asks."""
    filled(spool, 1, cache="http://other.example")
    (name,) = spool.names()
    outcome, stored = replayed(spool, name)
    assert (outcome.is_stored, outcome.refusal, stored) == (False, None, [])
    assert spool.names() == [name]
    spool.lock(name, "http://other.example").remove()


# records that cannot be read


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_told(spool, kind):
    """It is listed with the reason, and the others are listed, too."""
    filled(spool, 2)
    name = add_unreadable(spool.folder, kind)
    with pytest.raises(OSError, match=r"\w"):
        replayed(spool, name)
    listed = {waiting.name: waiting for waiting in spool.listed()}
    assert len(listed) == 3
    assert "cannot be read" in listed.pop(name).reason
    assert all(waiting.record for waiting in listed.values())


class ReadOnlyRecord(LockedRecord):
    """A record in a folder that cannot be written."""

    def remove(self):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class ReadOnlySpool(Spool):
    """A spool whose folder cannot be written any more."""

    def lock(self, name, cache):
        locked = super().lock(name, cache)
        locked.__class__ = ReadOnlyRecord
        return locked


async def test_what_cannot_be_removed_is_stored_once_in_a_crawl(tmp_path):
    """One warning names it, however often the spool is replayed."""
    filled(Spool(tmp_path), 3)
    stored, logged = [], []

    async def store(record):
        stored.append(record)

    replayer = Replayer(
        ReadOnlySpool(tmp_path),
        CACHE,
        store=store,
        is_blocked=lambda: False,
        count=pytest.fail,
        log=lambda _level, message, *args: logged.append(message % args),
    )
    for again in (True, False, False):
        await replayer.replay(again=again)
    assert len(stored) == 3
    (message,) = logged
    assert "cannot be read or removed (3)" in message
    assert "Read-only" in message


def test_a_record_that_is_too_large_is_not_read(spool):
    """A file with a hole of 4 TB takes no place on the disk, but its bytes fill any memory."""
    filled(spool, 1)
    (name,) = spool.names()
    os.truncate(spool.folder / name, 2**42)
    assert spool.read(name) is None
    assert "damaged" in replayed(spool, name)[0].refusal


def test_a_reason_that_is_a_pipe_is_not_read(spool):
    """Reading it would wait forever; the record is listed without it."""
    filled(spool, 1)
    (name,) = spool.names()
    replayed(spool, name, TooLargeError("too large"))
    reason = spool.folder / "refused" / f"{name}.reason"
    reason.unlink()
    os.mkfifo(reason)
    assert [waiting.reason for waiting in spool.listed()] == ["unknown"]


def test_a_draft_that_cannot_be_removed_stops_nothing(spool):
    """A folder in its place."""
    filled(spool, 1)
    (spool.folder / "#old").mkdir()
    os.utime(spool.folder / "#old", (time.time() - 7200,) * 2)
    assert len(spool.names()) == 1


# the index


def found(spool, *numbers, cache=CACHE, bucket=""):
    """Scan, and return which of the records with these numbers the index finds."""
    spool.index.scan()
    urls = {record_of(number).url: number for number in numbers}
    return {urls[url] for url in spool.index.find(urls, bucket, cache)}


def test_the_index_finds_the_urls_of_a_cache(spool):
    """And those of records that any cache may take; not those of another cache or bucket."""
    spool.put(record_of(1, cache=CACHE))
    spool.put(record_of(2, cache="http://other.example"))
    spool.put(record_of(3, cache=CACHE, bucket="b"))
    spool.put(record_of(4))
    assert found(spool, 1, 2, 3, 4, 5) == {1, 4}
    assert found(spool, 1, 2, 3, 4, bucket="b") == {3}


def test_the_index_finds_what_was_there_before(spool, tmp_path):
    """Damaged records and those that cannot be read are passed over."""
    filled(spool, 3)
    (spool.folder / spool.names()[0]).write_bytes(b"no record")
    early = b'["http://h.example/","","me","0001-01-01T00:00:00"]\n'
    (spool.folder / content_hash_of(early)).write_bytes(early)
    for kind in UNREADABLE:
        add_unreadable(spool.folder, kind)
    spool.folder.rename(tmp_path / "moved")
    assert len(found(Spool(tmp_path / "moved"), 0, 1, 2)) == 2


def test_the_index_finds_what_another_process_wrote(spool):
    """Within a second or so; and forgets what another process removed."""
    assert found(spool, 1) == set()
    content = record_of(1).packed()
    spool.folder.mkdir(parents=True)
    path = spool.folder / content_hash_of(content)
    path.write_bytes(content)
    wait_until(lambda: found(spool, 1) == {1})
    path.unlink()
    wait_until(lambda: found(spool, 1) == set())


def test_the_newest_record_of_a_url_is_found(spool):
    """In whatever order they were written."""
    newest = FETCHED + timedelta(days=2)
    for days in (1, 2, 0):
        spool.put(record_of(1, data=b"GIF89a%d" % days, lookup_time=FETCHED + timedelta(days)))
    (name,) = spool.index.find([record_of(1).url], "", CACHE).values()
    assert spool.read(name).lookup_time == newest


def test_the_index_is_bounded(spool):
    """What is too much for it is not found, and costs no memory."""
    filled(spool, 5)
    index = SpoolIndex(spool.folder, max_records=3)
    index.scan()
    urls = [record_of(number).url for number in range(5)]
    assert len(index.find(urls, "", CACHE)) == 3
    assert spool.read(spool.names()[0]) is not None
    assert spool.read("0" * 64) is None


def test_the_index_reads_no_more_than_it_remembers(spool, monkeypatch):
    """However often the folder changes; and it reads others when there is room again."""
    filled(spool, 5)
    read = []
    monkeypatch.setattr(spool_index, "_SECONDS_BETWEEN_SCANS", 0)
    monkeypatch.setattr(
        spool_index, "read_header", lambda path: read.append(path) or read_header(path)
    )
    index = SpoolIndex(spool.folder, max_records=3)
    for _ in range(3):
        index.scan()
    assert len(set(read)) == len(read) == 3
    read[0].unlink()
    index.scan()
    assert len(set(read)) == len(read) == 4
    urls = [record_of(number).url for number in range(5)]
    assert len(index.find(urls, "", CACHE)) == 3

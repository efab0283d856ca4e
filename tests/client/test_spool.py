"""The spool: records outlive whoever wrote them, and each is stored or set aside, never lost."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Thread
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.client.record import MAX_RECORD_BYTES, DamagedRecordError, Record
from imgcache_scrapy.client.spool import Spool, replay
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import TooLargeError, UnavailableError
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES, MAX_URL_BYTES
from tests.support.proxy import Proxy

IMGCACHE = str(Path(sys.executable).with_name("imgcache"))
FETCHED = datetime(2026, 3, 4, 5, 6, 7, 89, UTC)


def record_of(number, **changes):
    """Make a record of an image of its own."""
    data = b"GIF89a" + str(number).encode()
    return Record(f"http://h.example/{number}.gif", "", "me", FETCHED, data)._replace(**changes)


@pytest.fixture
def spool(tmp_path):
    """A spool whose folder is not there yet."""
    return Spool(tmp_path / "data" / "spool")


def filled(spool, count, **changes):
    """Put records into a spool, and give them."""
    records = [record_of(number, **changes) for number in range(count)]
    for record in records:
        spool.put(record)
    return records


def kept(spool):
    """Read all that waits."""
    return [waiting.record for waiting in spool.listed() if waiting.reason is None]


def replayed(spool, name, error=None):
    """Replay one record, with a store that fails so; give the outcome and what was stored."""
    stored = []

    async def store(record):
        stored.append(record)
        if error is not None:
            raise error

    return asyncio.run(replay(spool, name, store)), stored


# records


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"url": "http://h.example/" + "\x7f\n ü" * 100, "bucket": "b\n", "client_name": "ü"},
        {"data": b"\n\n\0\n"},
        {"data": b""},
    ],
)
def test_a_record_is_read_as_it_was_written(changes):
    """Whatever its texts and its bytes hold."""
    record = record_of(1, **changes)
    assert Record.unpacked(record.packed()) == record


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}\n", b"[1]\n", b"\xff\n", b'["a","b","c",1]\n']
)
def test_what_is_no_record_is_told(content):
    """A file of somebody else's."""
    with pytest.raises(DamagedRecordError):
        Record.unpacked(content)


def test_the_largest_record_can_be_read():
    """No image that the cache would take is too large for the spool."""
    longest = record_of(1, url="ü" * (MAX_URL_BYTES // 2), data=b"")
    assert len(longest.packed()) + MAX_IMAGE_BYTES < MAX_RECORD_BYTES


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
        timeout=60,
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
    with pytest.raises(OSError, match="spool"):
        Spool(folder).put(record_of(1))


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
    claim = spool.claim(name)
    outcome, stored = replayed(Spool(spool.folder), name)
    assert (outcome.is_stored, outcome.refusal, stored) == (False, None, [])
    claim.release()
    assert replayed(Spool(spool.folder), name)[0].is_stored


@pytest.mark.parametrize("end", ["remove", "refuse"])
def test_a_record_that_went_meanwhile_is_not_taken(spool, end):
    """Not even by who had opened it before."""
    filled(spool, 1)
    (name,) = spool.names()
    with (spool.folder / name).open("rb"):
        claim = spool.claim(name)
        claim.remove() if end == "remove" else claim.refuse("no")
        assert spool.claim(name) is None


def test_many_that_take_records_take_each_once(spool):
    """However they meet."""
    count = 300
    filled(spool, count)
    names, taken, start = spool.names(), [], Barrier(8)

    def take():
        start.wait()
        for name in names:
            if claim := Spool(spool.folder).claim(name):
                taken.append(name)
                claim.remove()

    threads = [Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == names


# the command, and processes that share a spool


@pytest.fixture
def served(shared_service):
    """A proxy in front of a service, and a client of it with a bucket of its own."""
    proxy = Proxy(shared_service.url)
    with ImgCacheClient(proxy.url, bucket=uuid4().hex) as client:
        yield proxy, client
    proxy.close()


def command(*words):
    """Start `imgcache spool …`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("IMGCACHE_")}
    return subprocess.Popen(
        [IMGCACHE, "spool", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, "COLUMNS": "200"},
    )


def ended(process):
    """Wait for a command; give its exit code, output and errors."""
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


def test_the_command_stores_what_waits(spool, served, photos):
    """With the time when it was fetched, its client's name and its bucket."""
    proxy, client = served
    bucket = uuid4().hex
    data = photos["cat.png"]
    filled(spool, 1, data=data, bucket=bucket, client_name="spider")
    assert ended(command("replay", proxy.url, "--folder", spool.folder)) == (0, "1 stored\n", "")
    entry = client.lookup("http://h.example/0.gif", bucket=bucket)
    assert entry["content_hash"] == content_hash_of(data)
    assert datetime.fromisoformat(entry["lookup_time"]) == FETCHED
    assert (entry["client_name"], entry["content_type"]) == ("spider", "image/png")
    assert spool.names() == []


def test_the_command_says_what_waits_on(spool, served):
    """A cache that does not take them is asked for the first few, not for each one."""
    proxy, _ = served
    records = filled(spool, 10)
    proxy.fault = "error"
    code, out, errors = ended(command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out) == (1, "0 stored\n")
    assert errors.splitlines()[-1] == f"imgcache: 10 images wait on in {spool.folder}"
    assert len(proxy.asked) in {3, 4}
    assert sorted(kept(spool)) == records


def test_the_command_sets_aside_what_is_refused(spool, served):
    """Empty, as no image can be, and damaged: each with its reason; the others are stored."""
    proxy, _ = served
    spool.put(record_of(7, data=b""))
    empty = spool.names()
    filled(spool, 3)
    damaged = next(name for name in spool.names() if name not in empty)
    (spool.folder / damaged).write_bytes(b"x")
    code, out, errors = ended(command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out) == (0, "2 stored\n")
    assert errors.count("set aside") == 2
    assert {waiting.name for waiting in spool.listed()} == {damaged, *empty}


def test_list_shows_what_waits_and_what_was_refused(spool):
    """A row each: the URL, its size, when it was fetched, and why it was refused."""
    filled(spool, 2)
    replayed(spool, spool.names()[0], TooLargeError("more than the cache takes"))
    code, out, errors = ended(command("list", "--folder", spool.folder))
    assert (code, errors) == (0, "")
    for shown in ("http://h.example/0.gif", "http://h.example/1.gif", "2026-03-04 05:06:07"):
        assert shown in out
    assert out.count("waiting") == out.count("more than the cache takes") == 1


def test_list_of_no_spool_is_empty(tmp_path):
    """And makes none."""
    assert ended(command("list", "--folder", tmp_path / "none"))[0] == 0
    assert not (tmp_path / "none").exists()


def test_two_that_replay_store_each_record_once(spool, served):
    """They share the work."""
    proxy, _ = served
    filled(spool, 60)
    both = [command("replay", proxy.url, "--folder", spool.folder) for _ in range(2)]
    counts = [int(ended(process)[1].split()[0]) for process in both]
    assert sum(counts) == 60
    assert len(proxy.asked) == 60


def test_who_is_killed_while_replaying_loses_nothing(spool, served):
    """kill -9 in the midst of it, as often as you like: the next one stores the rest."""
    proxy, client = served
    records = filled(spool, 60, bucket=uuid4().hex)
    for stored in (10, 20, 30):
        process = command("replay", proxy.url, "--folder", spool.folder)
        while len(proxy.asked) < stored:
            proxy.wait()
        process.kill()
        process.communicate()
    code, _, errors = ended(command("replay", proxy.url, "--folder", spool.folder))
    assert (code, errors) == (0, "")
    found = client.lookup_many((r.url for r in records), bucket=records[0].bucket)
    assert {url: entry["content_hash"] for url, entry in found.items()} == {
        record.url: content_hash_of(record.data) for record in records
    }
    assert list(spool.listed()) == []

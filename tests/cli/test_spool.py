"""`imgcache spool …`, and several processes that use one spool."""

import os
import time
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.client.address import cache_name
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import TooLargeError
from tests.support.commands import Command
from tests.support.proxy import POISON, Proxy
from tests.support.records import (
    FETCHED,
    UNREADABLE,
    add_unreadable,
    filled,
    kept,
    record_of,
    replayed,
)


@pytest.fixture
def spool(tmp_path):
    """Return a spool whose folder does not exist yet."""
    return Spool(tmp_path / "data" / "spool")


@pytest.fixture
def served(shared_service):
    """Start a proxy in front of a service, and open a client of it with its own bucket."""
    proxy = Proxy(shared_service.url)
    with ImgCacheClient(proxy.url, bucket=uuid4().hex) as client:
        yield proxy, client
    proxy.close()


def start_command(*words):
    """Start `imgcache spool …`."""
    return Command(Path.cwd(), "spool", *words)


def result_of(command):
    """Wait for a command to end; return its exit code, output and errors."""
    done = command.result()
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def location_lines(spool, proxy=None):
    """Return the lines in which a command names the cache and the spool that it uses."""
    return f"Cache: {proxy.url}\nSpool: {spool.folder}\n" if proxy else f"Spool: {spool.folder}\n"


def test_replay_stores_the_images(spool, served, photos):
    """Replay stores an image with its bucket, its client's name and its time of download."""
    proxy, client = served
    bucket = uuid4().hex
    data = photos["cat.png"]
    filled(spool, 1, data=data, bucket=bucket, client_name="spider")
    code, out, errors = result_of(start_command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out, errors) == (0, "1 stored\n", location_lines(spool, proxy))
    entry = client.lookup("http://h.example/0.gif", bucket=bucket)
    assert entry["content_hash"] == content_hash_of(data)
    assert datetime.fromisoformat(entry["lookup_time"]) == FETCHED
    assert (entry["client_name"], entry["content_type"]) == ("spider", "image/png")
    assert spool.names() == []


def test_replay_reports_the_images_that_still_wait(spool, served):
    """If the cache fails, replay tries only a few images, and reports how many still wait."""
    proxy, _ = served
    records = filled(spool, 10)
    proxy.fault = "error"
    code, out, errors = result_of(start_command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out) == (1, "0 stored\n")
    assert errors.splitlines()[-1] == f"imgcache: 10 images still wait in {spool.folder}"
    # Three failures open the breaker; up to three more calls may be running by then, and one call
    # asks whether the service has cache keys.
    assert 3 <= len(proxy.asked) <= 7
    assert sorted(kept(spool)) == records


def test_replay_passes_over_what_the_cache_cannot_take(spool, served):
    """However many fail in a row, those behind them are stored, and the others are tried once."""
    proxy, _ = served
    proxy.fault, proxy.poison = POISON, b"poison"
    for number in range(20):
        spool.put(record_of(number, data=b"poison%d" % number if number < 10 else b"GIF89a"))
    for name in spool.names():
        is_poison = spool.read(name).data != b"GIF89a"
        os.utime(spool.folder / name, (time.time() - 1000 * is_poison,) * 2)
    code, out, errors = result_of(start_command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out) == (1, "10 stored\n")
    assert errors.splitlines()[-1] == f"imgcache: 10 images still wait in {spool.folder}"
    assert {record.data[:6] for record in kept(spool)} == {b"poison"}


def test_replay_sets_refused_records_aside(spool, served):
    """Empty and damaged records are set aside with a reason; the other records are stored."""
    proxy, _ = served
    spool.put(record_of(7, data=b""))
    empty = spool.names()
    filled(spool, 3)
    damaged = next(name for name in spool.names() if name not in empty)
    (spool.folder / damaged).write_bytes(b"x")
    code, out, errors = result_of(start_command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out) == (0, "2 stored\n")
    assert errors.count("set aside") == 2
    assert {waiting.name for waiting in spool.listed()} == {damaged, *empty}


def test_list_shows_what_waits_and_what_was_refused(spool):
    """List prints one row for each image: URL, size, time of download, and state."""
    filled(spool, 2)
    replayed(spool, spool.names()[0], TooLargeError("more than the cache takes"))
    code, out, errors = result_of(start_command("list", "--folder", spool.folder))
    assert (code, errors) == (0, location_lines(spool))
    for shown in ("http://h.example/0.gif", "http://h.example/1.gif", "2026-03-04 05:06:07"):
        assert shown in out
    assert out.count("waiting") == out.count("more than the cache takes") == 1


def test_list_shows_the_cache_and_what_cannot_be_read(spool):
    """A record that cannot be read has a row with the reason, and is named as a warning."""
    spool.put(record_of(1, cache="http://cache.example"))
    spool.put(record_of(2))
    names = [add_unreadable(spool.folder, kind) for kind in UNREADABLE]
    code, out, errors = result_of(start_command("list", "--folder", spool.folder))
    assert code == 0
    assert out.count("http://cache.example") == 1
    assert out.count("waiting") == 2
    assert out.count("cannot be read") == len(names)
    assert errors.splitlines()[-1] == f"Records that cannot be read: {', '.join(names)}"


def test_list_shows_odd_texts_in_one_line(spool):
    """Without credentials, and with escapes for what a terminal would obey."""
    spool.put(record_of(1, url="http://me:secret@h.example/a\n\x1b[31mb"))
    _, out, _ = result_of(start_command("list", "--folder", spool.folder))
    assert "http://h.example/a\\n\\x1b[31mb" in out


def test_the_command_leaves_what_waits_for_other_caches(spool, served):
    """It says how many these are, and that is no failure."""
    proxy, _ = served
    spool.put(record_of(1, cache="http://other.example"))
    spool.put(record_of(2, cache=cache_name(proxy.url)))
    code, out, errors = result_of(start_command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out) == (0, "1 stored\n")
    assert errors.splitlines()[-1] == "Waiting for other caches: 1"
    (left,) = kept(spool)
    assert left.cache == "http://other.example"


def test_list_does_not_truncate_lines_in_a_file(spool):
    """A long URL and a long reason are printed completely, without trailing blanks."""
    url, reason = "http://h.example/" + "x" * 3000, "no " * 1000 + "end"
    spool.put(record_of(1, url=url))
    replayed(spool, spool.names()[0], TooLargeError(reason))
    _, out, _ = result_of(start_command("list", "--folder", spool.folder))
    (line,) = [line for line in out.splitlines() if url in line]
    assert reason in line
    assert max(map(len, out.splitlines())) < len(url + reason) + 100


def test_list_of_a_missing_spool_is_empty(tmp_path):
    """List succeeds without a spool, creates none, and says that a named folder is missing."""
    code, _, errors = result_of(start_command("list", "--folder", tmp_path / "none"))
    assert (code, errors) == (0, f"Spool: {tmp_path / 'none'} (there is no such folder)\n")
    assert not (tmp_path / "none").exists()


def test_two_processes_replay_each_record_once(spool, served):
    """Two processes that replay one spool share the records."""
    proxy, _ = served
    filled(spool, 60)
    both = [start_command("replay", proxy.url, "--folder", spool.folder) for _ in range(2)]
    counts = [int(result_of(process)[1].split()[0]) for process in both]
    assert sum(counts) == 60
    assert len(proxy.asked) == 60


def test_a_killed_replay_loses_no_record(spool, served):
    """After three kills during a replay, the next replay stores the remaining records."""
    proxy, client = served
    records = filled(spool, 60, bucket=uuid4().hex)
    for stored in (10, 20, 30):
        process = start_command("replay", proxy.url, "--folder", spool.folder)
        while len(proxy.asked) < stored:
            proxy.wait()
        process.kill()
        process.result()
    code, _, errors = result_of(start_command("replay", proxy.url, "--folder", spool.folder))
    assert (code, errors) == (0, location_lines(spool, proxy))
    found = client.lookup_many((r.url for r in records), bucket=records[0].bucket)
    assert {url: entry["content_hash"] for url, entry in found.items()} == {
        record.url: content_hash_of(record.data) for record in records
    }
    assert list(spool.listed()) == []

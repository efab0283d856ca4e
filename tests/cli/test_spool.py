"""`imgcache spool …`, and processes that share a spool."""

import subprocess
from datetime import datetime
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import TooLargeError
from tests.support.commands import IMGCACHE, clean_environment
from tests.support.proxy import Proxy
from tests.support.records import FETCHED, filled, kept, record_of, replayed
from tests.support.waiting import PATIENCE


@pytest.fixture
def spool(tmp_path):
    """A spool whose folder is not there yet."""
    return Spool(tmp_path / "data" / "spool")


@pytest.fixture
def served(shared_service):
    """A proxy in front of a service, and a client of it with a bucket of its own."""
    proxy = Proxy(shared_service.url)
    with ImgCacheClient(proxy.url, bucket=uuid4().hex) as client:
        yield proxy, client
    proxy.close()


def command(*words):
    """Start `imgcache spool …`."""
    return subprocess.Popen(
        [IMGCACHE, "spool", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )


def ended(process):
    """Wait for a command; return its exit code, output and errors."""
    out, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, out, errors


def used(spool, proxy=None):
    """Return what a command says of the spool and the cache that it uses."""
    return f"Cache: {proxy.url}\nSpool: {spool.folder}\n" if proxy else f"Spool: {spool.folder}\n"


def test_the_command_stores_what_waits(spool, served, photos):
    """With the time when it was fetched, its client's name and its bucket."""
    proxy, client = served
    bucket = uuid4().hex
    data = photos["cat.png"]
    filled(spool, 1, data=data, bucket=bucket, client_name="spider")
    code, out, errors = ended(command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out, errors) == (0, "1 stored\n", used(spool, proxy))
    entry = client.lookup("http://h.example/0.gif", bucket=bucket)
    assert entry["content_hash"] == content_hash_of(data)
    assert datetime.fromisoformat(entry["lookup_time"]) == FETCHED
    assert (entry["client_name"], entry["content_type"]) == ("spider", "image/png")
    assert spool.names() == []


def test_the_command_says_what_still_waits(spool, served):
    """A cache that does not take them is asked for the first few, not for each one."""
    proxy, _ = served
    records = filled(spool, 10)
    proxy.fault = "error"
    code, out, errors = ended(command("replay", proxy.url, "--folder", spool.folder))
    assert (code, out) == (1, "0 stored\n")
    assert errors.splitlines()[-1] == f"imgcache: 10 images still wait in {spool.folder}"
    # Three failures open the breaker; up to three more calls may be under way by then.
    assert 3 <= len(proxy.asked) <= 6
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
    assert (code, errors) == (0, used(spool))
    for shown in ("http://h.example/0.gif", "http://h.example/1.gif", "2026-03-04 05:06:07"):
        assert shown in out
    assert out.count("waiting") == out.count("more than the cache takes") == 1


def test_list_cuts_nothing_in_a_file(spool):
    """A long URL and a long reason are in one line, which has no end of blanks."""
    url, reason = "http://h.example/" + "x" * 3000, "no " * 1000 + "end"
    spool.put(record_of(1, url=url))
    replayed(spool, spool.names()[0], TooLargeError(reason))
    _, out, _ = ended(command("list", "--folder", spool.folder))
    (line,) = [line for line in out.splitlines() if url in line]
    assert reason in line
    assert max(map(len, out.splitlines())) < len(url + reason) + 100


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
    assert (code, errors) == (0, used(spool, proxy))
    found = client.lookup_many((r.url for r in records), bucket=records[0].bucket)
    assert {url: entry["content_hash"] for url, entry in found.items()} == {
        record.url: content_hash_of(record.data) for record in records
    }
    assert list(spool.listed()) == []

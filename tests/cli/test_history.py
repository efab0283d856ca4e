"""`imgcache history`: which images a URL has given."""

import json
from datetime import UTC, datetime

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import assert_failed
from tests.support.pictures import picture

URL = "http://changing.example/a?b=2&a=1"


def fill(address):
    """Store three captures of the URL; return their entries, newest first."""
    with ImgCacheClient(address) as client:
        for number, data in enumerate([picture(1), picture(2), picture(1)]):
            client.store(URL, data, "me", datetime(2026, 1, number + 1, tzinfo=UTC))
        return client.history(URL)


def test_history_prints_all_captures(run, cache):
    """As a table, or as JSON with one object a line, newest first."""
    entries = fill(str(cache))
    assert len(entries) == 3
    done = run("history", URL, cache, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == entries
    assert (done.returncode, done.stderr) == (0, f"Cache: {cache}\n".encode())
    lines = run("history", URL, cache).stdout.decode().splitlines()
    rows = [line for line in lines if "changing.example" in line]
    assert [entry["content_hash"] in row for entry, row in zip(entries, rows, strict=True)] == [
        True
    ] * 3


def test_history_asks_a_service(run, shared_service):
    """The result is the same as that of the client."""
    entries = fill(shared_service.url)
    done = run("history", URL, shared_service.url, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == entries


def test_history_of_an_unknown_url_is_empty(run, cache):
    """Nothing is printed, and the exit code is 1."""
    done = run("history", "http://unknown.example/", cache, "--json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert (
        b"no capture of http://unknown.example/"
        in run("history", "http://unknown.example/", cache).stderr
    )
    assert_failed(run("history", URL, "wrong"), "no cache", "wrong")

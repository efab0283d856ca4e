"""`imgcache ls` and `imgcache stats --by`; every command that has options for the cache."""

import asyncio
import json

import pytest

from imgcache_scrapy import AsyncImgCacheClient, ImgCacheClient
from tests.support.commands import assert_failed
from tests.support.pictures import picture

LONG = "http://h.example/" + "a" * 300 + ".png"


def lines(done):
    """Return the lines of a command that succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


def test_ls_lists_captures_newest_first(run, cache, photos):
    """Each line has time, type, bytes, size, hash and URL; the cache is told on standard error."""
    done = run("ls", cache)
    newest, oldest = lines(done)
    assert done.stderr == f"Cache: {cache}\n".encode()
    with ImgCacheClient(str(cache)) as client:
        entry = client.lookup("http://h.example/in-bucket")
    assert newest.split() == [
        entry["lookup_time"][:19],
        "image/jpeg",
        f"{len(photos['sunset.jpg']):,}",
        f"{entry['width']}x{entry['height']}",
        entry["content_hash"],
        "http://h.example/in-bucket",
    ]
    assert oldest.endswith("http://h.example/a%20b.png")


def test_ls_prints_json(run, cache):
    """With --json, each line is an entry."""
    found = [json.loads(line) for line in lines(run("ls", cache, "--json"))]
    with ImgCacheClient(str(cache)) as client:
        assert found == client.list()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), 2),
        (("--bucket", "b"), 1),
        (("--type", "png"), 1),
        (("--host", "h.example", "--client", "me"), 2),
        (("--host", "example"), 0),
        (("--since", "2999-01-01"), 0),
        (("--until", "2999-01-01T00:00:00"), 2),
        (("--min-width", "1", "--min-height", "1"), 2),
        (("--min-bytes", "1", "--max-bytes", "10"), 0),
        (("--damaged",), 0),
        (("--sound", "--url-contains", "a%20b"), 1),
        (("--type", "ico"), 0),
        (("--limit", "1"), 1),
    ],
    ids=str,
)
def test_ls_takes_filters(run, cache, options, expected):
    """Each option leaves out what does not meet it."""
    assert len(lines(run("ls", cache, *options))) == expected


def test_ls_counts(run, cache, photos):
    """--count prints the number alone; with --json also images and bytes."""
    assert lines(run("ls", cache, "--count", "--type", "png")) == ["1"]
    (line,) = lines(run("ls", cache, "--count", "--json"))
    size = len(photos["cat.png"]) + len(photos["sunset.jpg"])
    assert json.loads(line) == {"captures": 2, "images": 2, "bytes": size}


async def test_ls_reads_pages_of_a_service(run, shared_service, site):
    """A long URL is not cut, and a list of more than a page is complete."""
    data = picture()
    with ImgCacheClient(shared_service.url, bucket=site) as client:
        client.store(LONG, data, "me")
    # Into the folder of the service, because 1001 requests take seconds.
    async with AsyncImgCacheClient(str(shared_service.folder), bucket=site) as client:
        urls = [f"http://h.example/{number}" for number in range(1001)]
        await asyncio.gather(*[client.store(url, data, "me") for url in urls])
    found = lines(run("ls", "--cache", shared_service.url, "--bucket", site))
    assert len(found) == 1002
    assert found[-1].endswith(LONG)
    assert len(lines(run("ls", shared_service.url, "--bucket", site, "--limit", "1001"))) == 1001


def test_a_wrong_filter_is_one_sentence(run, cache):
    """A wrong value is refused before anything is listed."""
    assert_failed(run("ls", cache, "--min-width", "-1"), "min_width", "whole number")
    assert_failed(run("ls", cache, "--client", ""), "client's name", "empty")
    assert_failed(run("ls", cache, "--since", "2026"), "not '2026'")
    assert_failed(run("ls", cache, "--type", "image/*"), "no content type 'image/*'", "image/png")
    assert_failed(run("ls", cache, "--type", "pgn"), "no content type 'pgn'")


def test_stats_by_group(run, cache, photos):
    """`stats --by` prints the numbers of each group, as a table or as JSON."""
    table = run("stats", cache, "--by", "type")
    assert [word in table.stdout.decode() for word in ("image/png", "image/jpeg")] == [True, True]
    found = [json.loads(line) for line in lines(run("stats", cache, "--by", "bucket", "--json"))]
    sizes = {"": len(photos["cat.png"]), "b": len(photos["sunset.jpg"])}
    expected = [
        {"bucket": name, "captures": 1, "images": 1, "bytes": size} for name, size in sizes.items()
    ]
    assert sorted(found, key=lambda each: each["bucket"]) == expected
    assert json.loads(run("stats", cache, "--json").stdout)["images"] == 2
    assert_failed(run("stats", cache, "--by", "colour"), "host, bucket, client, type, month")


@pytest.mark.parametrize("command", ["stats", "ls", "verify", "gc", "upgrade", "failures"])
def test_the_cache_is_an_argument_or_an_option(run, cache, command):
    """`--cache` wins over the environment; two different caches are an error."""
    by_option = run(command, "--cache", cache, env={"IMGCACHE_URL": "elsewhere"})
    assert by_option.returncode == 0
    assert by_option.stdout == run(command, cache).stdout
    assert_failed(run(command, "elsewhere", "--cache", cache), "name the cache once")


def test_the_token_is_an_option(run, stopped_service):
    """`--token` is sent to the service; without it, the service refuses."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    assert_failed(run("ls", stopped_service.url), "refuses the token", "--token", "IMGCACHE_TOKEN")
    assert lines(run("ls", stopped_service.url, "--token", "secret")) == []

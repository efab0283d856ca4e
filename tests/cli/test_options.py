"""The options that every command has, and what they print."""

import json
import os
import time

import typer

from imgcache_scrapy.cli.main import app
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.entry import blob_key, content_hash_of
from tests.support.commands import assert_failed
from tests.support.records import filled

# These work on the disk of a cache, or on none; the token of `copy` is that of one cache.
WITHOUT_TOKEN = {
    *("verify", "gc", "prune", "upgrade", "backup", "rebuild", "key", "list", "ui"),
    "copy",
}
# It has two of them.
WITHOUT_CACHE = {"copy"}
WITHOUT_JSON = {"get", "serve", "ui"}


def commands(group):
    """Yield each command with its options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command)
        else:
            yield name, {option for each in command.params for option in each.opts}


def test_every_command_has_the_common_options():
    """`--cache` everywhere, `--token` where a service may be used, `--json` for lists."""
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) >= 19
    for name, options in found.items():
        assert ("--cache" in options) == (name not in WITHOUT_CACHE), name
        assert ("--token" in options) == (name not in WITHOUT_TOKEN), name
        assert ("--json" in options) == (name not in WITHOUT_JSON), name


def test_results_as_json(run, tmp_path, cache):
    """`gc`, `spool list` and `unblock` print one object a line; nothing is cut in any output."""
    key = blob_key(content_hash_of(b"orphan"))
    orphan = cache / "blobs" / key
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"orphan")
    os.utime(orphan, (time.time() - 7200,) * 2)
    options = ("--cache", cache, "--json")
    for is_removed in (False, True):
        done = run("gc", *options, *(() if is_removed else ("--dry-run",)))
        (line,) = done.stdout.splitlines()
        expected = {"file": key, "bytes": 6, "removed": is_removed}
        assert json.loads(line) == expected
    assert run("gc", *options).stdout == b""
    filled(Spool(tmp_path / "waiting"), 2)
    where = ("--folder", tmp_path / "waiting")
    rows = [json.loads(line) for line in run("spool", "list", *where, "--json").stdout.splitlines()]
    assert {row["url"] for row in rows} == {f"http://h.example/{n}.gif" for n in (0, 1)}
    assert {row["reason"] for row in rows} == {None}
    content_hash = "5" * 64
    assert run("block", content_hash, "--cache", cache).returncode == 0
    done = run("unblock", content_hash, *options)
    assert json.loads(done.stdout) == {"content_hash": content_hash}
    done = run("history", "http://h.example/a b.png", cache, env={"FORCE_COLOR": "1"})
    assert b"http://h.example/a%20b.png" in done.stdout


def test_a_service_that_cannot_start_says_only_that(run, tmp_path, shared_service):
    """A taken port and a missing folder give one sentence, and nothing is created."""
    for words in (["--port", shared_service.port], [tmp_path / "no" / "such", "--port", "0"]):
        done = run("serve", *words)
        assert_failed(done, "imgcache: ")
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.glob("n*")) == []
    assert not (tmp_path / "imgcache").exists()

"""`imgcache backup` and `imgcache rebuild`."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.commands import assert_failed

URL = "http://h.example/a b.png"


@pytest.fixture
def own_cache(cache, tmp_path):
    """Return a copy of the cache."""
    return shutil.copytree(cache, tmp_path / "own")


def test_a_backup_is_a_cache(run, cache, tmp_path, photos):
    """The command says how many images it copied, and each command works on the copy."""
    done = run("backup", "copies/today", cache)
    assert (done.returncode, done.stdout) == (0, b"2 images are in copies/today\n")
    copy = tmp_path / "copies" / "today"
    assert run("get", URL, copy).stdout == photos["cat.png"]
    assert run("verify", copy).returncode == 0
    assert_failed(run("backup", copy, cache), "not empty")
    done = run("backup", "copies/json", cache, "--json")
    assert json.loads(done.stdout) == {"folder": "copies/json", "images": 2, "missing": []}


def test_a_lost_catalog_is_rebuilt(run, own_cache, photos):
    """Commands advise to rebuild it; then the URLs of the snapshot are there again."""
    for path in own_cache.glob("catalog*"):
        path.unlink()
    assert_failed(run("stats", own_cache), "`imgcache rebuild`")
    done = run("rebuild", own_cache)
    assert done.returncode == 0
    first, second = done.stdout.decode().splitlines()
    assert first == "the new catalog has 2 images and 2 captures"
    assert "snapshots" in second
    assert run("get", URL, own_cache).stdout == photos["cat.png"]
    assert run("verify", own_cache).returncode == 0


def test_a_broken_catalog_is_kept(run, own_cache):
    """The output names the file, and what could not be had."""
    shutil.rmtree(own_cache / "snapshots")
    (own_cache / "catalog.sqlite3").write_bytes(b"my thesis")
    lines = run("rebuild", own_cache).stdout.decode().splitlines()
    assert lines[0] == "the new catalog has 2 images and 0 captures"
    assert lines[1].startswith("2 images have no URL")
    (kept,) = own_cache.glob("catalog.sqlite3.old-*")
    assert lines[2] == f"the old catalog is {kept}"
    assert kept.read_bytes() == b"my thesis"
    done = json.loads(run("rebuild", own_cache, "--json").stdout)
    assert Path(done.pop("kept")).exists()
    assert done.pop("source") == str(own_cache / "catalog.sqlite3")
    assert done == {"images": 2, "captures": 0, "without_url": 2, "damaged": []}


def test_only_a_catalog_in_sqlite_is_rebuilt(run, own_cache):
    """Another database and the address of a service give one sentence each."""
    database = {"IMGCACHE_DATABASE_URL": "postgresql+psycopg://h/d"}
    assert_failed(run("rebuild", own_cache, env=database), "SQLite")
    assert_failed(run("rebuild", "http://127.0.0.1:9"), "is a service")
    assert_failed(run("rebuild", "wrong"), "no cache", "wrong")


def test_commands_that_read_create_nothing(run, tmp_path):
    """In an empty folder each of them says that there is no cache."""
    (tmp_path / "empty").mkdir()
    for words in (["stats"], ["get", URL], ["verify"], ["gc"], ["upgrade"], ["backup", "copy"]):
        assert_failed(run(*words, "empty"), "no cache", "empty")
    assert [each.name for each in tmp_path.rglob("*")] == ["empty"]
    missing = {"IMGCACHE_DATABASE_URL": f"sqlite:///{tmp_path}/missing.sqlite3"}
    assert_failed(run("stats", "empty", env=missing), "no cache")
    assert [each.name for each in tmp_path.rglob("*")] == ["empty"]

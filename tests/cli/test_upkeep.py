"""`imgcache verify` and `imgcache gc`."""

import json
import os
import pty
import shutil
import subprocess
import time

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import blob_key, content_hash_of
from tests.support.commands import IMGCACHE, assert_failed, clean_environment
from tests.support.programs import catalog_of

URL = "http://h.example/a b.png"


@pytest.fixture
def damaged_cache(cache, photos, tmp_path):
    """Return a copy of the cache with one altered image, an old orphan and a foreign file."""
    folder = shutil.copytree(cache, tmp_path / "damaged_cache")
    blob_path(folder, photos["cat.png"]).write_bytes(b"x" * 10_000_000)
    orphan = blob_path(folder, b"orphan")
    orphan.parent.mkdir(exist_ok=True)
    for path in (orphan, folder / "blobs" / "README"):
        path.write_bytes(b"orphan")
        os.utime(path, (0, 0))
    return folder


def blob_path(folder, data):
    return folder / "blobs" / blob_key(content_hash_of(data))


def test_verify_of_a_sound_cache_succeeds(run, cache):
    """The exit code is 0, the output one line, and there is no progress bar without a terminal."""
    done = run("verify", cache)
    assert (done.returncode, done.stdout) == (0, b"2 images\n")
    assert done.stderr == f"Cache: {cache}\n".encode()


def test_verify_reports_each_finding(run, damaged_cache, photos):
    """The exit code is 1, with a line for each finding and a total, also the second time."""
    for _ in range(2):
        done = run("verify", damaged_cache)
        assert (done.returncode, done.stderr) == (1, f"Cache: {damaged_cache}\n".encode())
        assert done.stdout.decode().splitlines() == [
            f"altered {content_hash_of(photos['cat.png'])}",
            f"orphaned {blob_key(content_hash_of(b'orphan'))}",
            "2 images, 1 altered, 1 orphaned",
        ]
    assert_failed(run("get", URL, damaged_cache), URL)


def test_verify_with_repair_removes_orphans(run, damaged_cache, photos):
    """`--repair` removes orphans, and only the damaged image must be fetched again."""
    orphan = blob_key(content_hash_of(b"orphan"))
    done = run("verify", damaged_cache, "--repair", "--json")
    assert (done.returncode, done.stderr) == (1, f"Cache: {damaged_cache}\n".encode())
    found = json.loads(done.stdout)
    assert (found["orphaned"], found["removed"]) == ([orphan], [orphan])
    assert not (damaged_cache / "blobs" / orphan).exists()
    with ImgCacheClient(str(damaged_cache)) as client:
        client.store(URL, photos["cat.png"], "me")
    assert run("verify", damaged_cache).returncode == 0


def test_verify_writes_json(run, damaged_cache, photos):
    """The JSON has every kind of finding, also those without a result."""
    done = run("verify", "--json", damaged_cache)
    assert json.loads(done.stdout) == {
        "images": 2,
        "missing": [],
        "truncated": [],
        "altered": [content_hash_of(photos["cat.png"])],
        "unreadable": [],
        "orphaned": [blob_key(content_hash_of(b"orphan"))],
        "healed": [],
        "decoded": [],
        "removed": [],
    }


def test_verify_shows_its_progress_on_a_terminal(cache):
    """The progress bar is on standard error, and standard output does not change."""
    master, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [IMGCACHE, "verify", cache],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=terminal,
            check=False,
        )
        assert done.stdout == b"2 images\n"
        assert b"100%" in os.read(master, 10_000)
    finally:
        os.close(master)
        os.close(terminal)


def test_gc_removes_old_orphans(run, damaged_cache):
    """Gc prints each removed file and the total; young orphans and foreign files stay."""
    orphan = blob_path(damaged_cache, b"orphan")
    now = time.time()
    os.utime(orphan, (now - 1800, now - 1800))
    assert run("gc", damaged_cache).stdout == b"0 files, 0 bytes removed\n"
    done = run("gc", damaged_cache, "--older-than", "20")
    assert (done.returncode, done.stderr) == (0, f"Cache: {damaged_cache}\n".encode())
    assert done.stdout.decode().splitlines() == [
        blob_key(content_hash_of(b"orphan")),
        "1 files, 6 bytes removed",
    ]
    assert not orphan.exists()
    assert (damaged_cache / "blobs" / "README").exists()


def test_a_dry_run_removes_nothing(run, damaged_cache):
    """It lists and counts the files that would be removed."""
    orphan = blob_path(damaged_cache, b"orphan")
    done = run("gc", damaged_cache, "--dry-run")
    assert done.stdout.decode().splitlines() == [
        blob_key(content_hash_of(b"orphan")),
        "1 files, 6 bytes would be removed",
    ]
    found = json.loads(run("verify", damaged_cache, "--repair", "--dry-run", "--json").stdout)
    assert found["orphaned"] == [blob_key(content_hash_of(b"orphan"))]
    assert found["removed"] == []
    assert orphan.exists()


def test_a_damaged_catalog_is_reported_and_nothing_is_removed(run, damaged_cache):
    """The advice is on one line, the JSON has the findings, and gc and repair refuse to work."""
    with catalog_of(damaged_cache) as database:
        database.execute("UPDATE capture SET url = 'http://h.example/other'")
    done = run("verify", damaged_cache)
    assert done.returncode == 1
    (line,) = done.stdout.decode().splitlines()
    assert "the catalog is damaged (the URL of capture 1 is damaged)" in line
    assert "`imgcache rebuild`" in line
    found = json.loads(run("verify", damaged_cache, "--json").stdout)
    assert found == {"catalog": ["the URL of capture 1 is damaged"]}
    assert run("verify", damaged_cache, "--repair").returncode == 1
    assert_failed(run("gc", damaged_cache), "nothing is removed", "rebuild")
    assert blob_path(damaged_cache, b"orphan").exists()


def test_a_catalog_that_cannot_be_opened_is_reported(run, damaged_cache):
    """The JSON has the finding, too."""
    (damaged_cache / "catalog.sqlite3").write_bytes(b"my thesis " * 1000)
    done = run("verify", damaged_cache, "--json")
    assert "the catalog is damaged" in json.loads(done.stdout)["catalog"][0]
    assert_failed(done, "the catalog is damaged", "`imgcache rebuild`")


@pytest.mark.parametrize("words", [["gc"], ["verify", "--repair"]], ids=["gc", "verify"])
def test_no_blob_is_removed_with_an_empty_catalog(run, damaged_cache, words):
    """With a lost or wrong catalog all blobs would be orphans, so nothing is removed."""
    for path in damaged_cache.glob("catalog*"):
        path.unlink()
    for path in damaged_cache.glob("blobs/*/*"):
        os.utime(path, (0, 0))
    before = sorted(damaged_cache.glob("blobs/*/*"))
    assert_failed(run(*words, damaged_cache), "catalog", "no image")
    assert sorted(damaged_cache.glob("blobs/*/*")) == before


@pytest.mark.parametrize("command", ["verify", "gc"])
def test_upkeep_needs_an_existing_folder(run, command):
    """A service's address and a folder without a cache give one sentence each."""
    assert_failed(run(command, "http://127.0.0.1:9"), "http://127.0.0.1:9", "folder")
    assert_failed(run(command, "wrong"), "no cache", "wrong")

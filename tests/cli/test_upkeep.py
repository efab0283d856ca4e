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

URL = "http://h.example/a b.png"


@pytest.fixture
def worn(cache, photos, tmp_path):
    """Give a copy of the cache, one image altered, with an old orphan and a foreign file."""
    folder = shutil.copytree(cache, tmp_path / "worn")
    blob_path(folder, photos["cat.png"]).write_bytes(b"x" * 10_000_000)
    orphan = blob_path(folder, b"orphan")
    orphan.parent.mkdir(exist_ok=True)
    for path in (orphan, folder / "blobs" / "README"):
        path.write_bytes(b"orphan")
        os.utime(path, (0, 0))
    return folder


def blob_path(folder, data):
    return folder / "blobs" / blob_key(content_hash_of(data))


def test_verify_is_content_with_a_sound_cache(run, cache):
    """Exit code 0, one line, and no progress where there is no terminal."""
    done = run("verify", cache)
    assert (done.returncode, done.stdout) == (0, b"2 images\n")
    assert done.stderr == f"Cache: {cache}\n".encode()


def test_verify_tells_what_it_found(run, worn, photos):
    """Exit code 1, with a line for each finding and a sum; it says so each time."""
    for _ in range(2):
        done = run("verify", worn)
        assert (done.returncode, done.stderr) == (1, f"Cache: {worn}\n".encode())
        assert done.stdout.decode().splitlines() == [
            f"altered {content_hash_of(photos['cat.png'])}",
            f"orphaned {blob_key(content_hash_of(b'orphan'))}",
            "2 images, 1 altered, 1 orphaned",
        ]
    assert_failed(run("get", URL, worn), URL)


def test_verify_removes_orphans_where_it_may(run, worn, photos):
    """With --repair they are gone, and only the image is left to be fetched again."""
    orphan = blob_key(content_hash_of(b"orphan"))
    done = run("verify", worn, "--repair", "--json")
    assert (done.returncode, done.stderr) == (1, f"Cache: {worn}\n".encode())
    found = json.loads(done.stdout)
    assert (found["orphaned"], found["removed"]) == ([orphan], [orphan])
    assert not (worn / "blobs" / orphan).exists()
    with ImgCacheClient(str(worn)) as client:
        client.store(URL, photos["cat.png"], "me")
    assert run("verify", worn).returncode == 0


def test_verify_writes_json(run, worn, photos):
    """A program gets every kind of finding, also those that there are none of."""
    done = run("verify", "--json", worn)
    assert json.loads(done.stdout) == {
        "images": 2,
        "missing": [],
        "truncated": [],
        "altered": [content_hash_of(photos["cat.png"])],
        "orphaned": [blob_key(content_hash_of(b"orphan"))],
        "healed": [],
        "removed": [],
    }


def test_verify_shows_its_progress_on_a_terminal(cache):
    """A bar on the screen, while standard output stays as it is."""
    ours, its = pty.openpty()
    try:
        done = subprocess.run(
            [IMGCACHE, "verify", cache],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=its,
            check=False,
        )
        assert done.stdout == b"2 images\n"
        assert b"100%" in os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(its)


def test_gc_removes_what_is_old_enough(run, worn):
    """It names each file and sums up the bytes; younger and foreign files stay."""
    orphan = blob_path(worn, b"orphan")
    now = time.time()
    os.utime(orphan, (now - 1800, now - 1800))
    assert run("gc", worn).stdout == b"0 files, 0 bytes removed\n"
    done = run("gc", worn, "--older-than", "20")
    assert (done.returncode, done.stderr) == (0, f"Cache: {worn}\n".encode())
    assert done.stdout.decode().splitlines() == [
        blob_key(content_hash_of(b"orphan")),
        "1 files, 6 bytes removed",
    ]
    assert not orphan.exists()
    assert (worn / "blobs" / "README").exists()


@pytest.mark.parametrize("words", [["gc"], ["verify", "--repair"]], ids=["gc", "verify"])
def test_no_blob_is_removed_for_a_catalog_that_knows_none(run, worn, words):
    """With the catalog of another cache, or a lost one, all blobs would be orphans."""
    for path in worn.glob("catalog*"):
        path.unlink()
    for path in worn.glob("blobs/*/*"):
        os.utime(path, (0, 0))
    before = sorted(worn.glob("blobs/*/*"))
    assert_failed(run(*words, worn), "catalog", "no image")
    assert sorted(worn.glob("blobs/*/*")) == before


@pytest.mark.parametrize("command", ["verify", "gc"])
def test_upkeep_is_done_where_the_cache_is(run, command):
    """A service's address and a folder without a cache are one sentence each; nothing is made."""
    assert_failed(run(command, "http://127.0.0.1:9"), "http://127.0.0.1:9", "folder")
    assert_failed(run(command, "wrong"), "no cache", "wrong")

"""`imgcache get` and `imgcache stats`."""

import os
import pty
import shutil
import subprocess

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from tests.support.commands import IMGCACHE, assert_failed, clean_environment

URL = "http://h.example/a b.png"


def test_get_writes_the_bytes_to_standard_output(run, cache, photos):
    """By URL in any spelling or by hash, get writes exactly the bytes."""
    for name in ("http://h.example/a%20b.png", content_hash_of(photos["cat.png"])):
        done = run("get", name, cache)
        assert (done.returncode, done.stderr) == (0, f"Cache: {cache}\n".encode())
        assert done.stdout == photos["cat.png"]


def test_get_finds_a_url_in_any_bucket(run, cache, photos):
    """A URL is looked up in all buckets, and its bytes are read from the right one."""
    done = run("get", "http://h.example/in-bucket", cache)
    assert done.stdout == photos["sunset.jpg"]


def test_get_writes_a_file(run, cache, photos, tmp_path):
    """With -o the bytes are written to the file, and nothing to standard output."""
    done = run("get", URL, "-o", "cat.png", cache)
    assert (done.returncode, done.stdout) == (0, b"")
    assert (tmp_path / "cat.png").read_bytes() == photos["cat.png"]


def test_get_replaces_a_file_as_a_whole(run, cache, photos, tmp_path):
    """Nobody sees a part of a file; the permissions are those of any new file."""
    old = tmp_path / "old.png"
    (tmp_path / "cat.png").write_bytes(b"old")
    old.hardlink_to(tmp_path / "cat.png")
    (tmp_path / "link").symlink_to("cat.png")
    assert run("get", URL, "-o", "link", cache).returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "cat.png").read_bytes() == photos["cat.png"]
    assert old.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3
    assert run("get", URL, "-o", "/dev/stdout", cache).stdout == photos["cat.png"]


def test_get_into_links_in_a_circle(run, cache, photos, tmp_path):
    """A file replaces such a link; what would be behind it cannot be written, says one sentence."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    done = run("get", URL, "-o", "loop/cat.png", cache)
    assert_failed(done, "loop/cat.png cannot be used: Too many levels of symbolic links")
    assert run("get", URL, "-o", "loop", cache).returncode == 0
    assert loop.read_bytes() == photos["cat.png"]


def test_get_reads_from_a_service(run, shared_service, photos):
    """An argument or the environment may name a service."""
    url, data = "http://cli.example/get", photos["dandelion.jpg"]
    with ImgCacheClient(shared_service.url) as client:
        client.store(url, data, "me")
    assert run("get", url, shared_service.url).stdout == data
    assert run("get", url, env={"IMGCACHE_URL": shared_service.url}).stdout == data


def test_get_of_an_unknown_image_fails(run, cache, tmp_path):
    """The error contains the unknown URL or hash, and no file is created."""
    assert_failed(run("get", "http://h.example/other", cache), "http://h.example/other")
    assert_failed(run("get", "0" * 64, "-o", "file", cache), "0" * 64)
    assert not (tmp_path / "file").exists()


def test_get_without_a_cache_fails_and_creates_none(run, tmp_path):
    """A wrong folder is reported, and not created."""
    assert_failed(run("get", URL), "no cache", "imgcache")
    assert_failed(run("get", URL, "wrong"), "no cache", "wrong")
    assert_failed(run("stats", "wrong"), "no cache", "wrong")
    assert_failed(run("stats", env={"IMGCACHE_DATABASE_URL": ""}), "no cache", "imgcache")
    assert list(tmp_path.iterdir()) == []


def test_get_refuses_a_terminal(cache):
    """Get does not write an image to a terminal, and the error names the option -o."""
    master, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [IMGCACHE, "get", URL, cache],
            env=clean_environment(),
            stdout=terminal,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert_failed(done, "-o")
        os.set_blocking(master, False)
        with pytest.raises(BlockingIOError):
            os.read(master, 1)
    finally:
        os.close(master)
        os.close(terminal)


def test_get_to_an_impossible_path_fails(run, cache, tmp_path):
    """The error contains the system's message about the output file."""
    for path in (tmp_path / "no" / "such" / "folder", tmp_path, "/dev/full"):
        assert_failed(run("get", URL, "-o", path, cache), f"imgcache: {path} cannot be used")


def test_get_of_damaged_bytes_fails(run, cache, photos, tmp_path):
    """Damaged bytes are not written, and no file is created."""
    shutil.copytree(cache, tmp_path / "imgcache")
    name = content_hash_of(photos["cat.png"])
    (tmp_path / "imgcache" / "blobs" / name[:2] / name[2:]).write_bytes(b"damaged")
    assert_failed(run("get", URL, "-o", "file"), "damaged")
    assert not (tmp_path / "file").exists()


def test_stats_count_a_folder(run, cache, photos):
    """Stats prints a table of the images, captures and bytes of a cache."""
    done = run("stats", cache)
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, f"Cache: {cache}\n".encode())
    size = len(photos["cat.png"]) + len(photos["sunset.jpg"])
    for what, count in {"images": 2, "captures": 2, "bytes": size, "damaged": 0}.items():
        (line,) = [line for line in text.splitlines() if what in line]
        assert f"{count:,}" in line


def test_stats_count_a_service(run, shared_service):
    """Stats prints the same table for a service."""
    done = run("stats", shared_service.url)
    assert done.returncode == 0
    assert b"captures" in done.stdout

"""`imgcache block`, `unblock`, `blocked` and `suggest-blocked`."""

import json
import os

import pytest

from imgcache_scrapy import BlockedError, ImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from tests.support.commands import assert_failed
from tests.support.pictures import jpeg


def lines(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_images_are_blocked_listed_and_unblocked(run, tmp_path):
    """Hashes and files are blocked; the list is newest first; unblocked images are gone from it."""
    hashes = [content_hash_of(jpeg(n)) for n in (1, 2)]
    (tmp_path / "a.jpg").write_bytes(jpeg(2))
    with ImgCacheClient(str(tmp_path / "imgcache")) as client:
        client.store("http://h.example/0", jpeg(0), "me")
        done = run("block", hashes[0], "a.jpg", "--reason", "no image", "--json")
        assert [each["content_hash"] for each in lines(done)] == hashes
        for n in (1, 2):
            with pytest.raises(BlockedError):
                client.store(f"http://h.example/{n}", jpeg(n), "me")
        listed = lines(run("blocked", "--json", "imgcache"))
        assert listed == client.blocked()
        assert [each["content_hash"] for each in listed] == hashes[::-1]
        assert {each["reason"] for each in listed} == {"no image"}
        assert hashes[1].encode() in run("blocked").stdout
        assert run("unblock", *hashes, "--cache", "imgcache").returncode == 0
        assert lines(run("blocked", "--json")) == []


def test_a_wrong_name_blocks_nothing(run, cache):
    """What is neither a hash nor a file is refused with one sentence."""
    done = run("block", content_hash_of(b"a"), "missing.jpg", "--cache", cache)
    assert_failed(done, "missing.jpg", "neither")
    assert lines(run("blocked", cache, "--json")) == []
    done = run("unblock", "0" * 64, "--cache", cache)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"not blocked" in done.stderr


@pytest.mark.parametrize("name", ["empty", "pipe", "folder", "/dev/null", ""])
def test_what_is_no_file_with_an_image_blocks_nothing(run, cache, tmp_path, name):
    """An empty file, a pipe, a folder: one sentence says so, and the command does not wait."""
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert_failed(run("block", name, "--cache", cache), "file")
    assert lines(run("blocked", cache, "--json")) == []


def test_images_of_a_service_are_blocked(run, shared_service):
    """The commands work through a service."""
    content_hash = content_hash_of(jpeg(4711))
    run("block", content_hash, "--cache", shared_service.url)
    (listed,) = (
        each for each in lines(run("blocked", shared_service.url, "--json"))
        if each["content_hash"] == content_hash
    )  # fmt: skip
    assert listed["reason"] == ""
    assert run("unblock", content_hash, "--cache", shared_service.url).returncode == 0


def test_placeholders_are_suggested(run, tmp_path):
    """An image under 10 paths is suggested, with its numbers and its newest URL."""
    with ImgCacheClient(str(tmp_path / "imgcache")) as client:
        for n in range(10):
            client.store(f"http://{n % 3}.example/{n}.jpg", jpeg(1), "me")
            client.store("http://h.example/same.jpg", jpeg(2), "me")
    (found,) = lines(run("suggest-blocked", "--json"))
    assert found["content_hash"] == content_hash_of(jpeg(1))
    assert (found["paths"], found["hosts"]) == (10, 3)
    assert b"http://0.example/9.jpg" in run("suggest-blocked").stdout

"""`imgcache copy` between folders, databases with blobs, and from a service."""

import json

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.cli.transfer.copying import COUNTS, Place, copy_images
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.urls import host_of
from tests.cli.transfer.test_import import counts
from tests.support.commands import assert_failed
from tests.support.full_caches import (
    VARYING,
    add_image_without_capture,
    damage,
    environment,
    fill,
    rows_of,
    shown,
)
from tests.support.pictures import picture
from tests.support.read_only import ReadOnlyFolder
from tests.support.service import new_storage_environment

NOTHING = dict.fromkeys(COUNTS, 0)


@pytest.fixture
def full(tmp_path):
    """Return the folder of a cache that has something in each list."""
    folder = tmp_path / "full"
    fill(folder)
    add_image_without_capture(folder)
    return folder


def copied(run, *words, env=None):
    """Run a copy that succeeds, and return its counts."""
    done = run("copy", *words, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return counts(done)[0]


def test_there_and_back_again(run, full, tmp_path, postgresql, object_store):
    """From a folder to PostgreSQL and an object store and back, nothing is lost or changed."""
    storage = new_storage_environment(postgresql, object_store)
    urls = {name: storage[f"IMGCACHE_{name.upper()}_URL"] for name in ("database", "blobs")}
    dst = [word for name, url in urls.items() for word in (f"--dst-{name}", url)]
    src = [word.replace("--dst", "--src") for word in dst]
    dry = copied(run, full, *dst, "--dry-run", env=object_store.environment)
    first = copied(run, full, *dst, env=object_store.environment)
    assert dry == first
    assert first["captures"] == first["copied"] == len(rows_of(full)["capture"])
    assert first["images"] == len(rows_of(full)["image"])
    known = NOTHING | {"captures": first["captures"], "known": first["captures"]}
    assert copied(run, full, *dst, env=object_store.environment) == known
    with environment(storage):
        served = shown(tmp_path / "nothing")
    assert served == shown(full)
    assert copied(run, *src, tmp_path / "back", env=object_store.environment) == first
    assert shown(tmp_path / "back") == shown(full)
    assert rows_of(tmp_path / "back") == rows_of(full)
    assert run("verify", tmp_path / "back").returncode == 0


def test_a_copy_follows_its_source(run, full, tmp_path):
    """What was stored, renewed and blocked since the first copy comes with the next one."""
    copied(run, full, "copy")
    with ImgCacheClient(str(full)) as client:
        client.store("http://h1.example/1.png", picture(1), "later", headers={"ETag": "2"})
        client.store("http://new.example/a.png", picture(1), "me")
        client.store("http://k.example/b", b"GIF89a", "me", key="http://k.example/")
        # The same key and image, but another URL: its capture is replaced.
        client.store("http://k.example/c", b"GIF89a", "me", key="http://k.example/")
        client.block("f" * 64, reason="now it has one")
        client.block("e" * 64)
        client.delete_captures(url="http://never.example/", block=True)
        use = client.list_uses(limit=1)[0]
        client.record_uses([{**use, "used_at": None, "job": "later"}, {**use, "position": 2}])
    found = copied(run, full, "copy")
    assert (found["renewed"], found["copied"], found["images"]) == (1, 2, 1)
    with ImgCacheClient(str(full)) as client:
        client.store("http://k.example/d", b"GIF89a", "me", key="http://k.example/")
    assert copied(run, full, "copy")["renewed"] == 1
    assert shown(tmp_path / "copy") == shown(full)


def test_blocks_of_the_copy_hold(run, full, tmp_path):
    """What the copy blocks by itself, by bytes, host or URL, does not come; the rest does."""
    with ImgCacheClient(str(tmp_path / "copy")) as client:
        client.block(content_hash_of(picture(1)))
        client.delete_captures(host="h2.example", block=True)
        client.delete_captures(url="http://m.example/f.jpg", block=True)
    assert copied(run, full, "copy", "--dry-run")["blocked"] == 4
    found = copied(run, full, "copy")
    assert found["blocked"] == 4
    assert found["copied"] == found["captures"] - 4
    with ImgCacheClient(str(tmp_path / "copy")) as client:
        assert client.count(host="h2.example")["captures"] == 0
        assert client.lookup("http://m.example/a.jpg") is None
        assert client.get_meta(content_hash_of(picture(1))) is None
        hosts = {host_of(each["url"]) for each in client.list_uses()}
        assert {"h0.example", "h1.example"} <= hosts
        assert "h2.example" not in hosts
        # The source has this image, though it blocks it.
        assert client.get_meta(content_hash_of(picture(0)))["blocked"]
        client.unblock(host="h2.example")
    assert copied(run, full, "copy")["copied"] == 2


def test_the_copy_keeps_what_is_its_own(run, full, tmp_path):
    """Captures of the copy stay, and the newer one counts; an image comes only once."""
    with ImgCacheClient(str(tmp_path / "copy")) as client:
        client.store("http://h1.example/1.png", picture(50), "own", "2099-01-01")
        client.store("http://own.example/a.png", picture(2), "own")
    assert copied(run, full, "copy")["copied"] == len(rows_of(full)["capture"])
    with ImgCacheClient(str(tmp_path / "copy")) as client:
        assert client.lookup("http://h1.example/1.png")["client_name"] == "own"
        assert len(client.history("http://h1.example/1.png")) == 2
        assert client.lookup("http://own.example/a.png") is not None


def test_damaged_images_are_told(run, full, tmp_path):
    """The others are copied; the copy has them as damaged, until the source has them again."""
    name = damage(full, picture(3))
    done = run("copy", full, "copy", "--json")
    found, problems = counts(done)
    assert (done.returncode, found["bad"]) == (1, 1)
    assert problems == {name: "its bytes are missing or damaged"}
    assert f"{name}: its bytes" in run("copy", full, "copy").stderr.decode()
    assert shown(tmp_path / "copy") == shown(full)
    with ImgCacheClient(str(full)) as client:
        client.store("http://h3.example/3.png", picture(3), "me")
    assert copied(run, full, "copy")["images"] == 1
    assert shown(tmp_path / "copy") == shown(full)
    (tmp_path / "copy" / "blobs" / name[:2] / name[2:]).unlink()
    assert copied(run, full, "copy")["images"] == 1


def test_a_service_can_be_copied(run, full, tmp_path, stopped_service):
    """All that it shows comes, in its order; each format is a hit for its `Accept` only."""
    service = stopped_service
    service.options = (str(full),)
    service.environment["IMGCACHE_TOKEN"] = "t"
    service.start()
    assert_failed(run("copy", service.url, "copy"), "token")
    first = copied(run, service.url, "copy", "--src-token", "t")
    assert first["copied"] == len(rows_of(full)["capture"])
    theirs, ours = shown(service.url, "t"), shown(tmp_path / "copy")
    # The image without captures is in no list.
    theirs["stats"][0]["images"] -= 1
    theirs["stats"][0]["bytes"] -= len(picture(140))
    assert ours == theirs
    with ImgCacheClient(str(tmp_path / "copy")) as client:
        for seed, accept in ((110, "image/avif"), (111, "image/png"), (None, "image/webp")):
            found = client.lookup(VARYING, accept=accept)
            expected = None if seed is None else content_hash_of(picture(seed))
            assert (found and found["content_hash"]) == expected
    again = copied(run, service.url, "copy", "--src-token", "t")
    assert again["known"] == again["captures"] == first["captures"]


def test_wrong_places_are_one_sentence(run, full, tmp_path, shared_service):
    """A service cannot be the copy; a cache is not copied onto itself; nothing is created."""
    assert_failed(run("copy", full, shared_service.url), "cannot be the copy", "--dst-database")
    assert_failed(run("copy", full, full), "the cache itself")
    assert_failed(run("copy", full, f"{full}/../full"), "the cache itself")
    assert_failed(run("copy", "nothing", "copy"), "there is no cache", "nothing")
    for words in ([full], [full, "--dst-database", "sqlite:///x"]):
        done = run("copy", *words)
        assert_failed(done, "name DST", "its database and its blobs")
        assert b"Copy:" not in done.stderr
    assert_failed(run("copy"), "name SRC")
    assert_failed(
        run("copy", shared_service.url, "copy", "--src-blobs", "file:///x"), "is a service"
    )
    (tmp_path / "file").write_bytes(b"")
    assert_failed(run("copy", full, tmp_path / "file" / "copy"), "cannot be created")
    assert run("copy", full, "copy", "--dry-run").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_a_copy_from_python(full, tmp_path):
    """The function takes addresses, or places with one half elsewhere."""
    place = Place(str(tmp_path / "copy"), blobs=(tmp_path / "elsewhere").as_uri())
    assert copy_images(str(full), place, dry_run=True) == copy_images(str(full), place)
    assert not (tmp_path / "copy" / "blobs").exists()
    assert copy_images(place, f"file://{tmp_path}/back")["copied"] > 0
    assert shown(tmp_path / "back") == shown(full)


def test_the_summary(run, full):
    """It counts in words, and a dry run says that it has only counted."""
    dry = run("copy", full, "copy", "--dry-run").stdout.decode()
    done = run("copy", full, "copy").stdout.decode()
    assert dry.replace("would be ", "") == done
    assert " captures, " in done
    assert json.loads(run("copy", full, "copy", "--json").stdout)["copied"] == 0


COPY_BOTH_WAYS = """
import sys
from imgcache_scrapy.cli.transfer.copying import copy_images
from imgcache_scrapy.core.errors import ReadOnlyError
print(copy_images(sys.argv[1], "copy")["copied"])
try:
    copy_images("copy", sys.argv[1])
except ReadOnlyError as error:
    print(error)
"""


def test_a_folder_that_can_only_be_read(full, tmp_path):
    """It can be copied, but it cannot be the copy."""
    folder = ReadOnlyFolder(full, "mount")
    home = tmp_path / "home"
    home.mkdir()
    number, sentence = folder.run(home, COPY_BOTH_WAYS).splitlines()
    assert int(number) == len(rows_of(full)["capture"])
    assert "can only be read" in sentence

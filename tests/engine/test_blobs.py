"""The blobs, in a folder and in an object store: what is put is there, whole and for good."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.blobs.opening import open_blobs

DATA = b"the bytes of an image"
HASH = content_hash_of(DATA)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture(params=["folder", "object store"])
def blobs(request, folder):
    return open_blobs(folder.as_uri() if request.param == "folder" else "memory:///")


def blob_path(folder):
    return folder / HASH[:2] / HASH[2:]


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}


def test_bytes_come_back_as_they_were_put(blobs):
    """Any bytes, none included, are what `get` gives and as long as `size` tells."""

    @given(data=st.binary())
    def check(data):
        name = content_hash_of(data)
        blobs.put(name, data)
        assert blobs.get(name) == data
        assert blobs.sizes([name]) == {name: len(data)}

    check()


def test_a_missing_blob_is_an_answer(blobs):
    """What is not there has no bytes and no size, and is gone already."""
    assert blobs.get(HASH) is None
    assert blobs.sizes([HASH]) == {HASH: None}
    blobs.delete(HASH)


def test_a_deleted_blob_is_missing_and_its_neighbour_is_not(blobs):
    """Deleting takes this blob and no other, not even of the same folder."""
    neighbour = HASH[:2] + "0" * 62
    for name in (HASH, neighbour):
        blobs.put(name, DATA)
    blobs.delete(HASH)
    assert blobs.get(HASH) is None
    assert blobs.get(neighbour) == DATA


def test_a_blob_is_overwritten(blobs):
    """A put replaces what was there, longer or shorter, since it may have been damaged."""
    for damaged in (b"", DATA * 2):
        blobs.put(HASH, damaged)
        blobs.put(HASH, DATA)
        assert blobs.get(HASH) == DATA


def test_a_blob_lies_under_its_hash_and_nothing_beside_it(folder):
    """The folder holds `ab/cdef…` with the bytes as they are, and no draft of it."""
    open_blobs(folder.as_uri()).put(HASH, DATA)
    assert files(folder) == {Path(HASH[:2], HASH[2:])}
    assert blob_path(folder).read_bytes() == DATA


def test_a_folder_is_opened_again(folder):
    """Blobs are there for whoever opens the same folder later."""
    open_blobs(folder.as_uri()).put(HASH, DATA)
    assert open_blobs(folder.as_uri()).get(HASH) == DATA


def test_a_draft_that_a_crash_left_is_no_blob(folder):
    """What was not renamed in time neither counts as the blob nor stands in its way."""
    blobs = open_blobs(folder.as_uri())
    draft = blob_path(folder).with_name(f"{HASH[2:]}#crashed")
    draft.parent.mkdir()
    draft.write_bytes(DATA[:5])
    assert blobs.get(HASH) is None
    blobs.put(HASH, DATA)
    assert blobs.get(HASH) == DATA


@pytest.mark.parametrize("name", ["a b", "50%25", "what?", "#1", "Bilder für später", "a+b&c;d"])
def test_a_folder_may_have_any_name(tmp_path, name):
    """The folder of a file URL is taken as it is spelled, whatever a URL means by a character."""
    folder = tmp_path / name
    blobs = open_blobs(folder.as_uri())
    blobs.put(HASH, DATA)
    assert blob_path(folder).read_bytes() == DATA
    assert blobs.get(HASH) == DATA


def test_a_put_that_cannot_begin_fails_as_unavailable(folder):
    """Where a file stands in the place of the sub-folder, the storage is said to have failed."""
    blobs = open_blobs(folder.as_uri())
    blob_path(folder).parent.write_bytes(b"in the way")
    with pytest.raises(UnavailableError, match="storage failed") as failure:
        blobs.put(HASH, DATA)
    assert isinstance(failure.value.__cause__, OSError)
    assert files(folder) == {Path(HASH[:2])}


def test_a_put_that_cannot_end_leaves_no_draft(folder):
    """Where the written draft cannot take its place, it is removed again."""
    blobs = open_blobs(folder.as_uri())
    blob_path(folder).mkdir(parents=True)
    with pytest.raises(UnavailableError):
        blobs.put(HASH, DATA)
    assert files(folder) == set()


def test_a_delete_that_cannot_be_fails_as_unavailable(folder):
    """What stands in the place of the blob and cannot be removed is a failure, not an answer."""
    blobs = open_blobs(folder.as_uri())
    blob_path(folder).mkdir(parents=True)
    with pytest.raises(UnavailableError):
        blobs.delete(HASH)


STORE_AND_DELETE = """
import os, sys
from pathlib import Path
from imgcache_scrapy.engine.cache import ImageCache

cache = ImageCache.in_folder(Path(sys.argv[1]))
cache.store("http://a.test/1", b"opens everything", "test")
os.write(1, b"begin")
image = cache.store("http://a.test/2", b"image", "test")
os.write(1, b"stored")
cache.delete(image["content_hash"])
os.write(1, b"deleted")
cache.close()
"""

STEPS = {
    r"mkdir\(.*/blobs/\w\w\"": "make folder",
    r"fsync\(.*/blobs>": "sync the blobs' folder",
    r"write\(.*/blobs/\w\w/\w+#": "write draft",
    r"fsync\(.*/blobs/\w\w/\w+#\w+>": "sync draft",
    r"rename\w*\(.*/blobs/\w\w/\w+#": "rename",
    r"fsync\(.*/blobs/\w\w>": "sync its folder",
    r"f(data)?sync\(.*/catalog.sqlite3-wal>": "sync catalog",
    r"unlink\w*\(.*/blobs/\w\w/\w+\"": "unlink",
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """What a program asks of the system while it stores an image and deletes it again."""
    folder = tmp_path_factory.mktemp("traced")
    calls = "trace=mkdir,write,fsync,fdatasync,/^rename,/^unlink"
    program = [sys.executable, "-c", STORE_AND_DELETE, folder / "cache"]
    subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", folder / "trace", *program],
        check=True,
        capture_output=True,
    )
    return (folder / "trace").read_text()


def steps(trace, start, end):
    """The steps between two words that the program wrote."""
    lines = trace.split(f'"{start}"')[1].split(f'"{end}"')[0].splitlines()
    return [
        step
        for line in lines
        for pattern, step in STEPS.items()
        if re.match(rf"\d+ +{pattern}", line)
    ]


with_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


@with_strace
def test_a_store_is_durable_step_by_step_before_it_returns(trace):
    """Blob, its name and its folders are synced before the catalog is, and that before the end."""
    assert steps(trace, "begin", "stored") == [
        "make folder",
        "sync the blobs' folder",
        "write draft",
        "sync draft",
        "rename",
        "sync its folder",
        "sync catalog",
    ]


@with_strace
def test_a_row_is_gone_for_good_before_its_blob(trace):
    """A delete syncs the catalog and only then removes the bytes."""
    assert steps(trace, "stored", "deleted") == ["sync catalog", "unlink"]

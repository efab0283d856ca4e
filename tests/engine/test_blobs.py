"""Blob stores, in a folder and in an object store: a blob is stored completely and durably."""

import json
import os
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

PUT = """
import sys
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.blobs.opening import open_blobs

try:
    open_blobs(sys.argv[1]).put(sys.argv[2], b"the bytes of an image")
except UnavailableError as error:
    print(type(error).__name__, error)
"""
with_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
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


def test_get_returns_the_bytes_that_were_put(blobs):
    """`get` returns any bytes unchanged, also empty ones, and `sizes` returns their length."""

    @given(data=st.binary())
    def check(data):
        name = content_hash_of(data)
        blobs.put(name, data)
        assert blobs.get(name) == data
        assert blobs.sizes([name]) == {name: len(data)}

    check()


def test_a_missing_blob_is_not_an_error(blobs):
    """A missing blob has no bytes and no size, and deleting it does nothing."""
    assert blobs.get(HASH) is None
    assert blobs.sizes([HASH]) == {HASH: None}
    blobs.delete(HASH)


def test_a_delete_removes_one_blob_only(blobs):
    """Deleting a blob removes no other blob, not even one in the same folder."""
    neighbour = HASH[:2] + "0" * 62
    for name in (HASH, neighbour):
        blobs.put(name, DATA)
    blobs.delete(HASH)
    assert blobs.get(HASH) is None
    assert blobs.get(neighbour) == DATA


def test_a_put_replaces_an_existing_blob(blobs):
    """A put replaces an existing blob, longer or shorter, because it may be damaged."""
    for damaged in (b"", DATA * 2):
        blobs.put(HASH, damaged)
        blobs.put(HASH, DATA)
        assert blobs.get(HASH) == DATA


def test_a_blob_is_stored_under_its_hash(folder):
    """The folder has only the file `ab/cdef…` with the unchanged bytes, and no draft."""
    open_blobs(folder.as_uri()).put(HASH, DATA)
    assert files(folder) == {Path(HASH[:2], HASH[2:])}
    assert blob_path(folder).read_bytes() == DATA


def test_blobs_are_found_when_the_folder_is_opened_again(folder):
    """A blob is found when the folder is opened again."""
    open_blobs(folder.as_uri()).put(HASH, DATA)
    assert open_blobs(folder.as_uri()).get(HASH) == DATA


def test_a_draft_left_by_a_crash_is_not_a_blob(folder):
    """A draft that was never renamed is not read as the blob, and does not prevent a put."""
    blobs = open_blobs(folder.as_uri())
    draft = blob_path(folder).with_name(f"{HASH[2:]}#crashed")
    draft.parent.mkdir(parents=True)
    draft.write_bytes(DATA[:5])
    assert blobs.get(HASH) is None
    blobs.put(HASH, DATA)
    assert blobs.get(HASH) == DATA


@pytest.mark.parametrize("name", ["a b", "50%25", "what?", "#1", "Bilder für später", "a+b&c;d"])
def test_a_folder_may_have_any_name(tmp_path, name):
    """Characters with a meaning in URLs may be part of the folder's name."""
    folder = tmp_path / name
    blobs = open_blobs(folder.as_uri())
    blobs.put(HASH, DATA)
    assert blob_path(folder).read_bytes() == DATA
    assert blobs.get(HASH) == DATA


def test_a_put_into_an_impossible_folder_is_unavailable(folder):
    """A put raises UnavailableError if a file exists where the sub-folder must be created."""
    blobs = open_blobs(folder.as_uri())
    folder.mkdir()
    blob_path(folder).parent.write_bytes(b"in the way")
    with pytest.raises(UnavailableError, match="storage failed") as failure:
        blobs.put(HASH, DATA)
    assert isinstance(failure.value.__cause__, OSError)
    assert files(folder) == {Path(HASH[:2])}


@with_strace
def test_a_put_that_cannot_be_renamed_leaves_no_draft(folder):
    """A put that fails at the rename removes its draft, and says that only this blob fails."""
    faults = ["-e", "trace=/^rename", "-e", "inject=/^rename:error=EIO"]
    program = [sys.executable, "-c", PUT, folder.as_uri(), HASH]
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", *faults, *program],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("StoreFailedError the image storage failed for this image: ")
    assert files(folder) == set()


SET_OWNER = """
import resource, sys
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.blobs.opening import open_blobs

resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
try:
    open_blobs(sys.argv[1]).set_owner("the id of a cache")
except UnavailableError as error:
    print(error)
"""


def test_an_owner_that_cannot_be_written_leaves_no_draft(folder):
    """Each store tries it again while the disk is full; the sentence has no number of an error."""
    program = [sys.executable, "-c", SET_OWNER, folder.as_uri()]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    assert done.stdout == "the image storage failed: File too large\n"
    assert files(folder) == set()


PUT_MANY = """
import json, sys
from imgcache_scrapy.engine.blobs.opening import open_blobs

blobs = {name: name.encode() for name in sys.argv[2:]}
failed = open_blobs(sys.argv[1]).put_many(blobs)
print(json.dumps({name: str(error) for name, error in failed.items()}))
"""


@with_strace
def test_a_blob_that_cannot_be_synced_fails_alone(folder):
    """The others of the batch are stored, also those that other threads sync."""
    names = [f"{HASH[:62]}{number:02}" for number in range(9)]
    # Each thread counts its own calls. The first two of this thread are those of new folders.
    faults = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=3..4"]
    program = [sys.executable, "-c", PUT_MANY, folder.as_uri(), *names]
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", *faults, *program],
        check=True,
        capture_output=True,
        text=True,
    )
    failed = json.loads(done.stdout)
    assert len(failed) >= 2
    assert all("Input/output error" in reason for reason in failed.values())
    assert files(folder) == {Path(name[:2], name[2:]) for name in names if name not in failed}


def in_the_way(path, kind):
    """Put something that is no file in the place of a blob."""
    if kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
        if kind == "filled folder":
            (path / "file").write_bytes(b"somebody may miss this")


@pytest.mark.parametrize("kind", ["folder", "filled folder", "loop", "pipe"])
def test_a_put_replaces_what_is_no_file(folder, kind):
    """A folder, a loop or a pipe in the place of a blob has no size, and a put replaces it."""
    blobs = open_blobs(folder.as_uri())
    blob_path(folder).parent.mkdir(parents=True)
    in_the_way(blob_path(folder), kind)
    assert blobs.sizes([HASH]) == {HASH: None}
    blobs.put(HASH, DATA)
    assert blobs.get(HASH) == DATA
    kept = [path.read_bytes() for path in folder.rglob("file")]
    assert kept == ([b"somebody may miss this"] if kind == "filled folder" else [])


def test_an_impossible_delete_is_unavailable(folder):
    """A delete raises UnavailableError if the blob's path cannot be removed."""
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
    """Return the system calls of a program that stores an image and deletes it."""
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
    """Return the steps between two words that the program wrote."""
    lines = trace.split(f'"{start}"')[1].split(f'"{end}"')[0].splitlines()
    return [
        step
        for line in lines
        for pattern, step in STEPS.items()
        if re.match(rf"\d+ +{pattern}", line)
    ]


@with_strace
def test_a_store_syncs_the_blob_before_the_catalog(trace):
    """A store syncs the blob, its name and its folders before it syncs the catalog."""
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
def test_a_delete_syncs_the_catalog_before_it_removes_the_blob(trace):
    """A delete syncs the catalog first, and removes the bytes afterwards."""
    assert steps(trace, "stored", "deleted") == ["sync catalog", "unlink"]

"""Crashes, full disks and missing file descriptors: no acknowledged image is lost."""

import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.cache import ImageCache
from tests.support.programs import PREAMBLE, assert_recovers, forked_program, images, program
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]

STORE_AND_DELETE_UNTIL_KILLED = """
import random
from threading import Thread
cache = ImageCache.in_folder(Path(sys.argv[1]))

def work():
    kept = []
    while True:
        data = random.randbytes(random.randrange(1, 50_000))
        kept.append(cache.store(f"http://a.test/{data[:8].hex()}", data, "test")["content_hash"])
        os.write(1, f"stored {kept[-1]}\\n".encode())
        if random.random() < 0.4:
            name = kept.pop(random.randrange(len(kept)))
            os.write(1, f"deleting {name}\\n".encode())
            cache.delete(name)
            os.write(1, f"deleted {name}\\n".encode())

for _ in range(4):
    Thread(target=work).start()
"""


@pytest.mark.parametrize("kills", [12, pytest.param(1000, marks=pytest.mark.endurance)])
def test_acknowledged_stores_and_deletes_survive_a_kill(tmp_path, kills):
    """After each kill every acknowledged store and delete is still in effect."""
    for number in range(kills):
        # A new cache now and then, because each round reads all of it.
        if number % 25 == 0:
            folder = tmp_path / f"{number}" / "cache"
            printed = {"stored": set(), "deleting": set(), "deleted": set()}
        with forked_program(STORE_AND_DELETE_UNTIL_KILLED, folder) as process:
            lines = [process.stdout.readline() for _ in range(random.randrange(40))]
            process.kill()
            lines += process.stdout.readlines()
        for what, name in (line.split() for line in lines):
            printed[what].add(name)
        assert_recovers(folder)
        found = images(folder)
        assert found >= printed["stored"] - printed["deleting"]
        assert not found & printed["deleted"]
    assert printed["deleted"]


STORE_AND_DELETE = """
cache = ImageCache.in_folder(Path(sys.argv[1]))
cache.check()
os.write(1, b"begin\\n")
image = cache.store("http://a.test/image", b"the bytes of an image", "test")
os.write(1, b"stored\\n")
cache.delete(image["content_hash"])
os.write(1, b"deleted\\n")
cache.close()
"""
DATA = b"the bytes of an image"
IMAGE = content_hash_of(DATA)
WRITING_CALLS = "write,pwrite64,ftruncate,fsync,fdatasync,/^mkdir,/^rename,/^unlink"
with_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def straced(folder, *options):
    """Run the program that stores and deletes, and trace its main thread, which does all the work.

    Returns:
        Its exit code, the words that it wrote, and the trace.
    """
    trace = folder.with_name("trace")
    program = [sys.executable, "-c", PREAMBLE + STORE_AND_DELETE, str(folder)]
    done = subprocess.run(
        ["strace", "-o", trace, *options, *program],
        stdout=subprocess.PIPE,
        check=False,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout.decode().split(), trace.read_text()


@pytest.fixture(scope="module")
def used_cache(tmp_path_factory):
    """Create a cache with one image; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("used") / "cache"
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store("http://a.test/before", b"before", "test")
    return folder


@with_strace
def test_a_folder_that_somebody_else_made_is_synced(tmp_path, used_cache):
    """An image is stored only when the name of its folder is on disk.

    Two threads or processes may store the first two images of a folder at the same time.
    """
    folder = shutil.copytree(used_cache, tmp_path / "cache")
    (folder / "blobs" / IMAGE[:2]).mkdir()
    _, words, trace = straced(folder, "-y", "-e", "trace=write,fsync")
    assert words == ["ready", "begin", "stored", "deleted"]
    storing = trace.split('"begin\\n"')[1].split('"stored\\n"')[0]
    assert re.search(rf"fsync\(\d+<{re.escape(str(folder / 'blobs'))}>\)", storing)


@with_strace
@pytest.mark.parametrize("step", [60, pytest.param(1, marks=pytest.mark.endurance)])
def test_a_kill_at_any_write_leaves_a_consistent_cache(tmp_path, used_cache, step):
    """A kill at any write, sync, rename or unlink of a store or a delete leaves a consistent cache.

    By default at every 60th of the calls of each kind.
    """
    folder = shutil.copytree(used_cache, tmp_path / "whole" / "cache")
    _, words, trace = straced(folder, "-e", f"trace={WRITING_CALLS}")
    assert words == ["ready", "begin", "stored", "deleted"]
    opening, working = trace.split('"begin\\n"')
    passed = calls_in(opening)
    calls = calls_in(working)
    assert len(calls) == len(WRITING_CALLS.split(","))
    for call, count in calls.items():
        for number in range(1, count + 1, step):
            folder = shutil.copytree(used_cache, tmp_path / f"{call} {number}" / "cache")
            inject = f"inject={call}:signal=KILL:when={passed[call] + number}"
            code, words, _ = straced(folder, "-e", f"trace={call}", "-e", inject)
            assert code == -signal.SIGKILL
            assert_recovers(folder)
            is_there = IMAGE in images(folder)
            assert not (is_there and "deleted" in words)
            assert content_hash_of(b"before") in images(folder)
            with closing(ImageCache.in_folder(folder)) as cache:
                assert cache.store("http://a.test/image", DATA, "test")["created"] is not is_there
                assert cache.get_image(IMAGE)[0] == DATA


def calls_in(trace):
    """Count the system calls in a trace, by name."""
    return Counter(re.findall(r"^(\w+)\(", trace, re.MULTILINE))


FILL_THE_DISK = """
from imgcache_scrapy.core.errors import UnavailableError
folder = Path(sys.argv[1])
cache = ImageCache.in_folder(folder)
old = {}
for number in range(20):
    data = os.urandom(10_000)
    old[cache.store(f"http://a.test/{number}", data, "test")["content_hash"]] = data

ballast = folder.parent / "ballast"
free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
left = int(sys.argv[2])
ballast.write_bytes(bytes(max(0, free - left)))
stored, refused = {}, []
for number in range(20, 60):
    data = os.urandom(10_000)
    try:
        stored[cache.store(f"http://a.test/{number}", data, "test")["content_hash"]] = data
    except UnavailableError as error:
        refused.append(str(error))
    assert len(cache.catalog.lookup_many([f"http://a.test/{number}" for number in range(20)])) == 20
assert len(refused) > 20, refused
assert all("full" in words or "space" in words for words in refused), refused
for name, data in (old | stored).items():
    assert cache.get_image(name)[0] == data

ballast.unlink()
data = os.urandom(10_000)
name = cache.store("http://a.test/at last", data, "test")["content_hash"]
assert cache.get_image(name)[0] == data
cache.close()

from tests.support.programs import assert_recovers, images
assert_recovers(folder)
assert images(folder) == {*old, *stored, name}
"""


def can_mount():
    """Return whether this system lets the tests mount a file system."""
    words = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return bool(shutil.which("unshare")) and not subprocess.run(words, check=False).returncode


@pytest.mark.skipif(not can_mount(), reason="a file system cannot be mounted here")
@pytest.mark.parametrize("left", [0, 4096, 30_000, 100_000])
def test_a_full_disk_refuses_stores_only(tmp_path, left):
    """With a nearly full disk stores fail and reads work; with free space stores work again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'
    program = [sys.executable, "-c", PREAMBLE + FILL_THE_DISK, disk / "cache", str(left)]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, disk, *program],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


USE_ALL_FILES = """
import resource
from imgcache_scrapy.core.errors import UnavailableError
folder = Path(sys.argv[1])
cache = ImageCache.in_folder(folder)
old = cache.store("http://a.test/old", b"old", "test")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(open(os.devnull))
except OSError:
    pass

for action in (
    lambda: cache.store("http://a.test/new", b"new", "test"),
    lambda: cache.get_image(old["content_hash"]),
):
    try:
        action()
    except UnavailableError as error:
        assert "Too many open files" in str(error), error
    else:
        raise AssertionError("it worked without a file descriptor")
assert cache.catalog.lookup_many(["http://a.test/old"])

for file in held:
    file.close()
assert cache.get_image(old["content_hash"])[0] == b"old"
assert cache.store("http://a.test/new", b"new", "test")["created"]
assert len(cache.catalog.lookup_many(["http://a.test/old", "http://a.test/new"])) == 2
assert cache.catalog.stats()["damaged"] == 0
cache.close()
"""


def test_without_file_descriptors_stores_and_reads_fail_and_lookups_work(tmp_path):
    """Without file descriptors stores and reads fail, and no image is marked as damaged."""
    with program(USE_ALL_FILES, tmp_path / "cache") as process:
        assert process.wait(timeout=PATIENCE) == 0
    assert_recovers(tmp_path / "cache")

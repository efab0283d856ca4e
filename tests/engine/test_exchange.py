"""A rebuilt catalog takes the place of the old one: no kill, and no other process, loses a row."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import exchange
from imgcache_scrapy.engine.rebuild import rebuild
from tests.support.programs import PREAMBLE, catalog_of, program, upkeep_of
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
COUNT = 20

STORE = """
import sqlite3
cache = ImageCache.in_folder(Path(sys.argv[1]))
for number in range(20):
    cache.store(f"http://a.test/{number}", b"image %d" % number, "test")
    if number == 9:  # The others are only in the log.
        database = sqlite3.connect(Path(sys.argv[1]) / "catalog.sqlite3")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
print("stored", flush=True)
sys.stdin.readline()
"""
REBUILD = """
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.rebuild import rebuild
folder = Path(sys.argv[1])
if sys.argv[2] == "no links":
    def link(*paths):
        raise PermissionError(1, "Operation not permitted")
    os.link = link
rebuild(folder / "catalog.sqlite3", FileBlobs(folder / "blobs"))
"""
CHANGES = "/^link,/^rename,/^unlink,fsync,fdatasync,ftruncate"
with_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def urls():
    return {f"http://a.test/{number}" for number in range(COUNT)}


def found(folder):
    with closing(ImageCache.in_folder(folder, create=False)) as cache:
        return set(cache.catalog.lookup_many(urls()))


def rebuilt(folder):
    return rebuild(folder / "catalog.sqlite3", FileBlobs(folder / "blobs"))


@pytest.fixture(scope="module")
def killed_cache(tmp_path_factory):
    """Create a cache whose process was killed: its last rows are only in the log."""
    folder = tmp_path_factory.mktemp("killed") / "cache"
    with program(STORE, folder) as process:
        assert process.stdout.readline() == "stored\n"
    with closing(sqlite3.connect(":memory:")) as database:
        file = shutil.copy(folder / "catalog.sqlite3", folder.with_name("without-log"))
        database.execute("ATTACH ? AS file", (str(file),))
        assert database.execute("SELECT count(*) FROM file.capture").fetchone()[0] == 10
    return folder


@pytest.fixture
def folder(killed_cache, tmp_path):
    return shutil.copytree(killed_cache, tmp_path / "cache ü")


def straced(folder, links, *options):
    """Rebuild the catalog in a traced process.

    Returns:
        Its exit code and the lines of the trace.
    """
    trace = folder.with_name("trace")
    words = [sys.executable, "-c", PREAMBLE + REBUILD, folder, links]
    done = subprocess.run(
        ["strace", "-f", "-o", trace, *options, *words],
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=PATIENCE,
        cwd=ROOT,
    )
    return done.returncode, trace.read_text().splitlines()


@with_strace
@pytest.mark.parametrize(
    ("links", "is_damaged", "step"),
    [
        ("links", False, 5),
        *(
            pytest.param(links, is_damaged, 1, marks=pytest.mark.endurance)
            for links in ("links", "no links")
            for is_damaged in (False, True)
        ),
    ],
)
def test_a_kill_at_any_step_leaves_one_catalog_whole(
    killed_cache, tmp_path, links, is_damaged, step
):
    """The old catalog with all that its log has, or the new one; a damaged one is rebuilt again.

    By default at every fifth step.
    """
    if is_damaged:
        killed_cache = shutil.copytree(killed_cache, tmp_path / "damaged")
        with (killed_cache / "catalog.sqlite3").open("r+b") as file:
            file.seek(4096 * 3)
            file.write(os.urandom(4096))
    folder = shutil.copytree(killed_cache, tmp_path / "traced" / "cache")
    code, lines = straced(folder, links, "-e", f"trace={CHANGES}")
    assert code == 0
    names = [line.split("(")[0].split()[1] for line in lines if "(" in line]
    first = next(n for n, line in enumerate(lines) if "catalog.sqlite3.old-" in line)
    steps = names[first:]
    assert len(steps) > 8
    for number in range(0, len(steps), step):
        folder = shutil.copytree(killed_cache, tmp_path / f"{number}" / "cache")
        call = steps[number]
        before = names[:first].count(call) + steps[:number].count(call)
        inject = f"inject={call}:signal=KILL:when={before + 1}"
        code, _ = straced(folder, links, "-e", f"trace={call}", "-e", inject)
        assert code == -signal.SIGKILL
        if not is_damaged:
            with upkeep_of(folder) as upkeep:
                upkeep.check_whole()
            assert found(folder) == urls()
        assert rebuilt(folder).damaged == []
        assert found(folder) == urls()


def test_the_old_catalog_is_kept_as_it_was(folder):
    """The kept file has the same bytes, and its log lies beside it."""
    before = {suffix: (folder / f"catalog.sqlite3{suffix}").read_bytes() for suffix in ("", "-wal")}
    kept = rebuilt(folder).kept
    for suffix, data in before.items():
        assert kept.with_name(f"{kept.name}{suffix}").read_bytes() == data
    assert found(folder) == urls()
    assert not list(folder.glob("#*"))


def test_a_file_that_is_no_database_is_replaced_with_its_log(folder):
    """Nothing in them can be merged; both are kept."""
    (folder / "catalog.sqlite3").write_bytes(b"my thesis" * 1000)
    (folder / "catalog.sqlite3-wal").write_bytes(b"my notes")
    kept = rebuilt(folder).kept
    assert kept.read_bytes() == b"my thesis" * 1000
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == b"my notes"
    with upkeep_of(folder) as upkeep:
        upkeep.check_whole()
        assert {each.state for each in upkeep.verify()} == {"sound"}


STORE_ALL_THE_TIME = """
from itertools import count
from imgcache_scrapy.core.errors import UnavailableError
cache = ImageCache.in_folder(Path(sys.argv[1]))
for number in count():
    while True:
        try:
            cache.store(f"http://b.test/{number}", b"written %d" % number, "writer")
            break
        except UnavailableError as error:
            assert "replaced" in str(error), error
            cache.close()
            cache = ImageCache.in_folder(Path(sys.argv[1]))
    print(number, flush=True)
"""


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.endurance)])
def test_a_rebuild_beside_a_writer_loses_no_store(folder, count):
    """What is stored during a rebuild is in the new catalog, or is refused and stored again."""
    with program(STORE_ALL_THE_TIME, folder) as writer:
        for _ in range(count):
            stored = int(writer.stdout.readline())
            assert rebuilt(folder).captures > stored
        writer.kill()
        stored = int((writer.stdout.read() or f"{stored}").split()[-1])
    with upkeep_of(folder) as upkeep:
        upkeep.check_whole()
        assert {each.state for each in upkeep.verify()} == {"sound"}
        wanted = {f"http://b.test/{number}" for number in range(stored + 1)}
        assert set(upkeep.cache.catalog.lookup_many(wanted)) == wanted
    assert found(folder) == urls()


def test_a_long_transaction_stops_a_rebuild(folder, monkeypatch):
    """The error says what to do, and nothing is changed."""
    monkeypatch.setattr(exchange, "BUSY_SECONDS", 0.1)
    with catalog_of(folder) as database:
        database.execute("BEGIN IMMEDIATE")
        before = {path.name for path in folder.iterdir()}
        with pytest.raises(UnavailableError, match="stop everything"):
            rebuilt(folder)
        assert {path.name for path in folder.iterdir()} == before
    assert found(folder) == urls()

"""Caches that can only be read, and catalogs that cannot be opened."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import database_call
from tests.support.programs import catalog_of
from tests.support.read_only import ReadOnlyFolder
from tests.support.waiting import PATIENCE, wait_until

URL = "http://a.test/old.png"
# A wait for a lock would take 30 s.
AT_ONCE = 15


@pytest.fixture(params=["folder", "mount"])
def read_only(request, tmp_path):
    """Return the folder of a cache with one image that can be read only, by its permissions or
    because it is mounted so."""
    folder = ReadOnlyFolder(tmp_path / "cache ü", request.param)
    with ImgCacheClient(str(folder.path)) as client:
        client.store(URL, b"old", "me")
    yield folder
    folder.unlock()


USE_EVERYTHING = """
import sys
from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.errors import ReadOnlyError
url = "http://a.test/old.png"
with ImgCacheClient(sys.argv[1]) as client:
    entry = client.lookup(url)
    assert client.get_bytes(entry["content_hash"]) == b"old"
    assert [each["url"] for each in client.search("old")] == [url]
    assert client.stats()["images"] == 1
    assert client.health() == {"status": "ok"}
    for change in (
        lambda: client.store("http://a.test/new.png", b"new", "me"),
        lambda: client.delete(entry["content_hash"]),
    ):
        try:
            change()
        except ReadOnlyError as error:
            assert "read-only" in str(error) and error.code == "read_only"
        else:
            raise AssertionError("it was changed")
print("done")
"""


def files_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_read_only_cache_serves_hits(read_only, tmp_path):
    """A cache that was closed cleanly is read without a change; each change is refused."""
    read_only.lock()
    before = files_in(read_only.path)
    assert read_only.run(tmp_path, USE_EVERYTHING) == "done\n"
    assert files_in(read_only.path) == before


def test_a_read_only_cache_is_read_while_another_program_writes_it(read_only, tmp_path):
    """What the writer has not moved into the catalog yet is found, too."""
    with catalog_of(read_only.path) as writer:
        writer.execute("UPDATE image SET width = 7")
        read_only.lock()
        assert (read_only.path / "catalog.sqlite3-wal").stat().st_size > 0
        code = USE_EVERYTHING.replace('print("done")', 'print(entry["width"])')
        assert read_only.run(tmp_path, code) == "7\n"
        read_only.unlock()


VERIFY = """
import sys
from pathlib import Path
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.upkeep import Upkeep
upkeep = Upkeep(ImageCache.in_folder(Path(sys.argv[1])))
print([each.state for each in upkeep.verify()], list(upkeep.decode()))
"""


def test_a_read_only_cache_is_verified(read_only, tmp_path):
    """A picture that waits for its decoder stays as it is, and costs no verdict."""
    with catalog_of(read_only.path) as writer:
        writer.execute("UPDATE image SET decode_error = NULL")
    read_only.lock()
    assert read_only.run(tmp_path, VERIFY) == "['sound'] []\n"


WATCH = """
import sys, time
from imgcache_scrapy.engine.cache import ImageCache
from pathlib import Path
cache = ImageCache.in_folder(Path(sys.argv[1]))
url = "http://a.test/new.png"
while not cache.catalog.lookup_many([url]):
    print("missing", flush=True)
    time.sleep(0.01)
print("found")
"""


def test_a_reader_sees_what_is_written_later(read_only, tmp_path):
    """A catalog that was opened as unchangeable is opened again when a writer appears."""
    read_only.lock()
    with ImgCacheClient(str(read_only.path)) as writer:

        def store(out):
            wait_until(lambda: "missing" in out.read_text())
            read_only.unlock()
            writer.store("http://a.test/new.png", b"new", "me")

        # The writer stays open, so that the change is only in the log.
        assert read_only.run(tmp_path, WATCH, store).endswith("found\n")


OPEN = """
import sys
from pathlib import Path
from imgcache_scrapy.core.errors import ImgCacheError
from imgcache_scrapy.engine.cache import ImageCache
try:
    ImageCache.in_folder(Path(sys.argv[1])).close()
except ImgCacheError as error:
    print(type(error).__name__, error)
"""


def test_an_empty_log_does_not_stop_a_reader(read_only, tmp_path):
    """A writer that starts creates an empty log before the files that readers need."""
    log = read_only.path / "catalog.sqlite3-wal"
    log.touch()
    read_only.lock()
    assert read_only.run(tmp_path, OPEN) == ""


def test_a_read_only_cache_with_changes_of_a_crash_says_what_to_do(read_only, tmp_path):
    """SQLite cannot read the log without its index, and the answer is a sentence."""
    log = read_only.path / "catalog.sqlite3-wal"
    with catalog_of(read_only.path) as writer:
        writer.execute("UPDATE image SET width = 7")
        content = log.read_bytes()
    log.write_bytes(content)
    read_only.lock()
    assert read_only.run(tmp_path, OPEN) == (
        "UnavailableError the catalog can only be read, but its last changes are still in "
        "catalog.sqlite3-wal: open the cache once where its folder can be written\n"
    )


@pytest.mark.parametrize("kind", ["folder", "mount"])
def test_a_folder_that_cannot_have_a_cache(tmp_path, kind):
    """In an empty read-only folder lookups are misses, and a store says that it is read-only."""
    folder = ReadOnlyFolder(tmp_path / "empty", kind)
    folder.path.mkdir()
    folder.lock()
    code = """
import sys
from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.errors import ReadOnlyError
with ImgCacheClient(sys.argv[1]) as client:
    assert client.lookup("http://a.test/a") is None
    for call in (client.health, lambda: client.store("http://a.test/a", b"a", "me")):
        try:
            call()
        except ReadOnlyError as error:
            print(error)
"""
    assert len(folder.run(tmp_path, code).splitlines()) == 2
    folder.unlock()


def test_readers_create_nothing(tmp_path):
    """Every call that reads is answered as by an empty cache, until a store creates the cache."""
    for folder in (tmp_path / "absent", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with ImgCacheClient(str(folder)) as client:
            assert client.lookup(URL) is None
            assert client.lookup_many([URL]) == {}
            assert client.search("old") == client.similar("0" * 16) == []
            assert client.get_meta("0" * 64) is None
            assert client.stats() == {"images": 0, "captures": 0, "bytes": 0, "damaged": 0}
            assert client.buckets() == {}
            assert client.health() == {"status": "ok"}
            for call in (client.get_bytes, client.delete):
                with pytest.raises(Exception, match="no image"):
                    call("0" * 64)
            assert folder.name == "empty" or not folder.exists()
            assert not folder.exists() or not list(folder.iterdir())
            client.store(URL, b"old", "me")
            assert client.lookup(URL)["url"] == URL
            assert client.stats()["images"] == 1


def test_a_reader_finds_a_cache_that_is_created_later(tmp_path):
    """A client that found no cache looks again at its next call."""
    with ImgCacheClient(str(tmp_path / "cache")) as reader:
        assert reader.lookup(URL) is None
        code = "import sys; from imgcache_scrapy import ImgCacheClient as C\n"
        code += "with C(sys.argv[1]) as client: client.store(sys.argv[2], b'old', 'me')"
        words = [sys.executable, "-c", code, tmp_path / "cache", URL]
        subprocess.run(words, check=True, timeout=PATIENCE)
        assert reader.lookup(URL)["url"] == URL


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"my thesis " * 1000, "catalog is damaged.*imgcache rebuild"), (None, "catalog failed")],
    ids=["not a database", "a folder"],
)
def test_a_broken_catalog_is_told_at_once(tmp_path, content, words):
    """It is one sentence without a wait, and closing the client raises nothing."""
    path = tmp_path / "catalog.sqlite3"
    path.mkdir() if content is None else path.write_bytes(content)
    start = time.monotonic()
    with ImgCacheClient(str(tmp_path)) as client, pytest.raises(UnavailableError, match=words):
        client.lookup(URL)
    assert time.monotonic() - start < AT_ONCE


OPEN_ON_A_FULL_DISK = """
import sqlite3, sys, time
from pathlib import Path
sys.argv[1] += "/cache"
from imgcache_scrapy import ImgCacheClient
with ImgCacheClient(sys.argv[1]) as client:
    client.store("http://a.test/old.png", b"old", "me")
database = sqlite3.connect(sys.argv[1] + "/catalog.sqlite3")
database.execute("PRAGMA journal_mode=" + sys.argv[2])
database.close()
with open(sys.argv[1] + "/filler", "wb", buffering=0) as filler:
    for size in (65536, 1):
        try:
            while filler.write(b"-" * size):
                pass
        except OSError:
            pass
start = time.monotonic()
with ImgCacheClient(sys.argv[1]) as client:
    try:
        client.lookup("http://a.test/old.png")
    except Exception as error:
        print(type(error).__name__, error)
assert time.monotonic() - start < 15
"""


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_catalog_on_a_full_disk_is_told_at_once(tmp_path, mode):
    """SQLite needs space for its log even to read; the error is told without a wait."""
    mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    program = [sys.executable, "-c", OPEN_ON_A_FULL_DISK, tmp_path, mode]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, tmp_path, *program],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("UnavailableError the catalog failed: ")


def test_closing_while_a_catalog_fails_to_open_raises_nothing(tmp_path):
    """The error belongs to the call that opened the catalog."""
    (tmp_path / "catalog.sqlite3").write_bytes(b"my thesis " * 1000)
    client = ImgCacheClient(str(tmp_path))
    for _ in range(3):
        with pytest.raises(UnavailableError):
            client.store(URL, b"old", "me")
    client.close()
    client.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE imgcache_schema SET number = 0",
        "UPDATE imgcache_schema SET number = -1",
        "UPDATE imgcache_schema SET number = 'two'",
        "UPDATE imgcache_schema SET number = 2.5",
        "INSERT INTO imgcache_schema SELECT * FROM imgcache_schema",
        "DELETE FROM imgcache_schema",
        "UPDATE imgcache_schema SET cache_id = NULL",
        "UPDATE imgcache_schema SET number = 1000",
    ],
)
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_an_odd_schema_is_refused_and_nothing_is_written(tmp_path, change, mode):
    """The error is one sentence, and the file stays as it was, byte for byte."""
    path = tmp_path / "catalog.sqlite3"
    Catalog(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute(change)
    before = path.read_bytes()
    for upgrade in (True, False):
        with pytest.raises(ConfigurationError) as refused:
            database_call(Catalog)(f"sqlite:///{path}", upgrade=upgrade)
        assert "\n" not in str(refused.value)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["catalog.sqlite3"]


def test_a_damaged_image_of_a_read_only_cache_is_not_returned(read_only, tmp_path):
    """It cannot be marked as damaged, and it is refused all the same."""
    (blob,) = read_only.path.glob("blobs/*/*")
    blob.write_bytes(b"bad")
    read_only.lock()
    code = """
import sys
from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.errors import NotFoundError
with ImgCacheClient(sys.argv[1]) as client:
    try:
        client.get_bytes(client.lookup("http://a.test/old.png")["content_hash"])
    except NotFoundError as error:
        print("refused")
"""
    assert read_only.run(tmp_path, code) == "refused\n"

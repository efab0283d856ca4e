"""Forked processes: a client works in a child or says so at once, and nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.service import new_storage_environment
from tests.support.waiting import PATIENCE

CHILDREN = 4
# A program of its own, because the test's process has threads. It forks as multiprocessing's fork
# and the servers gunicorn and uwsgi do.
PROGRAM = """
import asyncio, os, sys
from imgcache_scrapy import AsyncImgCacheClient, ImgCacheClient, ImgCacheError

address, url = sys.argv[1], "http://parent.example/a"

def fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except ImgCacheError as error:
            print(type(error).__name__, error, flush=True)
        finally:
            sys.stdout.flush()
        LEAVE
    return child

def wait(*children):
    for child in children:
        print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

BODY
"""
PYTHON = [sys.executable, "-W", "ignore::DeprecationWarning", "-c"]
ROOT = Path(__file__).parents[2]
WAYS_TO_LEAVE = ["os._exit(0)", "sys.exit(0)"]


def run(body, address, leave="os._exit(0)", **environment):
    """Run a program that forks, and return its lines; it must end."""
    done = subprocess.run(
        [*PYTHON, PROGRAM.replace("BODY", body).replace("LEAVE", leave), str(address)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env=os.environ | environment,
    )
    return done.stdout.splitlines()


CHILDREN_STORE = """
parent = ImgCacheClient(address)
parent.store(url, b"from the parent", "me")
go, ready = os.pipe(), os.pipe()

def work(number):
    with ImgCacheClient(address) as client:
        client.store(f"http://child.example/{number}", b"first %d" % number, "me")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        for turn in range(STORES):
            data = b"%d %d" % (number, turn)
            client.store(f"http://child.example/{number}/{turn}", data, "me")
        print("stored", flush=True)

children = [fork(lambda number=number: work(number)) for number in range(CHILDREN)]
for _ in children:
    os.read(ready[0], 1)
parent.close()
os.write(go[1], b"x" * len(children))
wait(*children)
"""


@pytest.mark.parametrize("stores", [20, pytest.param(80, marks=pytest.mark.endurance)])
@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
def test_stores_of_children_outlive_their_parent(tmp_path, leave, stores):
    """Children store while their parent, which used the cache before, closes it first."""
    body = CHILDREN_STORE.replace("CHILDREN", str(CHILDREN)).replace("STORES", str(stores))
    lines = run(body, tmp_path / "cache", leave)
    assert sorted(lines) == ["exit 0"] * CHILDREN + ["stored"] * CHILDREN
    urls = [f"http://child.example/{n}/{turn}" for n in range(CHILDREN) for turn in range(stores)]
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        assert len(client.lookup_many([*urls, "http://parent.example/a"])) == len(urls) + 1


USED_CLIENT = """
client = ImgCacheClient(address)
client.store(url, b"from the parent", "me")

def work():
    print(client.get_bytes(client.lookup(url)["content_hash"]).decode())
    client.store(url + "/child", b"from the child", "me")
    client.close()

wait(fork(work))
print(client.get_bytes(client.lookup(url + "/child")["content_hash"]).decode())
client.close()
"""


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
@pytest.mark.parametrize("transport", ["embedded", "http"])
def test_a_used_client_works_in_a_child(tmp_path, shared_service, site, transport, leave):
    """A blocking client that made calls before the fork makes calls after it, in both processes."""
    address = tmp_path / "cache" if transport == "embedded" else shared_service.url
    body = USED_CLIENT.replace("url + ", f"{site!r} + ").replace("(url", f"({site!r}")
    assert run(body, address, leave) == ["from the parent", "exit 0", "from the child"]


USED_AWAITED_CLIENT = """
client = AsyncImgCacheClient(address)
asyncio.run(client.FIRST)
wait(fork(lambda: asyncio.run(client.lookup(url))))
"""


@pytest.mark.parametrize("first", ["lookup(url)", "store(url, b'x', 'me')"])
@pytest.mark.parametrize("transport", ["embedded", "http"])
def test_a_used_awaited_client_says_that_it_cannot_work(tmp_path, shared_service, transport, first):
    """An awaited client belongs to one event loop, so a call in a child raises at once."""
    address = tmp_path / "cache" if transport == "embedded" else shared_service.url
    said, left = run(USED_AWAITED_CLIENT.replace("FIRST", first), address)
    assert said.startswith("UnavailableError this client was used before the process was forked")
    assert left == "exit 0"


IMPORTS = """
client = ImgCacheClient(address)
before = set(sys.modules)
client.store(url, b"x", "me")
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("transport", ["embedded", "http"])
def test_the_first_call_of_a_client_imports_nothing(tmp_path, shared_service, transport):
    """A fork during an import in a thread would leave half a module to the child for ever."""
    address = tmp_path / "cache" if transport == "embedded" else shared_service.url
    assert run(IMPORTS, address) == ["[]"]


STARTING_CLIENT = """
import threading, time

new_event_loop = asyncio.new_event_loop

def slow_loop():
    time.sleep(0.3)
    return new_event_loop()

asyncio.new_event_loop = slow_loop
client = ImgCacheClient(address)
first = threading.Thread(target=client.store, args=(url, b"from the parent", "me"))
first.start()
time.sleep(0.1)
wait(fork(lambda: client.store(url + "/child", b"from the child", "me")))
first.join()
print(len(client.lookup_many([url, url + "/child"])))
"""


def test_a_client_works_in_a_child_that_was_forked_during_its_first_call(tmp_path):
    """The child does not wait for the thread that starts the client in the parent."""
    assert run(STARTING_CLIENT, tmp_path / "cache") == ["exit 0", "2"]


INHERITED_AWAITED_CLIENT = """
runner = asyncio.Runner()
client = AsyncImgCacheClient(address)
runner.run(client.store(url, b"from the parent", "me"))

def work():
    with ImgCacheClient(address) as own:
        own.store(url + "/1", b"first", "me")
        asyncio.run(client.aclose())
        own.store(url + "/2", b"second", "me")
    print("closed")

wait(fork(work))
print(len(runner.run(client.lookup_many([url, url + "/1", url + "/2"]))))
runner.run(client.aclose())
"""


@pytest.mark.parametrize("transport", ["embedded", "http"])
def test_a_child_may_close_an_awaited_client_of_its_parent(tmp_path, shared_service, transport):
    """It closes nothing then: neither the parent's connections, nor the child's own cache."""
    address = tmp_path / "cache" if transport == "embedded" else shared_service.url
    assert run(INHERITED_AWAITED_CLIENT, address) == ["closed", "exit 0", "3"]


UNUSED_CLIENT = """
client = ImgCacheClient(address)
wait(*[fork(lambda n=n: client.store(f"{url}/{n}", b"%d" % n, "me")) for n in range(3)])
print(len(client.lookup_many([f"{url}/{n}" for n in range(3)])))
"""


def test_a_client_that_is_opened_before_the_fork_works(tmp_path):
    """A server that forks its workers may open the client first."""
    assert run(UNUSED_CLIENT, tmp_path / "cache") == ["exit 0"] * 3 + ["3"]


BUSY_PARENT = """
client = ImgCacheClient(address)
client.store(url, b"x", "me")
from imgcache_scrapy.client.embedded import _shared
(cache, _), = _shared._open.values()
connection = cache.catalog._engine.connect()
wait(fork(lambda: ImgCacheClient(address).lookup(url)))
connection.close()
client.close()
"""


def test_a_child_of_a_busy_parent_says_that_it_cannot_work(tmp_path):
    """A connection that stays in use during the fork would corrupt the child's locks."""
    said, left = run(BUSY_PARENT, tmp_path / "cache")
    assert said.startswith("ConfigurationError this client was used before the process was forked")
    assert left == "exit 0"


REMOVED_FOLDER = """
import shutil
from imgcache_scrapy.client.embedded import _shared

client = ImgCacheClient(address)
client.store(url, b"x", "me")
(cache, _), = _shared._open.values()
with cache.catalog._engine.connect():
    shutil.rmtree(address)
    wait(fork(lambda: ImgCacheClient(address).store(url, b"x", "me")))
"""


def test_a_child_creates_a_cache_in_place_of_a_removed_one_that_its_parent_has_open(tmp_path):
    """A file that does not exist yet is no file of the parent."""
    assert run(REMOVED_FOLDER, tmp_path / "cache") == ["exit 0"]


UPGRADING_PARENT = """
import threading, time
import alembic.command

upgrade, busy = alembic.command.upgrade, threading.Event()

def slow_upgrade(*args):
    busy.set()
    time.sleep(2)
    upgrade(*args)

alembic.command.upgrade = slow_upgrade
client = ImgCacheClient(address)
first = threading.Thread(target=client.store, args=(url, b"from the parent", "me"))
first.start()
busy.wait()

def work():
    alembic.command.upgrade = upgrade
    with ImgCacheClient(address + "-of-child", timeout=5) as own:
        print(own.store(url, b"from the child", "me")["created"])

wait(fork(work))
first.join()
print(client.lookup(url)["url"])
"""


def test_a_child_creates_a_cache_although_its_parent_upgrades_another_one(tmp_path):
    """Alembic runs in one thread at a time; the child has no such thread."""
    lines = run(UPGRADING_PARENT, tmp_path / "cache")
    assert lines == ["True", "exit 0", "http://parent.example/a"]


HASHING_PARENT = """
import threading

client = ImgCacheClient(address)
done = threading.Event()

def store():
    while not done.is_set():
        client.store(url, bytes(20_000_000), "me")

def work():
    with ImgCacheClient(address + "-of-child", timeout=5) as own:
        own.store(url, b"from the child", "me")

thread = threading.Thread(target=store)
thread.start()
for _ in range(5):
    wait(fork(work))
done.set()
thread.join()
"""


def test_a_child_stores_although_its_parent_computes_a_hash(tmp_path):
    """No lock around what is computed once per object stays held in a child."""
    assert run(HASHING_PARENT, tmp_path / "cache") == ["exit 0"] * 5


OPENING_PARENT = """
import threading

done = threading.Event()

def open_and_close(number):
    while not done.is_set():
        with ImgCacheClient(address) as client:
            client.store(f"{url}/{number}", b"%d" % number, "me")

def work():
    with ImgCacheClient(address) as client:
        client.store(url, b"from the child", "me")

threads = [threading.Thread(target=open_and_close, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for _ in range(FORKS):
    wait(fork(work))
done.set()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("forks", [30, pytest.param(200, marks=pytest.mark.endurance)])
def test_a_child_works_although_its_parent_opened_a_cache_in_a_thread(tmp_path, forks):
    """SQLite holds a lock while it opens or closes a file; a child would wait for it for ever."""
    lines = run(OPENING_PARENT.replace("FORKS", str(forks)), tmp_path / "cache")
    assert lines == ["exit 0"] * forks


DECODER = """
import time
from pathlib import Path
from tests.support.pictures import jpeg

client = ImgCacheClient(address)
client.store(url, jpeg(1), "me")
tasks = Path("/proc/self/task").glob("*/children")
decoders = [Path("/proc", pid) for task in tasks for pid in task.read_text().split()]
print(len(decoders), flush=True)

def work():
    while any(decoder.exists() for decoder in decoders):
        time.sleep(0.02)
    print("ended")

if fork(work):
    os._exit(0)
"""


def test_a_child_does_not_keep_the_decoder_of_its_parent(tmp_path):
    """A decoder ends with the process that started it, although a forked process goes on."""
    assert run(DECODER, tmp_path / "cache") == ["1", "ended"]


STARTING_DECODER = """
import subprocess, threading, time
from imgcache_scrapy.engine.decoding.decoder import Decoder

class SlowPopen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        time.sleep(0.5)

def pipes():
    files = [f"/proc/self/fd/{number}" for number in range(100)]
    return sum("pipe:" in os.readlink(file) for file in files if os.path.islink(file))

before = pipes()
subprocess.Popen = SlowPopen
decoder = Decoder()
starting = threading.Thread(target=decoder.start)
starting.start()
time.sleep(0.2)
wait(fork(lambda: print(pipes() - before)))
starting.join()
decoder.close()
"""


def test_a_child_does_not_keep_the_pipes_of_a_decoder_that_starts(tmp_path):
    """The parent would wait for the end of such a pipe, and the decoder would outlive it."""
    assert run(STARTING_DECODER, tmp_path / "cache") == ["0", "exit 0"]


USED_OBJECT_STORE = """
client = ImgCacheClient(address)
client.store(url, b"x", "me")
wait(fork(lambda: client.lookup(url)))
"""


def test_an_object_store_in_a_child_says_that_it_cannot_work(tmp_path, postgresql, object_store):
    """The threads of the object store's library are missing in a child."""
    environment = new_storage_environment(postgresql, object_store)
    said, left = run(USED_OBJECT_STORE, tmp_path / "cache", **environment)
    assert said.startswith("ConfigurationError this client was used before the process was forked")
    assert left == "exit 0"

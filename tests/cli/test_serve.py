"""`imgcache serve`."""

import signal
from pathlib import Path

import httpx
import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import assert_failed

URL = "http://h.example/a b.png"


def children_of(pid):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append((process / "cmdline").read_bytes())
    return found


@pytest.mark.parametrize(
    "options",
    [
        ["--database", "nonsense"],
        ["--database", "nosuchdatabase://h/x"],
        ["--database", "sqlite:////no/such/folder/c.sqlite3"],
        ["--blobs", "nonsense"],
        ["--blobs", "ftp://h.example/x"],
    ],
    ids=lambda options: options[1],
)
def test_a_storage_that_cannot_be_opened_is_told(run, options):
    """Every address that leads nowhere is one sentence, no traceback."""
    assert_failed(run("serve", "--port", "0", *options))


def test_serve_keeps_its_cache_in_the_working_folder(service):
    """Told nothing else, it makes `./imgcache` with a catalog and blobs."""
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert sorted(path.name for path in service.folder.glob("*")) >= ["blobs", "catalog.sqlite3"]
    assert sum(path.is_file() for path in service.folder.glob("blobs/*/*")) == 1


def test_serve_ends_on_a_signal_and_its_cache_is_there_again(service):
    """SIGTERM ends it in order; the next one over the folder finds what was stored."""
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert service.stop() in {0, -signal.SIGTERM}
    with ImgCacheClient(str(service.folder)) as client:
        assert client.lookup(URL)["file_size_bytes"] == 5
    service.start()
    with ImgCacheClient(service.url) as client:
        assert client.lookup(URL)["file_size_bytes"] == 5


def test_serve_takes_its_storage_from_the_options(stopped_service, tmp_path):
    """With a database and blobs named, nothing is made in the working folder."""
    service = stopped_service
    (tmp_path / "data").mkdir()
    database, blobs = tmp_path / "data" / "c.sqlite3", tmp_path / "data" / "ü b"
    service.options = ("--database", f"sqlite:///{database}", "--blobs", blobs.as_uri())
    service.start()
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert database.exists()
    assert sum(path.is_file() for path in blobs.glob("*/*")) == 1
    assert [path.name for path in service.home.iterdir()] == ["serve.log"]


def test_serve_with_workers_answers_from_all_of_them(stopped_service):
    """Two processes share the cache: what one stored the other one finds."""
    service = stopped_service
    service.options = ("--workers", "2")
    service.start()
    workers = [c for c in children_of(service.process.pid) if b"spawn_main" in c]
    assert len(workers) == 2
    # A connection for each request, so that the kernel hands them to either process.
    with httpx.Client(
        base_url=service.url, trust_env=False, headers={"Connection": "close"}
    ) as http:
        for number in range(30):
            url = f"http://h.example/{number}"
            form = {"url": url, "client_name": "me"}
            http.post("/images", data=form, files={"file": ("a", url.encode())}).raise_for_status()
            answer = http.get("/images/lookup", params={"url": url})
            assert answer.json()["file_size_bytes"] == len(url)
    service.stop()
    assert "Traceback" not in service.log


def test_serve_on_a_port_that_is_taken_fails(run, shared_service):
    """The second service on a port ends at once and says which address it wanted."""
    done = run("serve", "--port", shared_service.port)
    assert done.returncode != 0
    assert str(shared_service.port) in done.stderr.decode()
    assert b"Traceback" not in done.stderr

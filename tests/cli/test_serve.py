"""`imgcache serve`."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imgcache_scrapy import ImgCacheClient, UnauthorizedError
from tests.support.commands import assert_failed, clean_environment, run_imgcache
from tests.support.forking import REAL_CHILDREN
from tests.support.service import http_client
from tests.support.waiting import PATIENCE

URL = "http://h.example/a b.png"


def children_of(pid):
    """Return the command lines of the child processes of a process."""
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
def test_an_unusable_storage_is_reported(run, options):
    """An unusable database or blob store gives one sentence and no traceback."""
    assert_failed(run("serve", "--port", "0", *options))


def test_serve_keeps_its_cache_in_the_working_folder(service):
    """By default the service creates `./imgcache` with a catalog and blobs."""
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert sorted(path.name for path in service.folder.glob("*")) >= ["blobs", "catalog.sqlite3"]
    assert sum(path.is_file() for path in service.folder.glob("blobs/*/*")) == 1


def test_serve_ends_on_sigterm_and_keeps_its_cache(service):
    """SIGTERM ends the service, and the next one on the folder finds the stored image."""
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert service.stop() in {0, -signal.SIGTERM}
    with ImgCacheClient(str(service.folder)) as client:
        assert client.lookup(URL)["file_size_bytes"] == 5
    service.start()
    with ImgCacheClient(service.url) as client:
        assert client.lookup(URL)["file_size_bytes"] == 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_leaves_no_temporary_files(stopped_service, tmp_path, workers):
    """After SIGTERM the system's temporary folder is empty."""
    service, temporary = stopped_service, tmp_path / "temporary"
    temporary.mkdir()
    service.environment = {"TMPDIR": str(temporary)}
    service.options = ("--workers", workers)
    service.start()
    service.stop()
    assert list(temporary.iterdir()) == []


def test_serve_takes_its_storage_from_the_options(stopped_service, tmp_path):
    """With `--database` and `--blobs` nothing is created in the working folder."""
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


def test_workers_share_the_cache(stopped_service):
    """Two worker processes share the cache: each finds what the other one stored."""
    service = stopped_service
    service.options = ("--workers", "2")
    service.environment[REAL_CHILDREN] = "1"
    service.start()
    workers = [c for c in children_of(service.process.pid) if b"spawn_main" in c]
    assert len(workers) == 2
    # One connection for each request, so that both processes get requests.
    with http_client(service.url, headers={"Connection": "close"}) as http:
        for number in range(30):
            url = f"http://h.example/{number}"
            form = {"url": url, "client_name": "me"}
            http.post("/images", data=form, files={"file": ("a", url.encode())}).raise_for_status()
            answer = http.get("/images/lookup", params={"url": url})
            assert answer.json()["file_size_bytes"] == len(url)
    service.stop()
    assert "Traceback" not in service.log


def test_serve_on_a_used_port_fails(run, shared_service):
    """The second service on a port ends at once, and its error names the port."""
    done = run("serve", "--port", shared_service.port)
    assert done.returncode != 0
    assert str(shared_service.port) in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_used_port_is_told_before_the_start(tmp_path, shared_service, host, workers):
    """The exit code is 1, one sentence says what to do, and no cache is created."""
    options = ["--host", host, "--port", shared_service.port, "--workers", workers]
    done = run_imgcache(tmp_path, "serve", *options)
    assert_failed(done, str(shared_service.port), "--port")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a b"])
def test_an_address_of_another_machine_is_refused(run, host):
    """An address or a name that is not this machine's gives one sentence."""
    assert_failed(run("serve", "--port", "0", "--host", host), host, "--host")


# Which cache is served


def create_project(service, settings=""):
    """Create a Scrapy project in the working folder of a service."""
    (service.home / "scrapy.cfg").write_text("[settings]\ndefault = shop\n")
    (service.home / "shop.py").write_text(settings)


def count_captures(address, **options):
    """Return the number of captures in a cache."""
    with ImgCacheClient(str(address), **options) as client:
        return client.stats()["captures"]


def test_serve_in_a_project_serves_the_cache_of_its_crawls(stopped_service):
    """All worker processes serve the cache that the project's crawls use."""
    service = stopped_service
    create_project(service)
    folder = service.home / ".scrapy" / "imgcache"
    with ImgCacheClient(str(folder)) as client:
        client.store(URL, b"bytes", "me")
    service.options = ("--workers", "2")
    service.start()
    assert count_captures(service.url) == 1
    assert f"Cache: {folder} (of the Scrapy project {service.home})" in service.log
    assert not service.folder.exists()


def test_serve_in_a_project_needs_the_token_of_the_settings(stopped_service):
    """The token in the project's settings protects the service."""
    service = stopped_service
    create_project(service, "IMGCACHE_TOKEN = 'secret'\n")
    service.start()
    assert count_captures(service.url, token="secret") == 0
    with pytest.raises(UnauthorizedError):
        count_captures(service.url)
    assert "secret" not in service.log


def test_serve_in_a_project_with_a_service_asks_for_a_folder(stopped_service):
    """If the settings name a service, `serve` fails and asks for a folder."""
    service = stopped_service
    create_project(service, f"IMGCACHE_URL = {service.url!r}\n")
    done = run_imgcache(service.home, "serve", "--port", "0")
    assert_failed(done, service.url, str(service.home), "give the folder")
    service.options = ("named",)
    service.start()
    assert count_captures(service.url) == 0
    assert (service.home / "named" / "catalog.sqlite3").exists()


def test_serve_uses_a_folder_in_imgcache_url_and_ignores_an_address(stopped_service, tmp_path):
    """An address in IMGCACHE_URL is for clients, and does not prevent the start."""
    service = stopped_service
    service.environment = {"IMGCACHE_URL": service.url}
    service.start()
    assert f"Cache: {service.folder}\n" in service.log
    service.stop()
    service.environment = {"IMGCACHE_URL": str(tmp_path / "other")}
    service.start()
    assert count_captures(service.url) == 0
    assert (tmp_path / "other" / "catalog.sqlite3").exists()


def test_serve_refuses_an_address(run):
    """An address in the place of the folder is refused."""
    assert_failed(run("serve", "http://127.0.0.1:9"), "http://127.0.0.1:9", "folder")


def test_serve_without_the_extra_says_what_to_install(tmp_path):
    """Without the libraries of the `server` extra, the error is one sentence with the command."""
    script = (
        "import sys; sys.modules |= dict.fromkeys(['fastapi', 'uvicorn'])\n"
        "from imgcache_scrapy.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "serve"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    assert_failed(done, "pip install 'imgcache-scrapy[server]'", "fastapi, uvicorn")
    assert list(tmp_path.iterdir()) == []

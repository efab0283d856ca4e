"""What nobody may learn: neither from answers, nor from logs, nor from what a command says."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.support.commands import MAIN
from tests.support.service import Service, http_client, new_storage_environment
from tests.support.waiting import PATIENCE

TOKEN = "canary-token-3f1c"
PASSWORD = "canary-password-7a2e"
ACCESS = "canary-access-91bd"
SECRET = "canary-secret-55e0"
NOWHERE = "0" * 64
NO_PORT = "127.0.0.1:1"


class Ailing(Service):
    """A service of which it is enough that it answers at all."""

    def _answers(self, http):
        try:
            return http.get(f"{self.url}/health").status_code in {200, 503}
        except httpx.TransportError:
            return False


@pytest.fixture
def outgrown(tmp_path, postgresql, object_store):
    """Make a service on PostgreSQL and an object store whose address holds a password."""
    service = Ailing(tmp_path / "service")
    service.environment = new_storage_environment(postgresql, object_store) | {
        "IMGCACHE_TOKEN": TOKEN
    }
    database = service.environment["IMGCACHE_DATABASE_URL"]
    assert "postgres@" in database
    service.environment["IMGCACHE_DATABASE_URL"] = database.replace(
        "postgres@", f"postgres:{PASSWORD}@"
    )
    yield service
    service.stop()


def everything_said(service):
    """Ask for all there is, rightly and wrongly, and give all answers and the log."""
    said = []
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with http_client(service.url) as http:

        def ask(method, path, **options):
            answer = http.request(method, path, **options)
            said.append(f"{method} {path} {answer.status_code} {answer.headers} {answer.text}")

        form = {"data": {"url": "http://h.example/a", "client_name": "me"}}
        for given in (headers, {"Authorization": "Bearer wrong"}, {}):
            for path in (
                *("/health", "/stats", "/metrics", "/openapi.json", "/docs", "/no/such"),
                *("/images/lookup?url=http://h.example/a", "/images/search?url_contains=h"),
                f"/images/similar?perceptual_hash={'0' * 16}",
                *(f"/images/{NOWHERE}", f"/images/meta/{NOWHERE}", "/images/abc"),
            ):
                ask("GET", path, headers=given)
            ask("POST", "/images", files={"file": ("f", uuid4().bytes)}, headers=given, **form)
            ask("POST", "/images", headers=given, **form)
            ask("DELETE", f"/images/{NOWHERE}", headers=given)
    service.stop()
    return [*said, service.log]


def assert_silent(said, *secrets):
    for each in said:
        for secret in (TOKEN, PASSWORD, ACCESS, SECRET, *secrets):
            assert secret not in each


def status_of(said, request):
    """Give the statuses that a request had."""
    return {each.removeprefix(request).split()[0] for each in said if each.startswith(request)}


def test_a_service_that_works_tells_no_secret(outgrown, object_store):
    """Neither its token, nor where and with what it reaches the database and the store."""
    outgrown.start()
    said = everything_said(outgrown)
    assert status_of(said, "POST /images ") == {"201", "401", "422"}
    assert_silent(said, object_store.SECRET_KEY, object_store.ACCESS_KEY)


@pytest.mark.parametrize(
    "trouble",
    [
        {"AWS_SECRET_ACCESS_KEY": SECRET},
        {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET},
        {"AWS_ENDPOINT": f"http://{NO_PORT}"},
    ],
    ids=["wrong secret", "unknown key", "unreachable"],
)
def test_a_store_that_refuses_tells_no_secret(outgrown, object_store, trouble):
    """Every store fails with a sentence, which quotes neither a key nor a signature."""
    outgrown.environment |= trouble
    outgrown.start()
    said = everything_said(outgrown)
    assert "503" in status_of(said, "POST /images ")
    assert status_of(said, "GET /health ") == {"503"}
    secrets = (object_store.SECRET_KEY, object_store.ACCESS_KEY, "Signature", "AWS4")
    assert_silent(said, *secrets)


def test_a_lost_database_tells_no_secret(outgrown, postgresql):
    """The service goes on answering, and says no more than that it is lost."""
    outgrown.start()
    name = outgrown.environment["IMGCACHE_DATABASE_URL"].split("/")[3].split("?")[0]
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")
    said = everything_said(outgrown)
    assert "503" in status_of(said, "GET /stats ")
    assert_silent(said)


@pytest.mark.parametrize(
    "environment",
    [
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:{PASSWORD}@{NO_PORT}/cache"},
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:{PASSWORD}@no.such.invalid/cache"},
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:{PASSWORD}@h:port/cache"},
        {"IMGCACHE_DATABASE_URL": f"postgresql+nodriver://me:{PASSWORD}@h/cache"},
        {"IMGCACHE_DATABASE_URL": f"nonsense {PASSWORD}"},
        # A password with an @ and a colon that nobody quoted: its end reads as a port.
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:x@y:{PASSWORD}@h/cache"},
        {"IMGCACHE_BLOBS_URL": f"nonsense://me:{PASSWORD}@bucket"},
        {"IMGCACHE_BLOBS_URL": f"nonsense {PASSWORD}"},
        {"IMGCACHE_TOKEN": f"{TOKEN}-ö"},
    ],
    ids=range(9),
)
@pytest.mark.parametrize("command", ["serve", "stats"])
def test_a_command_that_fails_tells_no_secret(tmp_path, environment, command):
    """It ends with one sentence, and without the address that did not work."""
    (tmp_path / "imgcache").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MAIN, command, *(["--port", "0"] if command == "serve" else [])],
        cwd=tmp_path,
        env=os.environ | environment | {"PGCONNECT_TIMEOUT": "5"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    used, sentence = done.stderr.splitlines()
    assert used.startswith("Cache: ")
    assert sentence.startswith("imgcache: ")
    assert_silent([done.stderr, done.stdout])


def test_no_one_writes_lines_into_the_log(service):
    """Line breaks and colours in what comes neither forge a line nor reach a terminal."""
    forged = "\r\nINFO:     forged \x1b[31m\x1b]0;forged\x07"
    with http_client(service.url) as http:
        form = {"url": f"http://h.example/{forged}", "client_name": forged, "bucket": forged}
        file = {"file": (f"f{forged}", b"bytes", f"image/png{forged}".replace("\r\n", ""))}
        assert http.post("/images", data=form, files=file).status_code == 201
        catalog = sqlite3.connect(service.folder / "catalog.sqlite3")
        # What no datetime can hold: the service's log tells an unforeseen failure at length.
        with contextlib.closing(catalog), catalog:
            catalog.execute("UPDATE capture SET lookup_time = ?", (2**62,))
        query = {"url": form["url"], "bucket": forged}
        assert http.get("/images/lookup", params=query).status_code == 500
        assert http.get("/images/search", params={"url_contains": forged}).status_code == 500
        http.get(f"/{quote(forged)}", params=query, headers={"User-Agent": "\x1b[31mforged"})
    service.stop()
    assert "Traceback" in service.log
    assert "forged" not in service.log
    assert "\x1b" not in service.log

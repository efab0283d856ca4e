"""Secrets: they appear neither in answers, nor in logs, nor in the output of a command."""

import contextlib
import sqlite3
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.support.commands import run_imgcache
from tests.support.service import Service, http_client, new_storage_environment

TOKEN = "canary-token-3f1c"
PASSWORD = "canary-password-7a2e"
ACCESS = "canary-access-91bd"
SECRET = "canary-secret-55e0"
UNKNOWN_HASH = "0" * 64
NO_PORT = "127.0.0.1:1"


class UnhealthyService(Service):
    """A service that counts as started when it answers, also if it is unhealthy."""

    def _answers(self, http):
        try:
            return http.get(f"{self.url}/health").status_code in {200, 503}
        except httpx.TransportError:
            return False


@pytest.fixture
def service_with_secrets(tmp_path, postgresql, object_store):
    """Create a service on PostgreSQL and an object store, with a password in the database URL."""
    service = UnhealthyService(tmp_path / "service")
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


def all_output_of(service):
    """Send valid and invalid requests to every route; return all answers and the log."""
    output = []
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with http_client(service.url) as http:

        def ask(method, path, **options):
            answer = http.request(method, path, **options)
            output.append(f"{method} {path} {answer.status_code} {answer.headers} {answer.text}")

        form = {"data": {"url": "http://h.example/a", "client_name": "me"}}
        for sent in (headers, {"Authorization": "Bearer wrong"}, {}):
            for path in (
                *("/health", "/stats", "/metrics", "/openapi.json", "/docs", "/no/such"),
                *("/images/lookup?url=http://h.example/a", "/images/search?url_contains=h"),
                f"/images/similar?perceptual_hash={'0' * 16}",
                *(f"/images/{UNKNOWN_HASH}", f"/images/meta/{UNKNOWN_HASH}", "/images/abc"),
            ):
                ask("GET", path, headers=sent)
            ask("POST", "/images", files={"file": ("f", uuid4().bytes)}, headers=sent, **form)
            ask("POST", "/images", headers=sent, **form)
            ask("DELETE", f"/images/{UNKNOWN_HASH}", headers=sent)
    service.stop()
    return [*output, service.log]


def assert_no_secret(output, *secrets):
    """Assert that no text contains a secret."""
    for each in output:
        for secret in (TOKEN, PASSWORD, ACCESS, SECRET, *secrets):
            assert secret not in each


def statuses_of(output, request):
    """Return the statuses of the answers to a request."""
    return {each.removeprefix(request).split()[0] for each in output if each.startswith(request)}


def test_a_working_service_shows_no_secret(service_with_secrets, object_store):
    """A working service shows neither its token nor the credentials of its storage."""
    service_with_secrets.start()
    output = all_output_of(service_with_secrets)
    assert statuses_of(output, "POST /images ") == {"201", "401", "422"}
    assert_no_secret(output, object_store.SECRET_KEY, object_store.ACCESS_KEY)


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_SECRET_ACCESS_KEY": SECRET},
        {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET},
        {"AWS_ENDPOINT": f"http://{NO_PORT}"},
    ],
    ids=["wrong secret", "unknown key", "unreachable"],
)
def test_a_failing_object_store_shows_no_secret(service_with_secrets, object_store, environment):
    """The error for a failed store contains neither a key nor a signature."""
    service_with_secrets.environment |= environment
    service_with_secrets.start()
    output = all_output_of(service_with_secrets)
    assert "503" in statuses_of(output, "POST /images ")
    assert statuses_of(output, "GET /health ") == {"503"}
    secrets = (object_store.SECRET_KEY, object_store.ACCESS_KEY, "Signature", "AWS4")
    assert_no_secret(output, *secrets)


def test_a_lost_database_shows_no_secret(service_with_secrets, postgresql):
    """The service still answers, and reports only that the database failed."""
    service_with_secrets.start()
    name = service_with_secrets.environment["IMGCACHE_DATABASE_URL"].split("/")[3].split("?")[0]
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")
    output = all_output_of(service_with_secrets)
    assert "503" in statuses_of(output, "GET /stats ")
    assert_no_secret(output)


@pytest.mark.parametrize(
    "environment",
    [
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:{PASSWORD}@{NO_PORT}/cache"},
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:{PASSWORD}@no.such.invalid/cache"},
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:{PASSWORD}@h:port/cache"},
        {"IMGCACHE_DATABASE_URL": f"postgresql+nodriver://me:{PASSWORD}@h/cache"},
        {"IMGCACHE_DATABASE_URL": f"nonsense {PASSWORD}"},
        # An unquoted password with an @ and a colon: its end is parsed as a port.
        {"IMGCACHE_DATABASE_URL": f"postgresql+psycopg://me:x@y:{PASSWORD}@h/cache"},
        {"IMGCACHE_BLOBS_URL": f"nonsense://me:{PASSWORD}@bucket"},
        {"IMGCACHE_BLOBS_URL": f"nonsense {PASSWORD}"},
        {"IMGCACHE_TOKEN": f"{TOKEN}-ö"},
    ],
    ids=range(9),
)
@pytest.mark.parametrize("command", ["serve", "stats"])
def test_a_failing_command_shows_no_secret(tmp_path, environment, command):
    """The command ends with one sentence that does not contain the address."""
    (tmp_path / "imgcache").mkdir()
    words = [command, "--port", "0"] if command == "serve" else [command]
    done = run_imgcache(tmp_path, *words, env=environment | {"PGCONNECT_TIMEOUT": "5"})
    assert done.returncode == 1
    errors, output = done.stderr.decode(), done.stdout.decode()
    used, sentence = errors.splitlines()
    assert used.startswith("Cache: ")
    assert sentence.startswith("imgcache: ")
    assert_no_secret([errors, output])


def test_requests_cannot_forge_log_lines(service):
    """Line breaks and colours in a request are escaped in the log."""
    forged = "\r\nINFO:     forged \x1b[31m\x1b]0;forged\x07"
    with http_client(service.url) as http:
        form = {"url": f"http://h.example/{forged}", "client_name": forged, "bucket": forged}
        file = {"file": (f"f{forged}", b"bytes", f"image/png{forged}".replace("\r\n", ""))}
        assert http.post("/images", data=form, files=file).status_code == 201
        catalog = sqlite3.connect(service.folder / "catalog.sqlite3")
        # A time that no datetime can represent causes an unexpected failure with a long log entry.
        with contextlib.closing(catalog), catalog:
            catalog.execute("UPDATE capture SET lookup_time = ?", (-(2**62),))
        query = {"url": form["url"], "bucket": forged}
        assert http.get("/images/lookup", params=query).status_code == 500
        assert http.get("/images/search", params={"url_contains": forged}).status_code == 500
        http.get(f"/{quote(forged)}", params=query, headers={"User-Agent": "\x1b[31mforged"})
    service.stop()
    assert "Traceback" in service.log
    assert "forged" not in service.log
    assert "\x1b" not in service.log

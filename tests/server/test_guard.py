"""Whoever has no token, and whoever sends too much, too slowly or too often."""

import asyncio
import selectors
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import httpx
import psutil
import pytest
from starlette.exceptions import HTTPException

from imgcache_scrapy import (
    AsyncImgCacheClient,
    ImgCacheClient,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
)
from imgcache_scrapy.core.limits import MAX_BATCH_BYTES
from imgcache_scrapy.server.guard import BODY_SECONDS, MAX_BODY_BYTES, BodyLimitMiddleware
from imgcache_scrapy.server.protocol import LimitedHttpProtocol
from tests.support.forms import FORM, file, form, part
from tests.support.service import Service, http_client
from tests.support.waiting import PATIENCE, wait_until

TOKEN = "a-token-of-40-characters-or-more-or-less"
NOWHERE = "0" * 64
LIMIT = 100 * 2**20
# The service as it is, but with another patience.
SERVE = """
import os
import sys
from pathlib import Path

import uvicorn

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.server.app import create_app
from imgcache_scrapy.core.limits import MAX_BATCH_BYTES
from imgcache_scrapy.server.guard import BodyLimitMiddleware
from imgcache_scrapy.server.protocol import LimitedHttpProtocol


class Protocol(LimitedHttpProtocol):
    head_seconds = send_seconds = float(os.environ["SECONDS"])


app = create_app(ImageCache.in_folder(Path("imgcache")), owns_cache=True)
bounded = BodyLimitMiddleware(app, seconds=Protocol.head_seconds)
uvicorn.run(bounded, http=Protocol, port=int(sys.argv[3]), access_log=False)
"""
HEAD = b"POST /images HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\n" % FORM.encode()
STALLS = {
    "nothing": b"",
    "a head": HEAD,
    "a body": HEAD + b"Content-Length: 1000000\r\n\r\n" + file(b"x" * 50_000)[:-2],
    "a body of chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n",
    "a refused body": HEAD + b"Content-Length: 1000000\r\n\r\nno form",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Serve a cache that wants a token."""
    service = Service(tmp_path_factory.mktemp("guarded") / "service")
    service.environment = {"IMGCACHE_TOKEN": TOKEN}
    service.start()
    yield service
    service.stop()


@contextmanager
def serving(folder, seconds):
    """Serve a cache that waits this number of seconds for its clients."""
    service = Service(folder / "service")
    service.script, service.environment = SERVE, {"SECONDS": str(seconds)}
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """Serve a cache that waits for 2 seconds only."""
    with serving(tmp_path_factory.mktemp("hasty"), 2) as service:
        yield service


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """Serve a cache that waits longer than any of these tests takes."""
    with serving(tmp_path_factory.mktemp("patient"), 3600) as service:
        yield service


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def memory_of(service):
    """Give the resident bytes of all that a service runs."""
    process = psutil.Process(service.process.pid)
    return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])


# The token


def operations(service):
    """Give every method and path of a service, also those that its document leaves out."""
    with http_client(service.url, headers=bearer(TOKEN)) as http:
        paths = http.get("/openapi.json").json()["paths"]
    documented = {
        (method.upper(), path.format(content_hash=NOWHERE))
        for path, methods in paths.items()
        for method in methods
    }
    assert len(documented) > 10
    more = ("/docs", "/redoc", "/openapi.json", "/", "/no/such", "/health/", "/HEALTH", "//health")
    tricks = ("/health/../stats", "/health%2f..%2fstats", "/stats?/health", "/health;/stats")
    return documented - {("GET", "/health")} | {("GET", path) for path in more + tricks}


def test_without_the_token_only_health_is_open(guarded):
    """Every other route, there or not, is a 401 that says how to come in."""
    with http_client(guarded.url) as http:
        assert http.get("/health").json() == {"status": "ok"}
        for method, path in operations(guarded):
            answer = http.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "unauthorized"
            assert http.request(method, path, headers=bearer(TOKEN)).status_code != 401


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN} x",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN}, Bearer x",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer tökén".encode("latin-1"),
        b"Bearer \xff\xfe",
        "Bearer " + "a" * 50_000,
    ],
    ids=lambda header: str(header)[:30],
)
def test_a_wrong_token_is_none(guarded, header):
    """Empty, cut off, longer or of another scheme: nobody comes in with less than all of it."""
    with http_client(guarded.url) as http:
        answer = http.get("/stats", headers={"Authorization": header})
        assert answer.status_code == 401
        assert TOKEN not in answer.text


def test_a_token_travels_in_its_header_only(guarded):
    """A query or a cookie that names it, as might end in somebody's log, is not taken."""
    with http_client(guarded.url) as http:
        for more in ({"params": {"token": TOKEN}}, {"headers": {"Cookie": f"token={TOKEN}"}}):
            assert http.get("/stats", **more).status_code == 401


def test_the_scheme_has_no_case(guarded):
    """HTTP's schemes are written in any case."""
    with http_client(guarded.url) as http:
        for scheme in ("bearer", "BEARER"):
            answer = http.get("/stats", headers={"Authorization": f"{scheme} {TOKEN}"})
            assert answer.status_code == 200


async def test_our_clients_bear_it(guarded):
    """In both colours: with the token all works, with another one or none nothing does."""
    url = f"http://{uuid4().hex}.example/a"

    async def ask(token):
        async with AsyncImgCacheClient(guarded.url, token=token) as client:
            assert (await client.health())["status"] == "ok"
            return await client.lookup(url)

    with ImgCacheClient(guarded.url, token=TOKEN) as client:
        entry = client.store(url, url.encode(), "me")
        assert client.get_bytes(entry["content_hash"]) == url.encode()
    assert (await ask(TOKEN))["content_hash"] == entry["content_hash"]
    for token in (None, "", TOKEN[:-1]):
        with ImgCacheClient(guarded.url, token=token) as client:
            assert client.health()["status"] == "ok"
            for call in (
                lambda: client.store(url, b"bytes", "me"),
                lambda: client.get_bytes(entry["content_hash"]),
                lambda: client.delete(entry["content_hash"]),
                lambda: client.lookup_many([url]),
                client.stats,
                client.buckets,
            ):
                with pytest.raises(UnauthorizedError, match="token"):
                    call()
        with pytest.raises(UnauthorizedError):
            await ask(token)


def test_each_worker_wants_it(stopped_service):
    """The token reaches every process that answers."""
    stopped_service.options = ("--workers", "2", "--token", TOKEN)
    stopped_service.start()
    with http_client(stopped_service.url, headers={"Connection": "close"}) as http:
        assert {http.get("/stats").status_code for _ in range(20)} == {401}


# Bodies that are too large


def answered(connection):
    """Read all that a server says until it closes."""
    said = b""
    connection.settimeout(PATIENCE)
    try:
        while piece := connection.recv(2**16):
            said += piece
    except ConnectionResetError:
        # Closed while something was still on its way to it.
        pass
    return said


@pytest.mark.parametrize("declared", [b"Transfer-Encoding: chunked", b"Content-Length: 9999999999"])
def test_a_body_is_refused_while_it_is_read(patient, declared):
    """Beyond the limit comes a 413; the rest is waited for, and never kept."""
    first = file(b"")[:-2].ljust(2**20)
    before = memory_of(patient)
    with socket.create_connection(("127.0.0.1", patient.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(HEAD + declared + b"\r\n\r\n")
        for piece in [first] + [bytes(2**20)] * (MAX_BODY_BYTES // 2**20 - 1):
            connection.sendall(chunked(piece) if b"chunked" in declared else piece)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(PATIENCE)
        connection.sendall(chunked(b"x") if b"chunked" in declared else b"x")
        said = connection.recv(2**16)
        for _ in range(200):
            connection.sendall(chunked(bytes(2**20)) if b"chunked" in declared else bytes(2**20))
        assert memory_of(patient) - before < 2.5 * LIMIT
        connection.shutdown(socket.SHUT_WR)
        said += answered(connection)
    assert said.startswith(b"HTTP/1.1 413")
    assert said.endswith(b'bytes"}')


def chunked(piece):
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def test_a_form_is_whole_without_its_last_line_break(shared_service):
    """It belongs to what comes behind the form (RFC 2046, 5.1.1)."""
    url = f"http://{uuid4().hex}.example/a"
    body = form(file(b"x" * 2000), part("client_name", "me"), part("url", url))[:-2]
    with socket.create_connection(("127.0.0.1", shared_service.port)) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(2**16).startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 200 "))
    with ImgCacheClient(shared_service.url) as client:
        assert client.lookup(url) is not None


# Three are the last line break and a byte of the end before it.
@pytest.mark.parametrize("less", [3, 100, 1000])
def test_a_length_that_is_too_small_cuts_the_body_off(shared_service, less):
    """What comes behind it is not a part of the form, and nothing is stored."""
    url = f"http://{uuid4().hex}.example/a"
    body = form(file(b"x" * 2000), part("client_name", "me"), part("url", url))
    with socket.create_connection(("127.0.0.1", shared_service.port)) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) - less) + body)
        connection.shutdown(socket.SHUT_WR)
        assert b" 201 " not in answered(connection)
    with ImgCacheClient(shared_service.url) as client:
        assert client.lookup(url) is None


@pytest.mark.parametrize("more", [0, 1, 60 * 2**20])
def test_a_batch_has_a_limit_of_its_own(shared_service, more):
    """Less than an image's: nobody else is answered while JSON is read."""
    with http_client(shared_service.url) as http:
        body = b'{"urls": []}'.ljust(MAX_BATCH_BYTES + more)
        kind = {"Content-Type": "application/json"}
        answer = http.post("/images/lookup", content=body, headers=kind)
    if more:
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert str(MAX_BATCH_BYTES) in answer.json()["detail"]
    else:
        assert answer.json() == {"entries": {}}


@pytest.mark.parametrize("more", [1, 2**20, 60 * 2**20])
def test_our_client_says_too_large(patient, more):
    """However much larger: an error of its own, not a line that broke."""
    with (
        ImgCacheClient(patient.url, PATIENCE) as client,
        pytest.raises(TooLargeError, match=str(LIMIT)),
    ):
        client.store("http://h.example/large", bytes(LIMIT + more), "me")


# Heads without an end


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"a" * 2**16),
        (b"GET /health HTTP/1.1\r\nX: ", b"a" * 2**16),
        (b"GET /health HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
        (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10_000),
        (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a" * 2**16),
    ],
    ids=["a URL", "a header", "headers", "trailers", "an extension of a chunk"],
)
def test_a_head_without_an_end_is_cut_off(guarded, begin, more):
    """Nobody, with or without a token, makes the service keep what no route ever sees."""
    before = memory_of(guarded)
    endless = begin + more * (64 * 2**20 // len(more))
    with socket.create_connection(("127.0.0.1", guarded.port)) as connection:
        connection.settimeout(PATIENCE)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(endless)
    assert memory_of(guarded) - before < 32 * 2**20
    assert httpx.get(f"{guarded.url}/health", trust_env=False, timeout=PATIENCE).status_code == 200


def test_a_head_may_be_long(shared_service):
    """A URL of nearly 64 KiB can still be asked for, with a large cookie beside it."""
    line = b"GET /images/lookup?url=http://h/" + b"a" * 65_000 + b" HTTP/1.1\r\n"
    with socket.create_connection(("127.0.0.1", shared_service.port)) as connection:
        connection.sendall(line + b"X: " + b"a" * 50_000 + b"\r\nConnection: close\r\n\r\n")
        assert answered(connection).startswith(b"HTTP/1.1 404")


# Many that stall


def all_closed(sockets, *, drip=b""):
    """Wait until a server has closed all of these; give what it said on each."""
    said = dict.fromkeys(sockets, b"")
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            each.setblocking(False)
            selector.register(each, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            ready = selector.select(timeout=0.2)
            for key, _ in ready:
                try:
                    piece = key.fileobj.recv(2**16)
                except ConnectionError:
                    piece = b""
                said[key.fileobj] += piece
                if not piece:
                    selector.unregister(key.fileobj)
            if drip and not ready:
                for key in list(selector.get_map().values()):
                    try:
                        key.fileobj.send(drip)
                    except OSError:
                        continue
        assert not selector.get_map(), f"{len(selector.get_map())} are still open"
    return list(said.values())


def upload_many(service, count):
    """Make uploads, four at once."""

    def upload(number):
        return client.store(f"http://h.example/{uuid4().hex}", uuid4().bytes * 6_000, "me")

    with ImgCacheClient(service.url, PATIENCE) as client, ThreadPoolExecutor(4) as threads:
        assert all(entry["created"] for entry in threads.map(upload, range(count)))


@contextmanager
def stalled(service, opening):
    """Open 400 connections, send the same beginning on each, and nothing more."""
    sockets = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(400)]
    try:
        for each in sockets:
            each.sendall(opening)
        yield sockets
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("stall", STALLS)
def test_stalled_requests_hold_nobody_up(patient, stall):
    """While 400 send nothing more, and none of them is given up, uploads are served."""
    before = memory_of(patient)
    with stalled(patient, STALLS[stall]) as sockets:
        upload_many(patient, 40)
        assert memory_of(patient) - before < 128 * 2**20
        for each in sockets:
            each.setblocking(False)
            if stall == "a refused body":
                continue
            with pytest.raises(BlockingIOError):
                each.recv(1)


def assert_stalls_are_given_up(service, opening, drip=b""):
    """Let 400 stall, and others be served as well."""
    before = memory_of(service)
    with stalled(service, opening) as sockets:
        upload_many(service, 40)
        assert memory_of(service) - before < 128 * 2**20
        said = all_closed(sockets, drip=drip)
    if b"\r\n\r\n" in opening:
        status = b"422 Unprocessable" if b"no form" in opening else b"408 Request Timeout"
        assert all(answer.startswith(b"HTTP/1.1 " + status) for answer in said)
    else:
        assert not any(said)
    assert "Traceback" not in service.log
    with ImgCacheClient(service.url) as client:
        assert client.health()["status"] == "ok"


@pytest.mark.parametrize("stall", STALLS)
def test_stalled_requests_are_given_up(hasty, stall):
    """400 that send nothing more are closed, and nobody else waits."""
    assert_stalls_are_given_up(hasty, STALLS[stall])


@pytest.mark.parametrize("stall", ["a head", "a body", "a refused body"])
def test_dripping_requests_are_given_up(hasty, stall):
    """400 that send a byte now and then are closed as well, also behind an early answer."""
    assert_stalls_are_given_up(hasty, STALLS[stall], drip=b"a")


@pytest.mark.endurance
@pytest.mark.parametrize("stall", STALLS)
def test_the_real_service_gives_stalled_requests_up(service, stall):
    """The same, with the patience that the service really has."""
    assert max(BODY_SECONDS, LimitedHttpProtocol.head_seconds) < PATIENCE / 2
    assert_stalls_are_given_up(service, STALLS[stall])


def test_stalled_uploads_hold_a_bounded_share_of_the_memory(patient):
    """Of 30 that hold 30 MB each, those beyond the bound are refused; lookups go on."""
    before = memory_of(patient)
    head = HEAD + b"Content-Length: 99000000\r\n\r\n" + file(b"")[:-2]
    sockets = [socket.create_connection(("127.0.0.1", patient.port)) for _ in range(30)]
    try:
        for each in sockets:
            each.settimeout(PATIENCE)
            try:
                each.sendall(head + bytes(30_000_000))
            except ConnectionError:
                continue
            with ImgCacheClient(patient.url, PATIENCE) as client:
                assert client.lookup("http://h.example/nothing") is None
        refused = [each for each in sockets if is_refused(each)]
        assert 10 <= len(refused) <= 20
        assert memory_of(patient) - before < 1000 * 2**20
    finally:
        for each in sockets:
            each.close()
    wait_until_uploads_work(patient)
    with ImgCacheClient(patient.url) as client, pytest.raises(NotFoundError):
        client.get_bytes(NOWHERE)


def test_answers_that_nobody_takes_are_thrown_away(hasty):
    """Twenty that ask for a large image and read nothing are cut off, and their memory is free."""
    with ImgCacheClient(hasty.url) as client:
        content_hash = client.store("http://h.example/l", bytes(40_000_000), "me")["content_hash"]
        get = f"GET /images/{content_hash} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        sockets = [socket.create_connection(("127.0.0.1", hasty.port)) for _ in range(20)]
        for each in sockets:
            each.sendall(get)
        for each in sockets:
            each.settimeout(PATIENCE)
            assert each.recv(1, socket.MSG_PEEK)
        connections = psutil.Process(hasty.process.pid).net_connections
        wait_until(
            lambda: sum(c.status == psutil.CONN_ESTABLISHED for c in connections()) <= 1, 0.1
        )
        assert len(client.get_bytes(content_hash)) == 40_000_000
    for each in sockets:
        each.close()


def test_a_slow_reader_gets_all_of_it(hasty):
    """Who takes longer than the patience, but goes on taking, is served to the end."""
    with ImgCacheClient(hasty.url) as client:
        content_hash = client.store("http://h.example/l", bytes(40_000_000), "me")["content_hash"]
    get = f"GET /images/{content_hash} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
    size = 0
    with socket.create_connection(("127.0.0.1", hasty.port)) as connection:
        connection.sendall(get)
        while piece := connection.recv(1_000_000):
            size += len(piece)
            time.sleep(0.1)
    assert size > 40_000_000


async def test_a_body_that_is_too_large_gets_413_during_other_uploads():
    """It does not get 503, even if all bodies together are too large: a retry would not help."""
    ended = asyncio.Event()

    async def app(_scope, receive, _send):
        await receive()
        await ended.wait()

    limited = BodyLimitMiddleware(app)

    async def upload(size):
        async def receive():
            return {"type": "http.request", "body": bytes(size)}

        await limited({"type": "http", "path": "/images"}, receive, None)

    uploads = [asyncio.create_task(upload(LIMIT)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(HTTPException) as refused:
        await upload(MAX_BODY_BYTES + 1)
    ended.set()
    await asyncio.gather(*uploads)
    assert refused.value.status_code == 413


def is_refused(connection):
    connection.setblocking(False)
    try:
        return b" 503 " in connection.recv(2**16)
    except ConnectionError:
        return True
    except BlockingIOError:
        return False


def wait_until_uploads_work(service):
    """Store large images until the bound has forgotten those that hung up."""
    body = form(file(bytes(LIMIT)), part("client_name", "me"), part("url", "http://h.example/l"))
    with http_client(service.url) as http:
        kind = {"Content-Type": FORM}
        wait_until(lambda: http.post("/images", content=body, headers=kind).is_success)

"""The guard: tokens, and clients that send too much, too slowly or too often."""

import asyncio
import re
import selectors
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
    UnavailableError,
)
from imgcache_scrapy.core.limits import MAX_BATCH_BYTES
from imgcache_scrapy.server.guard import BODY_SECONDS, MAX_BODY_BYTES, BodyLimitMiddleware
from imgcache_scrapy.server.protocol import LimitedHttpProtocol
from tests.support.forking import REAL_CHILDREN
from tests.support.forms import FORM, file, form, part
from tests.support.service import Service, http_client
from tests.support.waiting import PATIENCE, wait_until

TOKEN = "a-token-of-40-characters-or-more-or-less"
UNKNOWN_HASH = "0" * 64
LIMIT = 100 * 2**20
# The real service with other timeouts.
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
    "header": HEAD,
    "body": HEAD + b"Content-Length: 1000000\r\n\r\n" + file(b"x" * 50_000)[:-2],
    "chunked body": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n",
    "refused body": HEAD + b"Content-Length: 1000000\r\n\r\nno form",
}
COUNTS = [100, pytest.param(400, marks=pytest.mark.endurance)]


@pytest.fixture(scope="module")
def protected_service(tmp_path_factory):
    """Serve a cache that needs a token."""
    service = Service(tmp_path_factory.mktemp("protected_service") / "service")
    service.environment = {"IMGCACHE_TOKEN": TOKEN, REAL_CHILDREN: "1"}
    service.start()
    yield service
    service.stop()


@contextmanager
def serving(folder, seconds):
    """Serve a cache with this timeout for slow clients, in seconds."""
    service = Service(folder / "service")
    service.script, service.environment = SERVE, {"SECONDS": str(seconds), REAL_CHILDREN: "1"}
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def short_timeout_service(tmp_path_factory):
    """Serve a cache with a timeout of 2 seconds."""
    with serving(tmp_path_factory.mktemp("short_timeout_service"), 2) as service:
        yield service


@pytest.fixture(scope="module")
def long_timeout_service(tmp_path_factory):
    """Serve a cache with a timeout that is longer than these tests."""
    with serving(tmp_path_factory.mktemp("long_timeout_service"), 3600) as service:
        yield service


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def memory_of(service):
    """Return the resident bytes of all processes of a service."""
    process = psutil.Process(service.process.pid)
    return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])


# The token


def operations(service):
    """Return every method and path of a service, and paths outside of its document."""
    with http_client(service.url, headers=bearer(TOKEN)) as http:
        paths = http.get("/openapi.json").json()["paths"]
    documented = {
        (method.upper(), path.format(content_hash=UNKNOWN_HASH))
        for path, methods in paths.items()
        for method in methods
    }
    assert len(documented) > 10
    more = ("/docs", "/redoc", "/openapi.json", "/", "/no/such", "/health/", "/HEALTH", "//health")
    tricks = ("/health/../stats", "/health%2f..%2fstats", "/stats?/health", "/health;/stats")
    return documented - {("GET", "/health"), ("HEAD", "/health")} | {
        ("GET", path) for path in more + tricks
    }


def test_without_the_token_only_health_is_open(protected_service):
    """Without the token every other path is a 401 with a challenge."""
    with http_client(protected_service.url) as http:
        assert http.get("/health").json()["status"] == "ok"
        assert (http.head("/health").status_code, http.head("/health").content) == (200, b"")
        for method, path in operations(protected_service):
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
def test_a_wrong_token_is_refused(protected_service, header):
    """A token that is empty, truncated, longer or of another scheme is refused."""
    with http_client(protected_service.url) as http:
        answer = http.get("/stats", headers={"Authorization": header})
        assert answer.status_code == 401
        assert TOKEN not in answer.text


def test_a_token_in_a_query_or_cookie_is_refused(protected_service):
    """The token is accepted only in its header, because URLs are logged."""
    with http_client(protected_service.url) as http:
        for more in ({"params": {"token": TOKEN}}, {"headers": {"Cookie": f"token={TOKEN}"}}):
            assert http.get("/stats", **more).status_code == 401


def test_the_scheme_is_case_insensitive(protected_service):
    """The scheme `Bearer` may be written in any case."""
    with http_client(protected_service.url) as http:
        for scheme in ("bearer", "BEARER"):
            answer = http.get("/stats", headers={"Authorization": f"{scheme} {TOKEN}"})
            assert answer.status_code == 200


async def test_our_clients_send_the_token(protected_service):
    """Both clients work with the token, and raise UnauthorizedError without it."""
    url = f"http://{uuid4().hex}.example/a"

    async def ask(token):
        async with AsyncImgCacheClient(protected_service.url, token=token) as client:
            assert (await client.health())["status"] == "ok"
            return await client.lookup(url)

    with ImgCacheClient(protected_service.url, token=TOKEN) as client:
        entry = client.store(url, url.encode(), "me")
        assert client.get_bytes(entry["content_hash"]) == url.encode()
    assert (await ask(TOKEN))["content_hash"] == entry["content_hash"]
    for token in (None, "", TOKEN[:-1]):
        with ImgCacheClient(protected_service.url, token=token) as client:
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


def test_each_worker_needs_the_token(stopped_service):
    """Every worker process refuses requests without the token."""
    stopped_service.options = ("--workers", "2", "--token", TOKEN)
    stopped_service.start()
    with http_client(stopped_service.url, headers={"Connection": "close"}) as http:
        assert {http.get("/stats").status_code for _ in range(20)} == {401}


# Bodies that are too large


def read_all(connection):
    """Read until a server closes the connection."""
    answer = b""
    connection.settimeout(PATIENCE)
    try:
        while piece := connection.recv(2**16):
            answer += piece
    except ConnectionResetError:
        # The server closed the connection before it had received everything.
        pass
    return answer


@pytest.mark.parametrize("declared", [b"Transfer-Encoding: chunked", b"Content-Length: 9999999999"])
def test_a_large_body_is_refused_while_it_is_read(long_timeout_service, declared):
    """A body over the limit gets a 413; the service reads the rest and does not keep it."""
    first = file(b"")[:-2].ljust(2**20)
    before = memory_of(long_timeout_service)
    with socket.create_connection(("127.0.0.1", long_timeout_service.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(HEAD + declared + b"\r\n\r\n")
        for piece in [first] + [bytes(2**20)] * (MAX_BODY_BYTES // 2**20 - 1):
            connection.sendall(chunked(piece) if b"chunked" in declared else piece)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(PATIENCE)
        connection.sendall(chunked(b"x") if b"chunked" in declared else b"x")
        answer = connection.recv(2**16)
        for _ in range(200):
            connection.sendall(chunked(bytes(2**20)) if b"chunked" in declared else bytes(2**20))
        assert memory_of(long_timeout_service) - before < 2.5 * LIMIT
        connection.shutdown(socket.SHUT_WR)
        answer += read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.endswith(b'bytes"}')


def chunked(piece):
    """Return a chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def test_a_form_is_complete_without_its_last_line_break(shared_service):
    """The last line break is not a part of the form (RFC 2046, 5.1.1)."""
    url = f"http://{uuid4().hex}.example/a"
    body = form(file(b"x" * 2000), part("client_name", "me"), part("url", url))[:-2]
    with socket.create_connection(("127.0.0.1", shared_service.port)) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(2**16).startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 200 "))
    with ImgCacheClient(shared_service.url) as client:
        assert client.lookup(url) is not None


# 3 bytes are the last line break and one byte of the final boundary.
@pytest.mark.parametrize("less", [3, 100, 1000])
def test_a_content_length_that_is_too_small_truncates_the_body(shared_service, less):
    """Bytes after the declared length are not a part of the form, and nothing is stored."""
    url = f"http://{uuid4().hex}.example/a"
    body = form(file(b"x" * 2000), part("client_name", "me"), part("url", url))
    with socket.create_connection(("127.0.0.1", shared_service.port)) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) - less) + body)
        connection.shutdown(socket.SHUT_WR)
        assert b" 201 " not in read_all(connection)
    with ImgCacheClient(shared_service.url) as client:
        assert client.lookup(url) is None


@pytest.mark.parametrize("more", [0, 1, 60 * 2**20])
def test_a_batch_has_its_own_size_limit(shared_service, more):
    """A batch lookup may be smaller than an image, because parsing JSON blocks other requests."""
    with http_client(shared_service.url) as http:
        body = b'{"urls": []}'.ljust(MAX_BATCH_BYTES + more)
        kind = {"Content-Type": "application/json"}
        answer = http.post("/images/lookup", content=body, headers=kind)
    if more:
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert str(MAX_BATCH_BYTES) in answer.json()["detail"]
    else:
        assert answer.json() == {"entries": {}, "failures": {}, "blocked": []}


@pytest.mark.parametrize("more", [1, 2**20, 60 * 2**20])
def test_our_client_raises_too_large(long_timeout_service, more):
    """The client raises TooLargeError, and not an error of a broken connection."""
    with (
        ImgCacheClient(long_timeout_service.url, PATIENCE) as client,
        pytest.raises(TooLargeError, match=str(LIMIT)),
    ):
        client.store("http://h.example/large", bytes(LIMIT + more), "me")


# Endless headers


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"a" * 2**16),
        (b"GET /health HTTP/1.1\r\nX: ", b"a" * 2**16),
        (b"GET /health HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
        (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10_000),
        (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a" * 2**16),
    ],
    ids=["URL", "header", "headers", "trailers", "chunk extension"],
)
def test_an_endless_header_closes_the_connection(protected_service, begin, more):
    """The service keeps a bounded part of an endless header, with or without a token."""
    before = memory_of(protected_service)
    endless = begin + more * (64 * 2**20 // len(more))
    with socket.create_connection(("127.0.0.1", protected_service.port)) as connection:
        connection.settimeout(PATIENCE)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(endless)
    assert memory_of(protected_service) - before < 32 * 2**20
    assert (
        httpx.get(f"{protected_service.url}/health", trust_env=False, timeout=PATIENCE).status_code
        == 200
    )


def test_a_long_header_is_accepted(shared_service):
    """A URL of nearly 64 KiB with a large header is answered."""
    line = b"GET /images/lookup?url=http://h/" + b"a" * 65_000 + b" HTTP/1.1\r\n"
    with socket.create_connection(("127.0.0.1", shared_service.port)) as connection:
        connection.sendall(line + b"X: " + b"a" * 50_000 + b"\r\nConnection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 404")


# Stalled connections


def wait_until_closed(sockets, *, drip=b""):
    """Wait until the server has closed all connections; return its answer on each."""
    answers = dict.fromkeys(sockets, b"")
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
                answers[key.fileobj] += piece
                if not piece:
                    selector.unregister(key.fileobj)
            if drip and not ready:
                for key in list(selector.get_map().values()):
                    try:
                        key.fileobj.send(drip)
                    except OSError:
                        continue
        assert not selector.get_map(), f"{len(selector.get_map())} are still open"
    return list(answers.values())


def upload_many(service, count):
    """Store images, four at once."""

    with ImgCacheClient(service.url, PATIENCE) as client, ThreadPoolExecutor(4) as threads:
        pictures = [uuid4().bytes * 6_000 for _ in range(count)]
        stored = list(threads.map(lambda data: store(client, data), pictures))
        assert len({entry["content_hash"] for entry in stored}) == count


def store(client, data):
    """Store bytes; repeat it, because a busy machine may send them too slowly for the service."""

    def stored():
        with suppress(UnavailableError):
            return client.store(f"http://h.example/{uuid4().hex}", data, "me")

    return wait_until(stored)


@contextmanager
def stalled(service, opening, count):
    """Open connections, and send only the first bytes of a request on each."""
    sockets = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(count)]
    try:
        for each in sockets:
            each.sendall(opening)
        yield sockets
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("stall", STALLS)
def test_stalled_requests_do_not_block_uploads(long_timeout_service, stall, count):
    """While many requests stall and none of them is closed, uploads succeed."""
    before = memory_of(long_timeout_service)
    with stalled(long_timeout_service, STALLS[stall], count) as sockets:
        upload_many(long_timeout_service, count // 10)
        assert memory_of(long_timeout_service) - before < 128 * 2**20
        for each in sockets:
            each.setblocking(False)
            if stall == "refused body":
                continue
            with pytest.raises(BlockingIOError):
                each.recv(1)


def assert_stalled_requests_are_closed(service, opening, count, drip=b""):
    """Assert that the service closes stalled requests and serves others meanwhile."""
    before = memory_of(service)
    with stalled(service, opening, count) as sockets:
        upload_many(service, count // 10)
        assert memory_of(service) - before < 128 * 2**20
        answers = wait_until_closed(sockets, drip=drip)
    if b"\r\n\r\n" in opening:
        status = b"422 Unprocessable" if b"no form" in opening else b"408 Request Timeout"
        assert all(answer.startswith(b"HTTP/1.1 " + status) for answer in answers)
    else:
        assert not any(answers)
    assert "Traceback" not in service.log
    with ImgCacheClient(service.url) as client:
        assert client.health()["status"] == "ok"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("stall", STALLS)
def test_stalled_requests_are_closed(short_timeout_service, stall, count):
    """The service closes stalled requests, and serves uploads meanwhile."""
    assert_stalled_requests_are_closed(short_timeout_service, STALLS[stall], count)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("stall", ["header", "body", "refused body"])
def test_slow_requests_are_closed(short_timeout_service, stall, count):
    """The service closes requests that send single bytes, also after an early answer."""
    assert_stalled_requests_are_closed(short_timeout_service, STALLS[stall], count, drip=b"a")


@pytest.mark.endurance
@pytest.mark.parametrize("stall", STALLS)
def test_the_real_service_closes_stalled_requests(service, stall):
    """The same test with the real timeouts of the service."""
    assert max(BODY_SECONDS, LimitedHttpProtocol.head_seconds) < PATIENCE / 2
    assert_stalled_requests_are_closed(service, STALLS[stall], 400)


def test_stalled_uploads_use_bounded_memory(long_timeout_service):
    """Uploads beyond the memory limit are refused, and lookups work meanwhile."""
    before = memory_of(long_timeout_service)
    head = HEAD + b"Content-Length: 99000000\r\n\r\n" + file(b"")[:-2]
    sockets = [
        socket.create_connection(("127.0.0.1", long_timeout_service.port)) for _ in range(30)
    ]
    try:
        for each in sockets:
            each.settimeout(PATIENCE)
            try:
                each.sendall(head + bytes(30_000_000))
            except ConnectionError:
                continue
            with ImgCacheClient(long_timeout_service.url, PATIENCE) as client:
                assert client.lookup("http://h.example/nothing") is None
        wait_until(lambda: sum(map(is_refused, sockets)) >= 10)
        assert sum(map(is_refused, sockets)) <= 20
        assert memory_of(long_timeout_service) - before < 1000 * 2**20
    finally:
        for each in sockets:
            each.close()
    wait_until_uploads_work(long_timeout_service)
    with ImgCacheClient(long_timeout_service.url) as client, pytest.raises(NotFoundError):
        client.get_bytes(UNKNOWN_HASH)


def test_answers_that_are_not_read_are_discarded(short_timeout_service):
    """Connections that do not read their answer are closed, and their memory is released."""
    with ImgCacheClient(short_timeout_service.url) as client:
        content_hash = store(client, bytes(40_000_000))["content_hash"]
        get = f"GET /images/{content_hash} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        sockets = [
            socket.create_connection(("127.0.0.1", short_timeout_service.port)) for _ in range(20)
        ]
        for each in sockets:
            each.sendall(get)
        for each in sockets:
            each.settimeout(PATIENCE)
            assert each.recv(1, socket.MSG_PEEK)
        connections = psutil.Process(short_timeout_service.process.pid).net_connections
        wait_until(
            lambda: sum(c.status == psutil.CONN_ESTABLISHED for c in connections()) <= 1, 0.1
        )
        assert len(client.get_bytes(content_hash)) == 40_000_000
    for each in sockets:
        each.close()


def assert_slow_reader_gets_all(service, piece_size, seconds):
    """Read a piece every 0.1 seconds for some time, then the rest; assert that it is complete."""
    with ImgCacheClient(service.url) as client:
        content_hash = store(client, bytes(40_000_000))["content_hash"]
    get = f"GET /images/{content_hash} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
    size, end = 0, time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(get)
        while time.monotonic() < end:
            size += len(connection.recv(piece_size))
            time.sleep(0.1)
        while piece := connection.recv(2**20):
            size += len(piece)
    assert size > 40_000_000


def test_a_slow_reader_gets_the_whole_answer(short_timeout_service):
    """A client that reads slowly, but continuously, gets the whole answer.

    The kernel takes the next bytes of the answer only when a megabyte of its buffer is free.
    """
    assert_slow_reader_gets_all(short_timeout_service, 20_000, 8)


@pytest.mark.endurance
def test_the_real_service_waits_for_slow_readers(service):
    """The same test with the real timeouts of the service, and with 20 KB/s."""
    assert_slow_reader_gets_all(service, 2_000, 3 * LimitedHttpProtocol.send_seconds)


def stalled_uploads():
    """Return an event that ends uploads, and a coroutine function that starts one of some size."""
    ended = asyncio.Event()

    async def app(_scope, receive, _send):
        await receive()
        await ended.wait()

    limited = BodyLimitMiddleware(app)

    async def upload(size):
        async def receive():
            return {"type": "http.request", "body": bytes(size)}

        await limited({"type": "http", "path": "/images"}, receive, None)

    return ended, upload


async def test_a_body_that_is_too_large_gets_413_during_other_uploads():
    """A body that is too large gets 413, not 503, because a retry cannot succeed."""
    ended, upload = stalled_uploads()
    uploads = [asyncio.create_task(upload(LIMIT)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(HTTPException) as refused:
        await upload(MAX_BODY_BYTES + 1)
    ended.set()
    await asyncio.gather(*uploads)
    assert refused.value.status_code == 413


async def test_small_uploads_have_memory_beside_large_ones():
    """Four stalled uploads take all the memory of large bodies, and small ones go on."""
    ended, upload = stalled_uploads()
    uploads = [asyncio.create_task(upload(LIMIT)) for _ in range(4)]
    uploads += [asyncio.create_task(upload(10**6)) for _ in range(20)]
    await asyncio.sleep(0)
    assert not any(upload.done() for upload in uploads)
    for size in (10**7, 2**21 + 1):
        with pytest.raises(HTTPException) as refused:
            await upload(size)
        assert refused.value.status_code == 503
    ended.set()
    await asyncio.gather(*uploads)


@pytest.mark.parametrize(
    ("count", "megabytes"), [(10, 100), pytest.param(60, 150, marks=pytest.mark.endurance)]
)
def test_many_requests_on_a_connection_that_is_not_read_cost_little(service, count, megabytes):
    """Clients send thousands of requests behind one whose answer they do not read."""
    with ImgCacheClient(service.url) as client:
        content_hash = store(client, bytes(10**7))["content_hash"]
    before = memory_of(service)
    requests = f"GET /images/{content_hash} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    requests += b"GET / HTTP/1.1\r\nHost:h\r\n\r\n" * 20_000
    sockets = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(count)]
    for each in sockets:
        each.setblocking(False)
        with suppress(BlockingIOError):
            each.send(requests)
    upload_many(service, 5)
    assert memory_of(service) - before < megabytes * 2**20
    for each in sockets:
        each.close()
    with http_client(service.url) as http:
        found = re.findall(r'_count\{.*status="404".*\} (\d+)', http.get("/metrics").text)
    # Only the requests are answered that may wait.
    assert sum(map(int, found)) <= 17 * count
    assert "Traceback" not in service.log


def test_some_requests_may_be_sent_before_the_first_answer(shared_service):
    """They are answered in their order."""
    paths = ["/health", "/nothing", "/stats", "/docs", "/images/lookup", "/health"]
    with socket.create_connection(("127.0.0.1", shared_service.port), PATIENCE) as connection:
        for path in paths:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := connection.recv(2**16):
            received += piece
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [
        *(b"200", b"404", b"200", b"200", b"422", b"200", b"200")
    ]


def is_refused(connection):
    """Return whether the service has answered 503 or closed the connection."""
    connection.setblocking(False)
    try:
        answer = connection.recv(2**16, socket.MSG_PEEK)
    except ConnectionError:
        return True
    except BlockingIOError:
        return False
    # A reset is told only once; after it, the answer is empty.
    return not answer or b" 503 " in answer


def wait_until_uploads_work(service):
    """Store large images until the service has released the memory of closed connections."""
    body = form(file(bytes(LIMIT)), part("client_name", "me"), part("url", "http://h.example/l"))
    with http_client(service.url) as http:
        kind = {"Content-Type": FORM}
        wait_until(lambda: http.post("/images", content=body, headers=kind).is_success)

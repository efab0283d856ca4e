"""The clients with dead, slow, broken and foreign services, many callers and unusual addresses."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from imgcache_scrapy import (
    AsyncImgCacheClient,
    ConfigurationError,
    ImgCacheClient,
    ImgCacheError,
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from imgcache_scrapy.core.errors import REFUSALS
from tests.support.waiting import PATIENCE, run_without_waiting

ROOT = Path(__file__).parents[2]
URL = "http://h.example/a.png"
HASH = "ab" * 32


class Server(ThreadingHTTPServer):
    """Answers every request by calling a function with the handler; the test closes it."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, answer):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def do_GET(self):
                answer(self)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


@pytest.fixture
def serve():
    """Return a function that starts a server, which answers by calling the given function."""
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Return a function that calls one method of a blocking or an awaited client.

    Its arguments are `address, method, *args, **options`.
    """

    def sync(address, method, *args, **options):
        with ImgCacheClient(address, **options) as client:
            return getattr(client, method)(*args)

    async def awaited(address, method, *args, **options):
        async with AsyncImgCacheClient(address, **options) as client:
            return await getattr(client, method)(*args)

    def run(*args, **options):
        return asyncio.run(awaited(*args, **options))

    return sync if request.param == "sync" else run


@pytest.fixture
def refused():
    """Return an address that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, so that no other program binds it; not listening
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def answer_with(status, body, content_type="application/json", headers=()):
    """Return a function that answers with this status and this body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(handler):
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(data)),
            **dict(headers),
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def never_answer(handler):
    """Wait for the client to close the connection, without an answer."""
    handler.connection.recv(1)


def send_an_endless_body(handler):
    """Send a header, and then an endless body, slowly."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    send_slowly(handler, b" ")


def send_an_endless_header(handler):
    """Send an endless header, slowly."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    send_slowly(handler, b"x")


def send_slowly(handler, byte):
    """Send this byte again and again."""
    while True:
        handler.wfile.write(byte)
        time.sleep(0.2)


def reset_in_the_body(handler):
    """Send half a body, and then reset the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"content_hash"')
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def close_in_the_body(handler):
    """Send half a body, and then close the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"content_hash"')
    handler.close_connection = True


def answer_without_http(handler):
    """Answer with another protocol than HTTP."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    handler.close_connection = True


def an_entry(url=URL, content_hash=HASH):
    """Return a complete entry."""
    return {
        "url": url,
        "content_hash": content_hash,
        "content_type": "image/png",
        "file_size_bytes": 1,
        "original_filename": None,
        "width": 1,
        "height": 1,
        "perceptual_hash": "0" * 16,
        "client_name": "me",
        "lookup_time": "2025-01-01T00:00:00+00:00",
        "created_at": "2025-01-01T00:00:00+00:00",
    }


def query_of(handler):
    """Return the query parameters of a request."""
    return {key: values[0] for key, values in parse_qs(urlsplit(handler.path).query).items()}


# No answer


def test_a_refused_connection_is_unavailable(ask, refused):
    """A refused connection raises UnavailableError with its cause."""
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        ask(refused, "lookup", URL)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


def test_a_cache_that_cannot_be_reached_is_named_without_its_password(ask, refused):
    """The error says which cache it is, so that a wrong address can be seen."""
    with pytest.raises(UnavailableError) as caught:
        ask(refused.replace("//", "//me:secret@"), "lookup", URL)
    assert refused in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answers", [True, False])
def test_https_at_a_service_without_tls_gives_a_hint(serve, shared_service, ask, answers):
    """The service sends what is no TLS, or closes the connection; the error names http://."""
    address = shared_service.url if answers else serve(close_in_the_body)
    with pytest.raises(UnavailableError, match="has no TLS, use http://"):
        ask(address.replace("http:", "https:"), "lookup", URL)


def test_https_that_is_refused_gives_no_hint(ask, refused):
    """Where nothing listens, http:// would not help."""
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        ask(refused.replace("http:", "https:"), "lookup", URL)
    assert "http://" not in str(caught.value)


@pytest.mark.parametrize("answer", [never_answer, send_an_endless_body, send_an_endless_header])
def test_the_timeout_is_a_deadline_for_the_whole_call(serve, ask, answer):
    """A service that never answers, or never ends its answer, takes no longer than the timeout."""
    before = time.monotonic()
    with pytest.raises(UnavailableError, match=r"within 0\.5 s") as caught:
        ask(serve(answer), "lookup", URL, timeout=0.5)
    assert time.monotonic() - before < PATIENCE
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize("answer", [reset_in_the_body, close_in_the_body, answer_without_http])
def test_a_broken_answer_is_unavailable(serve, ask, answer):
    """A connection that breaks during the answer raises UnavailableError."""
    with pytest.raises(UnavailableError) as caught:
        ask(serve(answer), "lookup", URL)
    assert isinstance(caught.value.__cause__, httpx.HTTPError)


def test_a_client_survives_a_restart_of_the_service(service):
    """After a restart of the service, the same client finds what was stored before."""
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
        service.stop()
        with pytest.raises(UnavailableError):
            client.lookup(URL)
        service.start()
        assert client.get_bytes(client.lookup(URL)["content_hash"]) == b"bytes"


# Wrong answers


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, ProtocolError),
        (400, InvalidRequestError),
        (401, UnauthorizedError),
        (403, UnauthorizedError),
        (405, ProtocolError),
        (413, TooLargeError),
        (418, ProtocolError),
        (422, InvalidRequestError),
        (429, UnavailableError),
        (500, UnavailableError),
        (502, UnavailableError),
        (503, UnavailableError),
    ],
)
def test_each_status_raises_its_error(serve, ask, status, error):
    """Each status raises its class of error; only a problem of the API refuses an image."""
    problem = {"code": "x", "status": status, "detail": "a sentence"}
    with pytest.raises(error, match=r"^a sentence$"):
        ask(serve(answer_with(status, problem)), "lookup", URL)
    error_of_proxy = ProtocolError if error in REFUSALS else error
    for body in (b"<html>sorry</html>", b'{"message": "sorry"}', b"[" * 100_000, b"\xff"):
        with pytest.raises(error_of_proxy, match=str(status)):
            ask(serve(answer_with(status, body, "text/html")), "lookup", URL)


@pytest.mark.parametrize("method", ["lookup", "get_meta"])
def test_only_a_404_of_the_api_is_a_miss(serve, ask, method):
    """A 404 of the API is a miss; a 404 of another server is an error."""
    argument = URL if method == "lookup" else HASH
    miss = answer_with(404, {"code": "not_found", "status": 404, "detail": "no image"})
    assert ask(serve(miss), method, argument) is None
    with pytest.raises(ProtocolError):
        ask(serve(answer_with(404, b"<html>404</html>", "text/html")), method, argument)


@pytest.mark.parametrize("method", ["get_bytes", "delete"])
def test_only_a_404_of_the_api_is_a_missing_image(serve, ask, method):
    """A 404 of the API raises NotFoundError, a 404 of another server ProtocolError."""
    with pytest.raises(NotFoundError, match=r"^no image$"):
        ask(serve(answer_with(404, {"detail": "no image"})), method, HASH)
    with pytest.raises(ProtocolError):
        ask(serve(answer_with(404, b"<html>404</html>", "text/html")), method, HASH)


def test_an_answer_without_json_is_a_protocol_error(serve, ask):
    """A web page raises ProtocolError, whose cause is the error of the JSON parser."""
    address = serve(answer_with(200, b"<html>welcome</html>", "text/html"))
    for method, argument in (
        ("lookup", URL),
        ("lookup_many", [URL]),
        ("search", "h"),
        ("similar", "0" * 16),
        ("get_meta", HASH),
    ):
        with pytest.raises(ProtocolError, match="is this the address of a cache") as caught:
            ask(address, method, argument)
        assert isinstance(caught.value.__cause__, json.JSONDecodeError)


@pytest.mark.parametrize(
    ("method", "argument", "bodies"),
    [
        ("lookup", URL, [None, 1, "text", [], {}, {"content_hash": "zz"}, [an_entry()]]),
        ("get_meta", HASH, [None, {}, {"content_hash": 5}]),
        ("search", "h", [{}, None, [1], [{}], [an_entry(), None]]),
        ("similar", "0" * 16, [{}, [None], [{"content_hash": HASH}]]),
        ("lookup_many", [URL], [[], {}, {"entries": []}, {"entries": {URL: None}}]),
        ("lookup_many", [URL], [{"entries": {URL: {"content_hash": "zz"}}}]),
        ("health", None, [[], "ok", None]),
        ("stats", None, [[], 5]),
    ],
)
def test_json_of_a_wrong_shape_is_a_protocol_error(serve, ask, method, argument, bodies):
    """JSON of a wrong shape raises ProtocolError, and no other exception."""
    for body in bodies:
        with pytest.raises(ProtocolError):
            ask(serve(answer_with(200, body)), method, *([] if argument is None else [argument]))


@pytest.mark.parametrize("missing", ["url", "perceptual_hash", "lookup_time"])
def test_an_incomplete_entry_is_a_protocol_error(serve, ask, missing):
    """An entry without a documented key raises ProtocolError."""
    entry = {key: value for key, value in an_entry().items() if key != missing}
    with pytest.raises(ProtocolError):
        ask(serve(answer_with(200, entry)), "lookup", URL)


def test_unknown_keys_are_ignored(serve, ask):
    """A later service may add keys to an entry."""
    found = ask(serve(answer_with(200, {**an_entry(), "colour": "blue"})), "lookup", URL)
    assert found["content_hash"] == HASH


def test_entries_for_other_urls_are_ignored(serve, ask):
    """A batch lookup returns only the URLs that the caller asked for."""
    body = {"entries": {"http://h.example/other": an_entry("http://h.example/other")}}
    assert ask(serve(answer_with(200, body)), "lookup_many", [URL]) == {}


def test_wrong_bytes_are_not_found(serve, ask):
    """Bytes that do not match the content hash raise NotFoundError."""
    with pytest.raises(NotFoundError, match="damaged"):
        ask(serve(answer_with(200, b"other bytes", "image/png")), "get_bytes", HASH)


def test_an_invalid_perceptual_hash_is_a_protocol_error(serve, ask):
    """The distance to an invalid perceptual hash cannot be computed."""
    address = serve(answer_with(200, [{**an_entry(), "perceptual_hash": "none"}]))
    with pytest.raises(ProtocolError, match="the answer is not an entry"):
        ask(address, "similar", "0" * 16)


def test_the_client_limits_and_sorts_a_list(serve, ask):
    """The reference service has neither `limit` nor `distance`; the client adds both."""
    far, near = an_entry(content_hash="1" * 64), an_entry(content_hash="2" * 64)
    far["perceptual_hash"] = "f" * 16
    near["perceptual_hash"] = "0" * 15 + "1"
    address = serve(answer_with(200, [far, near]))
    found = ask(address, "similar", "0" * 16, 64)
    assert [(entry["content_hash"], entry["distance"]) for entry in found] == [
        (near["content_hash"], 1),
        (far["content_hash"], 64),
    ]
    with ImgCacheClient(address) as client:
        assert len(client.similar("0" * 16, 64, limit=1)) == 1
        assert len(client.search("h", limit=1)) == 1


# Requests


@pytest.mark.parametrize(("token", "header"), [("s3cret", "Bearer s3cret"), (None, None)])
def test_the_token_is_sent_in_the_authorization_header(serve, ask, token, header):
    """Every call sends the token; without a token there is no such header."""
    headers_sent = []

    def answer(handler):
        headers_sent.append(handler.headers.get("Authorization"))
        answer_with(200, {"status": "ok"})(handler)

    ask(serve(answer), "health", token=token)
    assert headers_sent == [header]


def test_proxies_in_the_environment_are_ignored(ask, shared_service, refused, monkeypatch):
    """The client connects directly, although a proxy is configured for the web."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, refused)
        monkeypatch.setenv(name.lower(), refused)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(shared_service.url, "health")["status"] == "ok"


def test_redirects_are_not_followed(serve, ask):
    """A redirect raises ProtocolError, and the token is not sent to its target."""
    redirected = []

    def elsewhere(handler):
        redirected.append(handler.path)
        answer_with(200, an_entry())(handler)

    address = serve(answer_with(302, b"", headers={"Location": serve(elsewhere)}))
    with pytest.raises(ProtocolError):
        ask(address, "lookup", URL, token="s3cret")
    assert redirected == []


def test_a_path_in_the_address_is_kept(serve, ask):
    """A service below a path of a larger site works, with and without a trailing slash."""
    paths = []

    def answer(handler):
        paths.append(handler.path)
        answer_with(200, {"status": "ok"})(handler)

    address = serve(answer)
    for path in ("/cache", "/cache/"):
        ask(address + path, "health")
    assert paths == ["/cache/health"] * 2
    with ImgCacheClient(f"{address}/cache/") as client:
        assert client.serve_url(HASH) == f"{address}/cache/serve/{HASH}"


async def test_a_transport_can_be_given():
    """Both clients accept an httpx transport in place of the network."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json={"at": request.url.path})
    )
    with ImgCacheClient("http://cache", transport=transport) as client:
        assert client.health() == {"at": "/health"}
    async with AsyncImgCacheClient("http://cache", transport=transport) as client:
        assert await client.health() == {"at": "/health"}
        assert await asyncio.to_thread(client.sync.health) == {"at": "/health"}


# Addresses


@pytest.mark.parametrize(
    "address",
    ["ftp://cache/x", "s3://cache", "", "  ", "http://", "https:///x", "http://[::1", "http://h:x"],
)
def test_an_invalid_address_is_a_configuration_error(address):
    """A client with an invalid address cannot be created."""
    for client_type in (ImgCacheClient, AsyncImgCacheClient):
        with pytest.raises(ConfigurationError):
            client_type(address)


@pytest.mark.parametrize("token", ["tökén", "a\nb", "a\0b", 5, b"a"])
def test_an_invalid_token_is_a_configuration_error(token):
    """A client with a token that no HTTP header can contain cannot be created."""
    with pytest.raises(ConfigurationError):
        ImgCacheClient("http://127.0.0.1:9", token=token)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), True, "5"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "folder"])
def test_an_invalid_timeout_is_a_configuration_error(address, timeout):
    """A client whose calls would all fail cannot be created."""
    with pytest.raises(ConfigurationError, match="a timeout is a number of seconds above 0"):
        ImgCacheClient(address, timeout)


def test_a_path_and_a_file_url_name_the_same_cache(tmp_path, monkeypatch):
    """Paths with blanks and umlauts, relative or not, give the same folder."""
    folder = tmp_path / "ü cache"
    monkeypatch.chdir(tmp_path)
    with ImgCacheClient(folder.as_uri()) as client:
        client.store(URL, b"bytes", "me")
    for address in (folder, str(folder), "ü cache", "./ü cache", f"file://{tmp_path}/ü%20cache"):
        with ImgCacheClient(address) as client:
            assert client.lookup(URL) is not None


def test_a_file_in_place_of_the_folder_is_a_configuration_error(tmp_path, ask):
    """The embedded cache cannot create its folder where a file is, and the error says so."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="file"):
        ask(str(tmp_path / "file" / "cache"), "lookup", URL)


# Many callers


MANY_URLS = [f"http://h.example/{number}" for number in range(300)]


async def test_many_callers_share_a_few_connections(serve):
    """Of 300 concurrent calls at most 16 run at once, and each gets its own answer."""
    lock, active, peak, has_two = threading.Lock(), [0], [0], threading.Event()

    def answer(handler):
        with lock:
            active[0] += 1
            peak[0] = max(peak[0], active[0])
            if active[0] > 1:
                has_two.set()
        assert has_two.wait(PATIENCE)
        with lock:
            active[0] -= 1
        answer_with(200, an_entry(query_of(handler)["url"]))(handler)

    async with AsyncImgCacheClient(serve(answer), timeout=PATIENCE) as client:
        entries = await asyncio.gather(*map(client.lookup, MANY_URLS))
    assert [entry["url"] for entry in entries] == MANY_URLS
    assert 1 < peak[0] <= 16


def test_callers_that_wait_for_a_connection_do_not_time_out():
    """The deadline of a call starts when it has a connection; none of 300 calls fails."""

    async def answer(request):
        await asyncio.sleep(0.1)
        return httpx.Response(200, json=an_entry(request.url.params["url"]))

    async def look_up_all():
        loop = asyncio.get_running_loop()
        transport = httpx.MockTransport(answer)
        async with AsyncImgCacheClient("http://h", timeout=1.5, transport=transport) as client:
            before = loop.time()
            entries = await asyncio.gather(*map(client.lookup, MANY_URLS))
            return entries, loop.time() - before

    entries, took = run_without_waiting(look_up_all())
    assert [entry["url"] for entry in entries] == MANY_URLS
    assert took > 1.5


@pytest.mark.parametrize("refusal", [404, 405])
def test_without_the_batch_call_single_lookups_run_concurrently(serve, ask, refusal):
    """A service without the batch call gets single lookups, all at once."""
    urls = [f"http://h.example/{number}" for number in range(8)]
    barrier = threading.Barrier(len(urls))

    def answer(handler):
        if handler.command == "POST":
            answer_with(refusal, {"detail": "Not Found"})(handler)
            return
        barrier.wait(PATIENCE)
        url = query_of(handler)["url"]
        found = url != urls[3]
        answer_with(200 if found else 404, an_entry(url) if found else {"detail": "no"})(handler)

    found = ask(serve(answer), "lookup_many", urls)
    assert list(found) == urls[:3] + urls[4:]
    assert [entry["url"] for entry in found.values()] == list(found)


@pytest.mark.parametrize("refusal", [404, 405])
def test_the_batch_call_is_tried_once(serve, refusal):
    """A client tries the batch call once, and then uses single lookups."""
    commands = []

    def answer(handler):
        commands.append(handler.command)
        post = handler.command == "POST"
        answer_with(refusal if post else 200, {"detail": "x"} if post else an_entry())(handler)

    with ImgCacheClient(serve(answer)) as client:
        for _ in range(3):
            assert list(client.lookup_many([URL])) == [URL]
    assert commands == ["POST", "GET", "GET", "GET"]


def test_a_failing_single_lookup_fails_the_batch(serve, ask):
    """If one single lookup fails, lookup_many fails and returns no part of the result."""

    def answer(handler):
        if handler.command == "POST":
            answer_with(405, b"")(handler)
            return
        url = query_of(handler)["url"]
        answer_with(500 if url.endswith("/3") else 200, an_entry(url))(handler)

    urls = [f"http://h.example/{number}" for number in range(8)]
    with pytest.raises(UnavailableError):
        ask(serve(answer), "lookup_many", urls)


@pytest.mark.parametrize("transport", ["http", "embedded"])
def test_a_blocking_client_serves_many_threads(transport, shared_service, tmp_path):
    """Sixteen threads share one client, and each finds what it stored."""
    address = shared_service.url if transport == "http" else str(tmp_path / "cache")

    def work(thread):
        for turn in range(5):
            url, data = (
                f"http://{tmp_path.name}.{transport}/{thread}/{turn}",
                f"{thread} {turn}".encode(),
            )
            client.store(url, data, "me", bucket=transport)
            assert client.get_bytes(client.lookup(url)["content_hash"], bucket=transport) == data
        return thread

    with ImgCacheClient(address) as client, ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(16), timeout=PATIENCE)) == list(range(16))


async def test_a_blocking_client_works_inside_a_running_loop(tmp_path):
    """A function that is called by a coroutine may use a blocking client."""
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(URL, b"bytes", "me")
        assert client.lookup(URL)["file_size_bytes"] == 5


def test_an_awaited_client_has_a_blocking_client(tmp_path):
    """`.sync` is a client of the same cache and bucket, closed together with the awaited one."""
    before = set(threading.enumerate())

    async def use_both():
        async with AsyncImgCacheClient(str(tmp_path / "cache"), bucket="b") as client:
            await client.store(URL, b"bytes", "me")
            assert client.sync is client.sync
            return client.sync.lookup(URL), set(threading.enumerate()) - before

    # The threads of a loop end with it, so this test needs its own loop.
    entry, threads = asyncio.run(use_both())
    assert entry["bucket"] == "b"
    assert threads
    assert not any(thread.is_alive() for thread in threads)


def count_decoders():
    """Return the number of decoder programs that this process has started."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_bytes()
            count += parent == os.getpid() and b"imgcache_scrapy.engine.deco" in command
    return count


async def test_clients_of_one_folder_share_the_engine(tmp_path, photos, real_decoders):
    """A blocking and an awaited client share one engine, which ends with the last client."""
    folder, before = tmp_path / "cache", count_decoders()
    (one, first), (two, second), (three, third) = list(photos.items())[:3]
    async with AsyncImgCacheClient(str(folder)) as client:
        with ImgCacheClient(folder.as_uri()) as other:
            await client.store(f"http://h.example/{one}", first, "me")
            other.store(f"http://h.example/{two}", second, "me")
            assert count_decoders() == before + 1
            assert other.lookup(f"http://h.example/{one}")["file_size_bytes"] == len(first)
            assert (await client.lookup(f"http://h.example/{two}")) is not None
        await client.store(f"http://h.example/{three}", third, "me")
        assert count_decoders() == before + 1
        assert (await client.stats())["images"] == 3
    assert count_decoders() == before


# Closing


@pytest.mark.parametrize("address_kind", ["service", "folder"])
@pytest.mark.parametrize("client_type", ["ImgCacheClient", "AsyncImgCacheClient"])
def test_a_script_that_closes_no_client_ends(shared_service, tmp_path, address_kind, client_type):
    """The image is stored, and no thread prevents the interpreter from ending."""
    address = shared_service.url if address_kind == "service" else str(tmp_path / "cache")
    script = f"""
import asyncio, inspect
from imgcache_scrapy import {client_type}
client = {client_type}({address!r})
async def main():
    entry = client.store({URL!r}, b"bytes", "me", bucket="forgotten")
    return await entry if inspect.isawaitable(entry) else entry
print(asyncio.run(main())["content_hash"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    with ImgCacheClient(address) as client:
        assert client.get_bytes(done.stdout.strip(), bucket="forgotten") == b"bytes"


@pytest.mark.parametrize("used", [True, False])
async def test_a_closed_client_raises_an_error(tmp_path, used):
    """A call after the close raises ImgCacheError in both clients."""
    client = ImgCacheClient(str(tmp_path / "cache"))
    if used:
        client.health()
    client.close()
    try:
        with pytest.raises(ImgCacheError, match="closed"):
            client.health()
    finally:
        client.close()
    client = AsyncImgCacheClient(str(tmp_path / "cache"))
    if used:
        await client.health()
    await client.aclose()
    with pytest.raises(ImgCacheError, match="closed"):
        await client.health()


def test_a_close_ends_the_running_calls(serve):
    """Closing a client ends the calls of other threads with UnavailableError."""
    has_request = threading.Event()

    def answer(handler):
        has_request.set()
        never_answer(handler)

    client = ImgCacheClient(serve(answer), timeout=600)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.lookup, URL)
        assert has_request.wait(PATIENCE)
        client.close()
        with pytest.raises(UnavailableError):
            call.result(PATIENCE)

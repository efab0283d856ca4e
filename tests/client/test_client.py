"""The clients on bad roads: dead, slow, broken and foreign services, many callers, odd places."""

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
from tests.support.waiting import PATIENCE, run_without_waiting

ROOT = Path(__file__).parents[2]
URL = "http://h.example/a.png"
HASH = "ab" * 32


class Server(ThreadingHTTPServer):
    """Answers every request by a function of the handler; to be closed."""

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
    """Start servers, each from a function that answers by its request's handler."""
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Call one method of a client of either colour: `ask(address, method, *args, **options)`."""

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
    """Give an address where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, so that nobody else can, but not listening
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def says(status, body, content_type="application/json", headers=()):
    """Make an answer out of a status and a body."""
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


def hangs(handler):
    handler.connection.recv(1)


def drips_a_body(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    drip(handler, b" ")


def drips_a_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    drip(handler, b"x")


def drip(handler, byte):
    while True:
        handler.wfile.write(byte)
        time.sleep(0.2)


def resets(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"content_hash"')
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def breaks_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"content_hash"')
    handler.close_connection = True


def speaks_no_http(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    handler.close_connection = True


def an_entry(url=URL, content_hash=HASH):
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
    return {key: values[0] for key, values in parse_qs(urlsplit(handler.path).query).items()}


# No answer


def test_a_refused_connection_is_unavailable(ask, refused):
    """Nobody listens: the error says so and has its cause."""
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        ask(refused, "lookup", URL)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize("answer", [hangs, drips_a_body, drips_a_head])
def test_the_timeout_is_a_deadline_for_the_whole_call(serve, ask, answer):
    """A service that is silent, or never ends its answer, costs no more than the timeout."""
    before = time.monotonic()
    with pytest.raises(UnavailableError, match=r"within 0\.5 s") as caught:
        ask(serve(answer), "lookup", URL, timeout=0.5)
    assert time.monotonic() - before < PATIENCE
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize("answer", [resets, breaks_off, speaks_no_http])
def test_a_broken_answer_is_unavailable(serve, ask, answer):
    """A connection that breaks in mid-answer is no answer."""
    with pytest.raises(UnavailableError) as caught:
        ask(serve(answer), "lookup", URL)
    assert isinstance(caught.value.__cause__, httpx.HTTPError)


def test_a_service_that_comes_back_is_used_again(service):
    """One client outlives a restart of the service, and finds what was stored before."""
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
def test_a_status_stands_for_its_error(serve, ask, status, error):
    """Each status has its class, with a JSON problem and its sentence or with any other body."""
    problem = {"code": "x", "status": status, "detail": "a sentence"}
    with pytest.raises(error, match=r"^a sentence$"):
        ask(serve(says(status, problem)), "lookup", URL)
    with pytest.raises(error, match=str(status)):
        ask(serve(says(status, b"<html>sorry</html>", "text/html")), "lookup", URL)


@pytest.mark.parametrize("method", ["lookup", "get_meta"])
def test_only_a_json_not_found_is_a_miss(serve, ask, method):
    """The API's own 404 is a miss; some other server's is an error, or all would miss for ever."""
    argument = URL if method == "lookup" else HASH
    miss = says(404, {"code": "not_found", "status": 404, "detail": "no image"})
    assert ask(serve(miss), method, argument) is None
    with pytest.raises(ProtocolError):
        ask(serve(says(404, b"<html>404</html>", "text/html")), method, argument)


@pytest.mark.parametrize("method", ["get_bytes", "delete"])
def test_somebody_elses_not_found_is_no_missing_image(serve, ask, method):
    """Where an image must be, the API's 404 says it is missing, another one says nothing."""
    with pytest.raises(NotFoundError, match=r"^no image$"):
        ask(serve(says(404, {"detail": "no image"})), method, HASH)
    with pytest.raises(ProtocolError):
        ask(serve(says(404, b"<html>404</html>", "text/html")), method, HASH)


def test_an_answer_that_is_no_json_is_a_protocol_error(serve, ask):
    """A web page at the address is told as such, with what the JSON parser said."""
    address = serve(says(200, b"<html>welcome</html>", "text/html"))
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
def test_json_of_another_shape_is_a_protocol_error(serve, ask, method, argument, bodies):
    """JSON that is not what the method gets is never handed on, and never another exception."""
    for body in bodies:
        with pytest.raises(ProtocolError):
            ask(serve(says(200, body)), method, *([] if argument is None else [argument]))


@pytest.mark.parametrize("missing", ["url", "perceptual_hash", "lookup_time"])
def test_an_entry_without_its_keys_is_a_protocol_error(serve, ask, missing):
    """An entry that lacks a documented key would fail its reader later, so it fails here."""
    entry = {key: value for key, value in an_entry().items() if key != missing}
    with pytest.raises(ProtocolError):
        ask(serve(says(200, entry)), "lookup", URL)


def test_unknown_keys_are_ignored(serve, ask):
    """A later service may say more: the entry is read all the same."""
    found = ask(serve(says(200, {**an_entry(), "colour": "blue"})), "lookup", URL)
    assert found["content_hash"] == HASH


def test_entries_for_urls_that_were_not_asked_are_ignored(serve, ask):
    """A batch answers the caller's questions only."""
    body = {"entries": {"http://h.example/other": an_entry("http://h.example/other")}}
    assert ask(serve(says(200, body)), "lookup_many", [URL]) == {}


def test_wrong_bytes_are_not_found(serve, ask):
    """Bytes that are not the image's are never handed out."""
    with pytest.raises(NotFoundError, match="damaged"):
        ask(serve(says(200, b"other bytes", "image/png")), "get_bytes", HASH)


def test_a_perceptual_hash_that_is_no_number_is_no_answer_of_a_cache(serve, ask):
    """The distance to it cannot be computed."""
    address = serve(says(200, [{**an_entry(), "perceptual_hash": "none"}]))
    with pytest.raises(ProtocolError, match="the answer is not an entry"):
        ask(address, "similar", "0" * 16)


def test_a_list_is_cut_and_sorted_for_a_service_that_does_neither(serve, ask):
    """The reference service knows no `limit` and no `distance`: the client makes up for it."""
    far, near = an_entry(content_hash="1" * 64), an_entry(content_hash="2" * 64)
    far["perceptual_hash"] = "f" * 16
    near["perceptual_hash"] = "0" * 15 + "1"
    address = serve(says(200, [far, near]))
    found = ask(address, "similar", "0" * 16, 64)
    assert [(entry["content_hash"], entry["distance"]) for entry in found] == [
        (near["content_hash"], 1),
        (far["content_hash"], 64),
    ]
    with ImgCacheClient(address) as client:
        assert len(client.similar("0" * 16, 64, limit=1)) == 1
        assert len(client.search("h", limit=1)) == 1


# What goes out


@pytest.mark.parametrize(("token", "header"), [("s3cret", "Bearer s3cret"), (None, None)])
def test_the_token_is_sent_as_a_bearer(serve, ask, token, header):
    """With a token every call carries it, without one there is no such header."""
    seen = []

    def answer(handler):
        seen.append(handler.headers.get("Authorization"))
        says(200, {"status": "ok"})(handler)

    ask(serve(answer), "health", token=token)
    assert seen == [header]


def test_proxies_in_the_environment_are_ignored(ask, shared_service, refused, monkeypatch):
    """A cache is asked directly, whatever proxy the crawl's machine has for the web."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, refused)
        monkeypatch.setenv(name.lower(), refused)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(shared_service.url, "health")["status"] == "ok"


def test_redirects_are_not_followed(serve, ask):
    """A redirect is not the API's answer, and no token goes where it points."""
    asked = []

    def elsewhere(handler):
        asked.append(handler.path)
        says(200, an_entry())(handler)

    address = serve(says(302, b"", headers={"Location": serve(elsewhere)}))
    with pytest.raises(ProtocolError):
        ask(address, "lookup", URL, token="s3cret")
    assert asked == []


def test_a_path_in_the_address_is_kept(serve, ask):
    """A service behind a path of a larger site is reached there, with or without a slash."""
    paths = []

    def answer(handler):
        paths.append(handler.path)
        says(200, {"status": "ok"})(handler)

    address = serve(answer)
    for tail in ("/cache", "/cache/"):
        ask(address + tail, "health")
    assert paths == ["/cache/health"] * 2
    with ImgCacheClient(f"{address}/cache/") as client:
        assert client.serve_url(HASH) == f"{address}/cache/serve/{HASH}"


async def test_a_transport_can_be_given():
    """Both colours take an httpx transport in place of the network."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json={"at": request.url.path})
    )
    with ImgCacheClient("http://cache", transport=transport) as client:
        assert client.health() == {"at": "/health"}
    async with AsyncImgCacheClient("http://cache", transport=transport) as client:
        assert await client.health() == {"at": "/health"}


# Addresses


@pytest.mark.parametrize(
    "address",
    ["ftp://cache/x", "s3://cache", "", "  ", "http://", "https:///x", "http://[::1", "http://h:x"],
)
def test_an_address_that_is_none_is_a_configuration_error(address):
    """A client that could never work is not made."""
    for colour in (ImgCacheClient, AsyncImgCacheClient):
        with pytest.raises(ConfigurationError):
            colour(address)


@pytest.mark.parametrize("token", ["tökén", "a\nb", "a\0b"])
def test_a_token_that_no_header_can_carry_is_a_configuration_error(token):
    """A token that could never be sent is told when the client is made."""
    with pytest.raises(ConfigurationError):
        ImgCacheClient("http://127.0.0.1:9", token=token)


def test_a_path_and_a_file_url_name_the_same_cache(tmp_path, monkeypatch):
    """Paths with blanks and umlauts, relative or not, lead to one folder."""
    folder = tmp_path / "ü cache"
    monkeypatch.chdir(tmp_path)
    with ImgCacheClient(folder.as_uri()) as client:
        client.store(URL, b"bytes", "me")
    for address in (str(folder), "ü cache", "./ü cache", f"file://{tmp_path}/ü%20cache"):
        with ImgCacheClient(address) as client:
            assert client.lookup(URL) is not None


def test_a_folder_that_cannot_be_is_a_configuration_error(tmp_path, ask):
    """Where a file is in the way the embedded cache says what is wrong."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="file"):
        ask(str(tmp_path / "file" / "cache"), "lookup", URL)


# Many callers


MANY_URLS = [f"http://h.example/{number}" for number in range(300)]


async def test_many_callers_share_a_few_connections(serve):
    """Of 300 calls at once at most 16 are under way, and each gets its own answer."""
    lock, now, peak, two = threading.Lock(), [0], [0], threading.Event()

    def answer(handler):
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
            if now[0] > 1:
                two.set()
        assert two.wait(PATIENCE)
        with lock:
            now[0] -= 1
        says(200, an_entry(query_of(handler)["url"]))(handler)

    async with AsyncImgCacheClient(serve(answer), timeout=PATIENCE) as client:
        entries = await asyncio.gather(*map(client.lookup, MANY_URLS))
    assert [entry["url"] for entry in entries] == MANY_URLS
    assert 1 < peak[0] <= 16


def test_callers_beyond_the_connections_wait_without_timing_out():
    """The deadline starts with the connection: 300 calls take longer than it, and none fails."""

    async def answer(request):
        await asyncio.sleep(0.1)
        return httpx.Response(200, json=an_entry(request.url.params["url"]))

    async def look():
        loop = asyncio.get_running_loop()
        transport = httpx.MockTransport(answer)
        async with AsyncImgCacheClient("http://h", timeout=1.5, transport=transport) as client:
            before = loop.time()
            entries = await asyncio.gather(*map(client.lookup, MANY_URLS))
            return entries, loop.time() - before

    entries, took = run_without_waiting(look())
    assert [entry["url"] for entry in entries] == MANY_URLS
    assert took > 1.5


@pytest.mark.parametrize("refusal", [404, 405])
def test_without_the_batch_call_single_lookups_go_side_by_side(serve, ask, refusal):
    """A reference service is asked URL by URL at once: each lookup waits there for the others."""
    urls = [f"http://h.example/{number}" for number in range(8)]
    together = threading.Barrier(len(urls))

    def answer(handler):
        if handler.command == "POST":
            says(refusal, {"detail": "Not Found"})(handler)
            return
        together.wait(PATIENCE)
        url = query_of(handler)["url"]
        found = url != urls[3]
        says(200 if found else 404, an_entry(url) if found else {"detail": "no"})(handler)

    found = ask(serve(answer), "lookup_many", urls)
    assert list(found) == urls[:3] + urls[4:]
    assert [entry["url"] for entry in found.values()] == list(found)


@pytest.mark.parametrize("refusal", [404, 405])
def test_a_service_without_the_batch_call_is_remembered(serve, refusal):
    """The batch call is tried once per client, not once per crawl step."""
    commands = []

    def answer(handler):
        commands.append(handler.command)
        post = handler.command == "POST"
        says(refusal if post else 200, {"detail": "x"} if post else an_entry())(handler)

    with ImgCacheClient(serve(answer)) as client:
        for _ in range(3):
            assert list(client.lookup_many([URL])) == [URL]
    assert commands == ["POST", "GET", "GET", "GET"]


def test_a_failing_single_lookup_fails_the_batch(serve, ask):
    """Where the service fails there is no batch of half the answers."""

    def answer(handler):
        fails = handler.command == "GET" and query_of(handler)["url"].endswith("/3")
        says(405 if handler.command == "POST" else 500 if fails else 200, an_entry())(handler)

    urls = [f"http://h.example/{number}" for number in range(8)]
    with pytest.raises(UnavailableError):
        ask(serve(answer), "lookup_many", urls)


@pytest.mark.parametrize("road", ["http", "embedded"])
def test_a_blocking_client_serves_many_threads(road, shared_service, tmp_path):
    """Sixteen threads share one client, and each finds what it stored."""
    address = shared_service.url if road == "http" else str(tmp_path / "cache")

    def work(thread):
        for turn in range(5):
            url, data = (
                f"http://{tmp_path.name}.{road}/{thread}/{turn}",
                f"{thread} {turn}".encode(),
            )
            client.store(url, data, "me", bucket=road)
            assert client.get_bytes(client.lookup(url)["content_hash"], bucket=road) == data
        return thread

    with ImgCacheClient(address) as client, ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(16), timeout=PATIENCE)) == list(range(16))


async def test_a_blocking_client_works_inside_a_running_loop(tmp_path):
    """A plain function that is called from a coroutine may use it."""
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(URL, b"bytes", "me")
        assert client.lookup(URL)["file_size_bytes"] == 5


def test_an_awaited_client_has_a_blocking_one_beside_it(tmp_path):
    """`.sync` is a client of the same cache and bucket, and is closed with the awaited one."""
    before = set(threading.enumerate())

    async def both():
        async with AsyncImgCacheClient(str(tmp_path / "cache"), bucket="b") as client:
            await client.store(URL, b"bytes", "me")
            assert client.sync is client.sync
            return client.sync.lookup(URL), set(threading.enumerate()) - before

    # The threads of the loop end with the loop, so that this test needs one of its own.
    entry, threads = asyncio.run(both())
    assert entry["bucket"] == "b"
    assert threads
    assert not any(thread.is_alive() for thread in threads)


def decoders():
    """Count this process's decoder programs."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_bytes()
            count += parent == os.getpid() and b"imgcache_scrapy.engine.deco" in command
    return count


async def test_clients_of_one_folder_share_the_engine(tmp_path, photos):
    """Both colours at once have one engine, which ends with the last of them."""
    folder, before = tmp_path / "cache", decoders()
    (one, first), (two, second), (three, third) = list(photos.items())[:3]
    async with AsyncImgCacheClient(str(folder)) as client:
        with ImgCacheClient(folder.as_uri()) as other:
            await client.store(f"http://h.example/{one}", first, "me")
            other.store(f"http://h.example/{two}", second, "me")
            assert decoders() == before + 1
            assert other.lookup(f"http://h.example/{one}")["file_size_bytes"] == len(first)
            assert (await client.lookup(f"http://h.example/{two}")) is not None
        await client.store(f"http://h.example/{three}", third, "me")
        assert decoders() == before + 1
        assert (await client.stats())["images"] == 3
    assert decoders() == before


# Left open


@pytest.mark.parametrize("road", ["service", "folder"])
@pytest.mark.parametrize("colour", ["ImgCacheClient", "AsyncImgCacheClient"])
def test_a_script_that_forgets_to_close_ends_all_the_same(shared_service, tmp_path, road, colour):
    """What was stored is stored, and no thread keeps the interpreter from ending."""
    address = shared_service.url if road == "service" else str(tmp_path / "cache")
    script = f"""
import asyncio, inspect
from imgcache_scrapy import {colour}
client = {colour}({address!r})
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
async def test_a_closed_client_says_so(tmp_path, used):
    """A call after the close is an error of the cache's own tree, for both colours."""
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


def test_a_close_ends_the_calls_under_way(serve):
    """A thread that waits for an answer is not left waiting when another one closes the client."""
    asked = threading.Event()

    def answer(handler):
        asked.set()
        hangs(handler)

    client = ImgCacheClient(serve(answer), timeout=600)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.lookup, URL)
        assert asked.wait(PATIENCE)
        client.close()
        with pytest.raises(UnavailableError):
            call.result(PATIENCE)

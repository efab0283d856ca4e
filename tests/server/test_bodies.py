"""Bytes flow with back-pressure: clients that read nothing or slowly cost little memory."""

import asyncio
import socket
from contextlib import ExitStack

import psutil
import pytest
from starlette.exceptions import HTTPException

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import blob_key
from imgcache_scrapy.server.bodies import PART_BYTES, AnswerMemory, StreamedResponse, json_response
from tests.support.service import http_client
from tests.support.waiting import PATIENCE, wait_until

MB = 10**6


def memory_of(service):
    """Return the resident bytes of the process that serves."""
    return psutil.Process(service.process.pid).memory_info().rss


def store(service, data, url="http://h.example/a"):
    """Store bytes; return their content hash."""
    with ImgCacheClient(service.url, PATIENCE) as client:
        return client.store(url, data, "me")["content_hash"]


def ask(service, stack, path, count):
    """Send a request on each of many connections; wait until each has begun to answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    connections = [
        stack.enter_context(socket.create_connection(("127.0.0.1", service.port), PATIENCE))
        for _ in range(count)
    ]
    for each in connections:
        each.sendall(request)
    for each in connections:
        assert each.recv(15, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
    return connections


@pytest.mark.parametrize("size", [10 * MB, pytest.param(50 * MB, marks=pytest.mark.endurance)])
def test_clients_that_read_nothing_use_bounded_memory(service, size):
    """Sixty clients ask for a large image and read nothing; others are served meanwhile."""
    content_hash = store(service, bytes(size))
    small = store(service, b"small")
    before = memory_of(service)
    with ExitStack() as stack, http_client(service.url) as http:
        ask(service, stack, f"/images/{content_hash}", 60)
        assert http.get(f"/images/{small}").content == b"small"
        assert http.get(f"/images/{content_hash}").content == bytes(size)
        assert memory_of(service) - before < 150 * MB


def test_unread_images_of_a_common_size_use_bounded_memory(service):
    """Two hundred clients ask for images of 1 MB and read nothing; others are served meanwhile."""
    content_hash = store(service, bytes(MB))
    before = memory_of(service)
    with ExitStack() as stack, http_client(service.url) as http:
        ask(service, stack, f"/images/{content_hash}", 200)
        assert http.get(f"/images/{content_hash}").content == bytes(MB)
        assert memory_of(service) - before < 150 * MB


def test_unread_lists_use_bounded_memory(service):
    """Clients that do not read long lists are limited: further ones are told to try again."""
    with ImgCacheClient(service.url, PATIENCE) as client:
        for number in range(40):
            client.store(f"http://h.example/{number}/{'ä' * 8000}", b"%d" % number, "me")
    before = memory_of(service)
    request = b"GET /images/search?url_contains=h HTTP/1.1\r\nHost: h\r\n\r\n"
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), PATIENCE))
            for _ in range(50)
        ]
        statuses = set()
        for each in connections:
            each.sendall(request)
            statuses.add(each.recv(12, socket.MSG_PEEK)[-3:])
        assert statuses == {b"200", b"503"}
        assert memory_of(service) - before < 150 * MB
        with http_client(service.url) as http:
            assert http.get("/images/lookup?url=http://h.example/x").status_code == 404
            assert http.get("/images/search?url_contains=h&limit=1").status_code == 200
    # The memory is free again when the connections are closed.
    with ImgCacheClient(service.url, PATIENCE) as client:
        assert len(client.search("h")) == 40


def ask_for_lists(service, stack):
    """Store images; let clients ask for more lists than fit in the memory, and read nothing.

    Returns:
        The URLs of the images.
    """
    with ImgCacheClient(service.url, PATIENCE) as client:
        for number in range(40):
            client.store(f"http://h.example/{number}/{'ä' * 8000}", b"%d" % number, "me")
        urls = [entry["url"] for entry in client.search("h")]
    request = b"GET /images/search?url_contains=h HTTP/1.1\r\nHost: h\r\n\r\n"
    for _ in range(50):
        address = ("127.0.0.1", service.port)
        stack.enter_context(socket.create_connection(address, PATIENCE)).sendall(request)
    return urls


def test_lists_that_are_not_read_end_when_others_need_memory(service):
    """Others get their lists while the connections are still open."""
    with ExitStack() as stack:
        ask_for_lists(service, stack)
        wait_until(lambda: can_search(service))
    assert "Traceback" not in service.log


def test_lookups_have_memory_of_their_own(stopped_service):
    """They work while lists that are not read take all the memory for lists."""
    never = "from imgcache_scrapy.server import bodies\nbodies._STALLED_SECONDS = 10**9\n"
    stopped_service.script = never + stopped_service.script
    stopped_service.start()
    with ExitStack() as stack:
        urls = ask_for_lists(stopped_service, stack)
        wait_until(lambda: not can_search(stopped_service))
        with ImgCacheClient(stopped_service.url, PATIENCE) as client:
            assert set(client.lookup_many(urls)) == set(urls)


def can_search(service):
    with http_client(service.url) as http:
        return http.get("/images/search?url_contains=h").status_code == 200


@pytest.mark.parametrize("position", [0, 5 * MB, 10 * MB - 1])
def test_a_large_damaged_image_is_a_404(service, position):
    """Its bytes are checked before the answer begins, and it is a miss from then on."""
    content_hash = store(service, bytes(10 * MB))
    path = service.folder / "blobs" / blob_key(content_hash)
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"x")
    with http_client(service.url) as http:
        for headers in ({}, {"Range": "bytes=0-0"}):
            answer = http.get(f"/images/{content_hash}", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert http.get("/images/lookup?url=http://h.example/a").status_code == 404


@pytest.mark.parametrize("damage", ["changed", "truncated", "deleted"])
def test_an_image_that_is_damaged_while_it_is_sent_is_not_completed(service, damage):
    """The connection is closed before the last bytes, so that no client takes it for whole."""
    content_hash = store(service, bytes(10 * MB))
    path = service.folder / "blobs" / blob_key(content_hash)
    with ExitStack() as stack:
        (connection,) = ask(service, stack, f"/images/{content_hash}", 1)
        with path.open("r+b") as file:
            if damage == "changed":
                file.seek(-1, 2)
                file.write(b"x")
            elif damage == "truncated":
                file.truncate(10 * MB - 1)
            else:
                path.unlink()
        size = 0
        while piece := connection.recv(2**20):
            size += len(piece)
        assert size < 10 * MB
    assert "Traceback" not in service.log
    with http_client(service.url) as http:
        assert http.get("/health").status_code == 200


def test_a_client_that_goes_away_ends_its_answer(service):
    """The service stops to read an image when its client has closed the connection."""
    content_hash = store(service, bytes(40 * MB))
    for _ in range(30):
        with ExitStack() as stack:
            ask(service, stack, f"/images/{content_hash}", 1)
    with http_client(service.url) as http:
        assert len(http.get(f"/images/{content_hash}").content) == 40 * MB
    service.stop()
    assert "Traceback" not in service.log


# The memory of answers


def test_memory_is_reserved_up_to_a_limit():
    """Beyond the limit nothing is reserved, and a JSON answer is a 503 until memory is free."""
    memory = AnswerMemory()
    assert memory.reserve(30 * 2**20)
    assert not memory.reserve(5 * 2**20)
    with pytest.raises(HTTPException) as refused:
        json_response(memory, bytes(5 * 2**20), {})
    assert refused.value.status_code == 503
    memory.release(30 * 2**20)
    assert json_response(memory, bytes(5 * 2**20), {}).status_code == 200


class Unread:
    """The answers of clients that read nothing."""

    def __init__(self, memory, parts, count):
        self.task = asyncio.gather(
            *(
                StreamedResponse(memory, parts(), 10, headers={}, media_type="a/b")(
                    {"type": "http", "method": "GET"}, asyncio.Event().wait, self._send
                )
                for _ in range(count)
            )
        )
        self.begun = asyncio.Semaphore(0)

    async def _send(self, message):
        if message["type"] == "http.response.body":
            self.begun.release()
            await asyncio.Event().wait()


async def test_answers_end_that_are_not_read_while_others_wait(monkeypatch):
    """Their parts are free for others; without others they go on."""
    monkeypatch.setattr("imgcache_scrapy.server.bodies._STALLED_SECONDS", 0.5)
    memory = AnswerMemory()

    async def parts():
        yield b"part"

    unread = Unread(memory, lambda: memory.limited(parts()), 256)
    for _ in range(256):
        await unread.begun.acquire()
    assert not unread.task.done()
    other = memory.limited(parts())
    assert await asyncio.wait_for(anext(other), PATIENCE) == b"part"
    await other.aclose()
    await asyncio.wait_for(unread.task, PATIENCE)


async def test_an_answer_that_is_read_goes_on_while_others_wait(monkeypatch):
    """Only the answers end whose clients have read nothing for long."""
    monkeypatch.setattr("imgcache_scrapy.server.bodies._STALLED_SECONDS", 1)
    memory = AnswerMemory()
    assert memory.reserve(2**20)
    async with memory.sending() as note_read:
        for _ in range(20):
            await asyncio.sleep(0.1)
            note_read()
            await memory.make_room(32 * 2**20)


async def test_an_answer_that_is_not_read_ends_if_others_need_its_memory(monkeypatch):
    """A client that reads later sees that its answer is not complete."""
    monkeypatch.setattr("imgcache_scrapy.server.bodies._STALLED_SECONDS", 0.1)
    memory = AnswerMemory()
    assert memory.reserve(2**20)

    async def stall():
        async with memory.sending():
            await asyncio.Event().wait()

    unread = asyncio.create_task(stall())
    await asyncio.sleep(0.2)
    await memory.make_room(2**20)
    assert not unread.done()
    await memory.make_room(32 * 2**20)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(unread, PATIENCE)


async def test_parts_wait_while_too_many_are_in_memory():
    """Each further part is read when one before it is sent."""
    memory = AnswerMemory()

    async def parts():
        while True:
            yield bytes(1)

    streams = [memory.limited(parts()) for _ in range(300)]
    started = [asyncio.create_task(anext(stream)) for stream in streams]
    _, waiting = await asyncio.wait(started, timeout=0.1)
    assert waiting
    assert 0 < (300 - len(waiting)) * PART_BYTES <= 32 * 2**20
    done = [stream for stream, task in zip(streams, started, strict=True) if task.done()]
    for stream in done:
        await stream.aclose()
    await asyncio.gather(*started)
    for stream in streams:
        await stream.aclose()

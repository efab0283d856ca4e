"""The client with services that lie: a wrong answer is an error, never a wrong image."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from imgcache_scrapy import ImgCacheClient, NotFoundError, ProtocolError, UnavailableError
from tests.support.lies import BYTES_LIES, LOOKUP_LIES, REFUSAL, STORE_LIES, lying
from tests.support.pictures import jpeg

# The largest answers have this size, besides what the network buffers.
_READ_AT_MOST = 32 * 2**20


@pytest.fixture
def liar(shared_service):
    """Serve lies about the cache of the shared service."""
    with lying(shared_service.url) as liar:
        yield liar


@pytest.mark.parametrize("lie", LOOKUP_LIES)
def test_a_lie_about_a_url_is_no_entry(liar, site, lie):
    """A lookup with a wrong answer raises an error, one by one and for many URLs."""
    urls = [f"{site}/{number}.jpg" for number in range(2)]
    with ImgCacheClient(liar.url) as client:
        entries = [client.store(url, jpeg(hash(url) % 2**32), "me") for url in urls]
        liar.lies["lookup"] = LOOKUP_LIES[lie]
        for ask in (lambda: client.lookup_many(urls), lambda: client.lookup(urls[0])):
            try:
                found = ask()
            except (ProtocolError, UnavailableError):
                continue
            # A large size may be right, and the single lookup has no other URL to confuse.
            assert lie in {"a large size", "entries of other URLs"}
            assert (found.get("url") or found[urls[0]]["url"]) == urls[0]
    assert liar.sent < _READ_AT_MOST
    assert len({entry["content_hash"] for entry in entries}) == 2


@pytest.mark.parametrize("lie", STORE_LIES)
def test_a_lie_about_a_store_is_an_error(liar, site, lie):
    """A store with a wrong answer raises an error that does not say that the image is bad."""
    liar.lies["store"] = STORE_LIES[lie]
    with ImgCacheClient(liar.url) as client, pytest.raises((ProtocolError, UnavailableError)):
        client.store(f"{site}/a.jpg", jpeg(hash(site) % 2**32), "me")
    assert liar.sent < _READ_AT_MOST


def test_a_refused_lookup_refuses_no_image(liar, site):
    """A store of a large image first asks what the service can; no image was sent with that."""
    liar.lies["lookup"] = REFUSAL
    with ImgCacheClient(liar.url) as client, pytest.raises(ProtocolError):
        client.store(f"{site}/a.jpg", bytes(2**17), "me")


@pytest.mark.parametrize("lie", BYTES_LIES)
def test_a_lie_about_bytes_is_no_image(liar, site, lie):
    """Wrong bytes raise an error; no more bytes are read than an image may have."""
    with ImgCacheClient(liar.url) as client:
        entry = client.store(f"{site}/a.jpg", jpeg(hash(site) % 2**32), "me")
        liar.lies["bytes"] = BYTES_LIES[lie]
        with pytest.raises((ProtocolError, NotFoundError)):
            client.get_bytes(entry["content_hash"])
    assert liar.sent < 150 * 2**20


def test_a_known_image_may_have_another_url(liar, site):
    """The reference service returns the URL of the first store of an image."""
    data = jpeg(hash(site) % 2**32)
    with ImgCacheClient(liar.url) as client:
        client.store(f"{site}/a.jpg", data, "me")
        liar.lies["store"] = STORE_LIES["another URL"]
        assert client.store(f"{site}/b.jpg", data, "me")["created"] is False


@contextmanager
def endless(head: bytes) -> Iterator[str]:
    """Serve a head again and again as the answer to any request; yield the URL."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(2**16)
            with suppress(ConnectionError):
                while True:
                    self.request.sendall(head * 1000)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("line", ["100 Continue", "103 Early Hints", "199 Other"])
def test_endless_heads_before_an_answer_are_not_read(line):
    """Any number of such heads may come before the answer; they are no answer themselves."""
    with endless(f"HTTP/1.1 {line}\r\n\r\n".encode()) as url, ImgCacheClient(url) as client:
        for _ in range(2):
            with pytest.raises(ProtocolError, match="endless"):
                client.lookup("http://h.example/a.jpg")

"""The log of the service: a client cannot fill it."""

import logging
import socket
import time
from contextlib import closing, suppress

from imgcache_scrapy.server.protocol import RareLines
from tests.support.service import http_client
from tests.support.waiting import PATIENCE

MALFORMED = [
    b"no http at all\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /images HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
]


def test_malformed_requests_do_not_fill_the_log(service):
    """Hundreds of malformed requests leave a line in ten seconds, and no traceback."""
    lines_before = len(service.log.splitlines())
    start = time.monotonic()
    for _ in range(30):
        for request in MALFORMED:
            with closing(socket.create_connection(("127.0.0.1", service.port), PATIENCE)) as each:
                each.sendall(request)
                each.shutdown(socket.SHUT_WR)
                while each.recv(2**16):
                    continue
    with http_client(service.url) as http:
        assert http.get("/health").status_code == 200
    lines = service.log.splitlines()[lines_before:]
    assert lines
    assert len(lines) <= 1 + (time.monotonic() - start) / 10
    assert "Traceback" not in service.log


def test_malformed_forms_leave_no_line(service):
    """The answer to each form says what is wrong with it."""
    log_before = service.log
    with http_client(service.url) as http:
        for body in (b"--x", b"--x\n", b"--y\r\n", b"--x\r\n:\r\n\r\n", b"--x--\r\n--x\r\n"):
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            assert http.post("/images", content=body, headers=kind).status_code == 422
    assert service.log == log_before


def test_a_line_says_how_many_were_left_out():
    """Only warnings of the protocol are rare; everything else is logged."""
    now = 0
    rare = RareLines(lambda: now)

    def log(level=logging.WARNING, module="httptools_impl", text="Invalid."):
        record = logging.LogRecord("uvicorn.error", level, module, 1, text, (), None)
        record.module = module
        return record.getMessage() if rare.filter(record) else None

    assert [log() for _ in range(4)] == ["Invalid.", None, None, None]
    assert log(logging.ERROR) == log(module="server") == "Invalid."
    assert log(logging.ERROR, text="It returned without completing response.") is None
    now = 10
    assert log() == "Invalid. (4 such warnings were left out)"
    assert log() is None
    now = 20
    assert log() == "Invalid. (1 such warnings were left out)"


def test_a_malformed_request_does_not_damage_the_answer_before_it(service, site):
    """The connection is closed, because the answer to the first request is under way."""
    with http_client(service.url) as http:
        form = {"url": site, "client_name": "me"}
        entry = http.post("/images", data=form, files={"file": bytes(10**7)}).json()
    with closing(socket.create_connection(("127.0.0.1", service.port), PATIENCE)) as connection:
        path = f"/images/{entry['content_hash']}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert connection.recv(15, socket.MSG_PEEK) == b"HTTP/1.1 200 OK"
        connection.sendall(b"no http at all\r\n\r\n")
        received = b""
        with suppress(ConnectionError):
            while piece := connection.recv(2**20):
                received += piece
        assert len(received) < 10**7
        assert b"Invalid" not in received
    assert "Traceback" not in service.log

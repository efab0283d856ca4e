"""Pictures that are made to hurt, or were damaged, posted to a running service."""

import re
import struct
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from threading import Event, Lock, Thread
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from imgcache_scrapy.engine.decoding.child import info_of
from imgcache_scrapy.engine.decoding.decoders import CHILDREN
from tests.support.bombs import BOMBS, SLOW, bombs, damaged
from tests.support.forking import REAL_CHILDREN
from tests.support.pictures import encoded
from tests.support.service import Service, http_client
from tests.support.waiting import PATIENCE

AT_A_TIME = 16
ORDINARY = encoded(Image.effect_noise((400, 300), 50), "JPEG")
FACTS = ("width", "height", "perceptual_hash")
endurance = pytest.mark.endurance


@pytest.fixture
def stopped_service(stopped_service: Service) -> Service:
    """Return a service whose decoders are its own children, so that their memory counts."""
    stopped_service.environment[REAL_CHILDREN] = "1"
    return stopped_service


def processes(pid: int) -> Iterator[int]:
    """Give a process and all that it started."""
    yield pid
    with suppress(OSError):  # it, or one of its threads, has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from processes(int(child))


def memory(service: Service) -> int:
    """Give what a service and its children hold, in bytes."""
    assert service.process is not None
    total = 0
    for pid in processes(service.process.pid):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has just ended
            continue
        total += sum(int(kb) * 1024 for kb in re.findall(r"VmRSS:\s+(\d+) kB", status))
    return total


@contextmanager
def most_memory(service: Service) -> Iterator[list[int]]:
    """Watch the memory of a service; the most that it held is in the list afterwards."""
    done, samples = Event(), [memory(service)]

    def watch() -> None:
        while not done.wait(0.02):
            samples.append(memory(service))

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        done.set()
        watcher.join()


class Posted(NamedTuple):
    """A picture that was posted, what came back, and after how many seconds."""

    data: bytes
    answer: httpx.Response
    seconds: float


def post(http: httpx.Client, data: bytes) -> Posted:
    """Post a picture under a new URL, with bytes at its end that make it another one."""
    form = {"url": f"http://{uuid4().hex}.example/a.png", "client_name": "me"}
    data += uuid4().bytes
    files = {"file": ("a.png", data, "image/png")}
    start = time.monotonic()
    answer = http.post("/images", data=form, files=files)
    return Posted(data, answer, time.monotonic() - start)


def post_all(service: Service, pictures: Iterable[bytes]) -> list[Posted]:
    """Post pictures, some at a time, each when one before it has been answered."""
    waiting, lock, posted = iter(pictures), Lock(), []

    def post_some() -> None:
        while True:
            with lock:
                data = next(waiting, None)
            if data is None:
                return
            posted.append(post(http, data))

    with client(service) as http, ThreadPoolExecutor(AT_A_TIME) as threads:
        for worker in [threads.submit(post_some) for _ in range(AT_A_TIME)]:
            worker.result()
    return posted


def post_beside(
    service: Service, pictures: list[bytes], many: int
) -> tuple[list[Posted], list[Posted]]:
    """Post pictures, over and over while so many ordinary ones are posted one by one.

    Returns:
        What became of the pictures, and of the ordinary ones.
    """
    done = Event()

    def over_and_over() -> Iterator[bytes]:
        yield from pictures
        for data in cycle(pictures):
            if done.is_set():
                return
            yield data

    def upload() -> list[Posted]:
        try:
            with client(service) as http:
                return [post(http, ORDINARY) for _ in range(many)]
        finally:
            done.set()

    with ThreadPoolExecutor(1) as thread:
        ordinary = thread.submit(upload)
        return post_all(service, over_and_over()), ordinary.result()


def client(service: Service) -> httpx.Client:
    """Make a client of a service with a connection for each upload."""
    limits = httpx.Limits(max_connections=2 * AT_A_TIME)
    return http_client(service.url, limits=limits)


def p95(posted: list[Posted]) -> float:
    return quantiles((each.seconds for each in posted), n=20)[-1]


def slowest(posted: list[Posted]) -> float:
    return max(each.seconds for each in posted)


def assert_sound(posted: list[Posted]) -> None:
    """Each picture has been stored, without facts or with its own."""
    for data, answer, _ in posted:
        assert answer.status_code == 201, answer.text
        entry = answer.json()
        told = tuple(entry[name] for name in FACTS)
        if told != (None, None, None):
            with warnings.catch_warnings(action="ignore"):
                info = info_of(data)
            assert info is not None
            assert told == (info.width, info.height, f"{info.perceptual_hash or 0:016x}")


def assert_complete(posted: list[Posted]) -> None:
    """Each picture has been stored with its facts."""
    assert_sound(posted)
    assert all(answer.json()["perceptual_hash"] for _, answer, _ in posted)


@pytest.mark.parametrize("many", [18, pytest.param(200, marks=endurance)])
def test_bombs_cost_their_facts_only(service: Service, many: int) -> None:
    """Bombs are stored in time and in bounded memory, and other uploads keep their facts."""
    assert service.process is not None
    pictures = list(bombs(many))
    post_all(service, [*pictures[: len(BOMBS)], *[ORDINARY] * AT_A_TIME])
    before = memory(service)
    with most_memory(service) as held:
        posted, others = post_beside(service, pictures, 2 * many)
    assert_sound(posted)
    assert_complete(others)
    assert slowest(posted + others) < PATIENCE / 2
    assert max(held) - before < 300e6
    assert service.is_running


@endurance
def test_uploads_do_not_wait_for_bombs(service: Service) -> None:
    """Beside bombs they take at most twice as long as beside ordinary pictures of that length."""
    pictures = list(bombs(200))
    post_all(service, [*bombs(len(BOMBS)), *[ORDINARY] * AT_A_TIME])
    as_large = [ORDINARY.ljust(len(data), b"\0") for data in pictures]
    _, beside_others = post_beside(service, as_large, 100)
    _, beside_bombs = post_beside(service, pictures, 100)
    assert p95(beside_bombs) < 2 * p95(beside_others)


@pytest.mark.parametrize("many", [4, pytest.param(100, marks=endurance)])
def test_slow_pictures_are_given_up(service: Service, many: int) -> None:
    """What cannot be told by its header is given up in time, and others keep their facts."""
    pictures = list(bombs(many, SLOW))
    post_all(service, [pictures[0], ORDINARY])
    before = memory(service)
    with most_memory(service) as held:
        posted, others = post_beside(service, pictures, 5)
    assert_sound(posted)
    assert_complete(others)
    assert slowest(posted + others) < PATIENCE / 2
    assert max(held) - before < 300e6


@pytest.mark.parametrize("many", [100, pytest.param(10_000, marks=endurance)])
def test_damaged_pictures_are_stored(service: Service, many: int) -> None:
    """Pictures of any format that are cut off or have wrong bits are answered like any other."""
    assert service.process is not None
    pictures = list(damaged(many))
    posted = post_all(service, pictures)
    assert_sound(posted)
    assert slowest(posted) < PATIENCE / 2
    with_facts = sum(answer.json()["width"] is not None for _, answer, _ in posted)
    assert 0 < with_facts < many
    assert service.is_running
    assert "Traceback" not in service.log


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/tmp) run\nshowpage\n%%EOF\n"
)
UNWANTED = {
    "EPS": EPS,
    "EPS behind a header of DOS": struct.pack("<IIIIIIIH", 0xC6D3D0C5, 32, len(EPS), *[0] * 5)
    + EPS,
    "PSD": struct.pack("!4sH6xHIIHH", b"8BPS", 1, 3, 9, 9, 8, 3) + bytes(14 + 3 * 81),
    "FITS": b"".join(
        line.ljust(80) for line in (b"SIMPLE  =   T", b"BITPIX  =   8", b"NAXIS   =   0", b"END")
    ).ljust(2880),
    "FPX": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504),
    "PPM": b"P6 9 9 255\n" + bytes(3 * 81),
    "XPM": b'/* XPM */\nstatic char *a[] = {"1 1 1 1", "a c #000000", "a"};',
    "WMF": bytes.fromhex("d7cdc69a") + bytes(40),
}


def test_other_formats_reach_no_parser(service: Service) -> None:
    """What pretends to be a PNG and is for a parser that we do not use is stored without facts."""
    assert service.process is not None
    children = set(processes(service.process.pid))
    posted = post_all(service, [*UNWANTED.values(), ORDINARY])
    assert len(children) == 1
    for data, answer, _ in posted:
        facts = {answer.json()[name] for name in FACTS}
        assert (facts == {None}) == (not data.startswith(ORDINARY))
    started = set(processes(service.process.pid)) - children
    assert 1 <= len(started) <= CHILDREN
    for pid in started:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"imgcache_scrapy.engine.decoding.child" in command

"""Pictures that are made to hurt, or were damaged, posted to a running service."""

import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import quantiles
from threading import Event, Thread
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from imgcache_scrapy.engine.decoding import facts_of
from tests.bombs import BOMBS, SLOW, bombs, damaged, encoded
from tests.conftest import Service

AT_A_TIME = 16
FACTS = ("width", "height", "perceptual_hash")
endurance = pytest.mark.endurance


def processes(pid: int) -> Iterator[int]:
    """Give a process and all that it started."""
    yield pid
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


def post(http: httpx.Client, data: bytes) -> tuple[httpx.Response, float]:
    """Post a picture under a new URL; give the answer and how long it took."""
    form = {"url": f"http://{uuid4().hex}.example/a.png", "client_name": "me"}
    start = time.monotonic()
    answer = http.post("/images", data=form, files={"file": ("a.png", data, "image/png")})
    return answer, time.monotonic() - start


def post_all(service: Service, pictures: Iterable[bytes]) -> list[tuple[httpx.Response, float]]:
    """Post pictures, some at a time."""
    with client(service) as http, ThreadPoolExecutor(AT_A_TIME) as threads:
        return list(threads.map(lambda data: post(http, data), pictures))


def client(service: Service) -> httpx.Client:
    limits = httpx.Limits(max_connections=2 * AT_A_TIME)
    return httpx.Client(base_url=service.url, trust_env=False, timeout=60, limits=limits)


def ordinary() -> Iterator[bytes]:
    """Make pictures, no two of them the same."""
    data = encoded(Image.effect_noise((400, 300), 50), "JPEG")
    for number in count():
        comment = uuid4().bytes + number.to_bytes(8, "big")
        yield data[:2] + b"\xff\xfe\0\x1a" + comment + data[2:]


@contextmanager
def ordinary_uploads(service: Service) -> Iterator[list[tuple[httpx.Response, float]]]:
    """Have ordinary pictures posted meanwhile, one after the other, at least a hundred."""
    done, answers = Event(), []

    def upload() -> None:
        with client(service) as http:
            for data in ordinary():
                answers.append(post(http, data))
                if done.is_set() and len(answers) >= 100:
                    return

    uploader = Thread(target=upload)
    uploader.start()
    try:
        yield answers
    finally:
        done.set()
        uploader.join()


def p95(answers: list[tuple[httpx.Response, float]]) -> float:
    return quantiles((seconds for _, seconds in answers), n=20)[-1]


def assert_stored_in_time(
    answers: list[tuple[httpx.Response, float]], pictures: list[bytes], seconds: float
) -> None:
    """Each picture has been stored, without facts or with its own."""
    assert max(took for _, took in answers) < seconds
    for (answer, _), data in zip(answers, pictures, strict=True):
        assert answer.status_code == 201, answer.text
        entry = answer.json()
        if any(entry[name] is not None for name in FACTS):
            facts = facts_of(data)
            told = (facts.width, facts.height, f"{facts.perceptual_hash or 0:016x}")
            assert tuple(entry[name] for name in FACTS) == told


@pytest.mark.parametrize("many", [20, pytest.param(200, marks=endurance)])
def test_bombs_cost_their_facts_only(service: Service, many: int) -> None:
    """Bombs are stored in time and in bounded memory, and other uploads do not wait for them."""
    assert service.process is not None
    pictures = list(bombs(many))
    others = [data for data, _ in zip(ordinary(), pictures, strict=False)]
    post_all(service, [*bombs(len(BOMBS)), *others[:AT_A_TIME]])
    service_pid, before = service.process.pid, memory(service)
    with ordinary_uploads(service) as alone:
        pass
    with ordinary_uploads(service) as beside_others:
        post_all(service, [data for data, _ in zip(ordinary(), pictures, strict=False)])
    with most_memory(service) as held, ordinary_uploads(service) as beside_bombs:
        answers = post_all(service, (data + b"\0" for data in pictures))
    assert_stored_in_time(answers, pictures, 5)
    print(
        f"bombs: slowest {max(s for _, s in answers):.2f} s, memory +{(max(held) - before) / 1e6:.0f} MB;"
        f" p95 alone {p95(alone):.3f}, beside others {p95(beside_others):.3f}, bombs {p95(beside_bombs):.3f}"
    )
    assert all(answer.json()["perceptual_hash"] for answer, _ in beside_bombs)
    assert max(held) - before < 300e6
    assert p95(beside_bombs) < 2 * max(p95(beside_others), 0.02)
    assert service.process.poll() is None
    assert service.process.pid == service_pid


@pytest.mark.parametrize("many", [16, pytest.param(100, marks=endurance)])
def test_slow_pictures_are_given_up(service: Service, many: int) -> None:
    """What cannot be told by its header is given up in time, and others keep their facts."""
    pictures = list(bombs(many, SLOW))
    post_all(service, bombs(2, SLOW))
    before = memory(service)
    with most_memory(service) as held, ordinary_uploads(service) as others:
        answers = post_all(service, (data + b"\0" for data in pictures))
    print(
        f"slow: slowest {max(s for _, s in answers):.2f} s, memory +{(max(held) - before) / 1e6:.0f} MB;"
        f" others p95 {p95(others):.3f}, max {max(s for _, s in others):.2f}"
    )
    assert_stored_in_time(answers, pictures, 5)
    assert all(answer.json()["perceptual_hash"] for answer, _ in others)
    assert max(held) - before < 300e6


@pytest.mark.parametrize("many", [500, pytest.param(10_000, marks=endurance)])
def test_damaged_pictures_are_stored(service: Service, many: int) -> None:
    """Pictures of any format that are cut off or have wrong bits are answered like any other."""
    assert service.process is not None
    pictures = list(damaged(many))
    answers = post_all(service, pictures)
    assert {answer.status_code for answer, _ in answers} <= {200, 201}
    assert max(seconds for _, seconds in answers) < 2
    facts = [answer.json()["width"] for answer, _ in answers]
    assert None in facts
    assert any(facts)
    assert service.process.poll() is None
    assert "Traceback" not in service.log

"""The child program from its parent's side: limits, deaths, hangs, threads. Linux only."""

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from random import Random
from threading import Timer, main_thread

import pytest
from PIL import Image

from imgcache_scrapy.engine.decoding.child import facts_of
from imgcache_scrapy.engine.decoding.decoder import (
    COSTLY,
    NO_FACTS,
    PATIENCE,
    Decoder,
    Decoders,
    Facts,
)
from tests.support.bombs import slow_bmp

ROOT = Path(__file__).parents[2]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(time_limit=30)
    yield decoder
    decoder.close()


def picture(seed: int = 1, side: int = 64) -> bytes:
    file = BytesIO()
    Image.frombytes("L", (side, side), Random(seed).randbytes(side * side)).save(file, "PNG")
    return file.getvalue()


def png(width: int, height: int, rows: int | None = None) -> bytes:
    """A black PNG of one bit per pixel, possibly with fewer rows than its header tells."""
    pixels = bytes((1 + (width + 7) // 8) * (height if rows is None else rows))
    chunks = {
        b"IHDR": struct.pack("!IIBBBBB", width, height, 1, 0, 0, 0, 0),
        b"IDAT": zlib.compress(pixels, 1),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    )


def webp_canvas(width: int, height: int) -> bytes:
    """A small animation on a canvas of any size, for which libwebp needs 12 bytes per pixel."""
    file = BytesIO()
    frames = [Image.new("RGBA", (2, 2), color) for color in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return file.getvalue()[:24] + size + file.getvalue()[30:]


def child_pid(decoder: Decoder) -> int:
    assert decoder._child is not None
    return decoder._child.pid


def resident(pid: int, name: str = "VmRSS") -> int:
    """Give the memory of a process in bytes; "VmHWM" for the most that it ever had."""
    (line,) = re.findall(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) * 1024


@contextmanager
def watched(pid: int) -> Iterator[int]:
    """Have a descriptor that becomes readable when the process ends, reaped or not."""
    with os.fdopen(os.pidfd_open(pid), "rb", 0) as process:
        yield process.fileno()


def ends(process: int, seconds: float = 5) -> bool:
    return bool(select.select([process], [], [], seconds)[0])


def test_one_child_decodes_all(decoder: Decoder) -> None:
    """Every picture has the facts that decoding it here gives, all from the same child."""
    pids = set()
    for seed in range(5):
        assert decoder.facts(picture(seed)) == facts_of(picture(seed)) != NO_FACTS
        pids.add(child_pid(decoder))
    assert len(pids) == 1


def test_parent_imports_no_decoder() -> None:
    """Whoever imports the parent's half gets neither Pillow nor NumPy into the process."""
    module = "imgcache_scrapy.engine.decoding.decoder"
    code = f"import sys, {module}; print({{'PIL', 'numpy'}} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert run.stdout.strip() == b"set()"


def test_child_finds_the_package(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder does not matter, as long as this process could import the package."""
    monkeypatch.chdir(tmp_path)
    assert decoder.facts(picture()) == facts_of(picture())


@pytest.mark.parametrize("data", [b"", b"no picture", picture()[:-99], bytes(1_000_000)])
def test_bad_pictures_leave_the_child_alive(decoder: Decoder, data: bytes) -> None:
    """What is no picture has no facts, and the same child goes on with the next one."""
    decoder.facts(picture())
    pid = child_pid(decoder)
    assert decoder.facts(data) == NO_FACTS
    assert decoder.facts(picture()) == facts_of(picture())
    assert child_pid(decoder) == pid


def test_pixel_limit(decoder: Decoder) -> None:
    """Twenty-five million pixels are decoded, one row more is not."""
    assert decoder.facts(png(5_000, 5_000)) == Facts(5_000, 5_000, 0)
    assert decoder.facts(png(5_000, 5_001)) == COSTLY


def test_pixel_bomb_is_refused_at_once(decoder: Decoder) -> None:
    """A few bytes that claim gigapixels do not keep the child busy."""
    decoder.facts(picture())
    start = time.monotonic()
    assert decoder.facts(png(2**31 - 1, 2**31 - 1, rows=0)) == COSTLY
    assert time.monotonic() - start < 3


def test_memory_limit(decoder: Decoder) -> None:
    """A picture that needs more memory than the child may have costs its facts, not the child."""
    assert decoder.facts(webp_canvas(2_000, 2_000))[:2] == (2_000, 2_000)
    pid = child_pid(decoder)
    before = resident(pid)
    assert decoder.facts(webp_canvas(5_000, 5_000)) == NO_FACTS
    assert decoder.facts(picture()) == facts_of(picture())
    assert child_pid(decoder) == pid
    assert resident(pid, "VmHWM") - before < 300e6


def test_small_pictures_do_not_wait_for_large_ones() -> None:
    """While a large picture keeps its child busy, a small one is decoded by another."""
    decoders = Decoders()
    assert decoders.facts_of_many([png(3_000, 2_000)]) == [Facts(3_000, 2_000, 0)]
    large = child_pid(decoders._large)
    os.kill(large, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(decoders.facts_of_many, [png(3_000, 2_000)])
        assert decoders.facts_of_many([picture()]) == [facts_of(picture())]
        assert not stuck.done()
        assert stuck.result() == [NO_FACTS]
    decoders.close()


def test_pictures_that_come_together_are_examined_in_time() -> None:
    """However many large pictures come at once, all are done with in time, and small ones first."""
    decoders = Decoders()
    decoders.facts_of_many([png(3_000, 2_000), picture()])
    os.kill(child_pid(decoders._large), signal.SIGSTOP)
    start = time.monotonic()
    found = decoders.facts_of_many([png(3_000, 2_000)] * 15 + [picture()])
    assert found == [NO_FACTS] * 15 + [facts_of(picture())]
    assert time.monotonic() - start < 2 * PATIENCE
    decoders.close()


def test_processor_time_of_small_pictures() -> None:
    """What is slow though it is small is given up by the child itself, and has a second chance."""
    decoder = Decoder(small_only=True)
    assert decoder.facts(slow_bmp(2_000, 100)) == Facts(2_000, 100, 0)
    pid = child_pid(decoder)
    for _ in range(5):
        assert decoder.facts(slow_bmp(2_000, 2_000)) == COSTLY
    assert decoder.facts(picture()) == facts_of(picture())
    assert child_pid(decoder) == pid
    decoder.close()


def icon_with_wrong_size() -> bytes:
    """An icon whose directory says 32x32 and whose picture is 64x64, which Pillow warns about."""
    data = BytesIO()
    Image.open(BytesIO(picture())).save(data, "ICO", sizes=[(64, 64)])
    return data.getvalue()[:6] + b"\x20\x20" + data.getvalue()[8:]


def test_child_is_silent(decoder: Decoder, capfd: pytest.CaptureFixture[str]) -> None:
    """Warnings about pictures, here of Pillow, do not reach the terminal of the crawl."""
    with pytest.warns(UserWarning, match="not the expected size"):
        expected = facts_of(icon_with_wrong_size())
    assert expected[:2] == (64, 64)
    assert decoder.facts(icon_with_wrong_size()) == expected
    decoder.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [64, 1_000], ids=["in the pipe", "too large for the pipe"])
def test_hanging_child_is_replaced(side: int) -> None:
    """A child that neither answers nor reads is killed in time, and the next picture has a new."""
    decoder = Decoder(time_limit=1.5)
    decoder.facts(picture())
    with watched(child_pid(decoder)) as process:
        os.kill(child_pid(decoder), signal.SIGSTOP)
        start = time.monotonic()
        assert decoder.facts(picture(side=side)) == NO_FACTS
        assert 1.4 < time.monotonic() - start < 4
        assert ends(process)
    assert decoder.facts(picture()) == facts_of(picture())
    decoder.close()


def test_child_killed_between_pictures(decoder: Decoder) -> None:
    """When the child died since the last picture, the next one does not notice."""
    decoder.facts(picture())
    with watched(child_pid(decoder)) as process:
        os.kill(child_pid(decoder), signal.SIGKILL)
        assert ends(process)
    assert decoder.facts(picture()) == facts_of(picture())


@pytest.mark.parametrize("side", [64, 1_000], ids=["in the pipe", "too large for the pipe"])
def test_child_killed_during_a_picture(decoder: Decoder, side: int) -> None:
    """A picture during which the child dies has no facts, at once; the next one has."""
    decoder.facts(picture())
    pid = child_pid(decoder)
    os.kill(pid, signal.SIGSTOP)
    killer = Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    start = time.monotonic()
    assert decoder.facts(picture(side=side)) == NO_FACTS
    assert time.monotonic() - start < 10
    killer.join()
    assert decoder.facts(picture()) == facts_of(picture())


def test_interrupted_parent_gets_no_wrong_answer(decoder: Decoder) -> None:
    """After Ctrl-C in the middle of a picture the next one has its own facts."""
    decoder.facts(picture())
    os.kill(child_pid(decoder), signal.SIGSTOP)
    interrupt = Timer(0.2, signal.pthread_kill, (main_thread().ident, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        decoder.facts(picture(1))
    interrupt.join()
    assert decoder.facts(picture(2)) == facts_of(picture(2))


def test_child_survives_ctrl_c(decoder: Decoder) -> None:
    """SIGINT does not end the child, nor would the terminal send it there in the first place."""
    decoder.facts(picture())
    pid = child_pid(decoder)
    os.kill(pid, signal.SIGINT)
    assert decoder.facts(picture()) == facts_of(picture())
    assert child_pid(decoder) == pid
    assert os.getpgid(pid) != os.getpgid(0)


def test_many_threads_share_the_child(decoder: Decoder) -> None:
    """Threads that ask at once each get the facts of their own picture."""
    seeds = range(200)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda seed: decoder.facts(picture(seed, 32)), seeds))
    assert found == [facts_of(picture(seed, 32)) for seed in seeds]
    assert len(set(found)) == len(seeds)


def test_close_leaves_no_process(decoder: Decoder) -> None:
    """Closing ends and reaps the child, any number of times; a later picture starts another."""
    decoder.close()
    decoder.facts(picture())
    pid = child_pid(decoder)
    decoder.close()
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert decoder.facts(picture()) == facts_of(picture())


def test_close_ends_a_hanging_child(decoder: Decoder) -> None:
    """Closing does not wait for a child that would not end by itself."""
    decoder.facts(picture())
    with watched(child_pid(decoder)) as process:
        os.kill(child_pid(decoder), signal.SIGSTOP)
        decoder.close()
        assert ends(process, 0)


PARENT = """
import sys, time
from imgcache_scrapy.engine.decoding.decoder import Decoder
decoder = Decoder()
decoder.facts(b"")
print(decoder._child.pid, flush=True)
time.sleep(60)
"""


def test_child_ends_with_its_parent() -> None:
    """When the parent is killed and can close nothing, the child ends all the same."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        with watched(int(parent.stdout.readline())) as child:
            assert not ends(child, 0.3)
            parent.kill()
            assert ends(child)

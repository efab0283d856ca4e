"""The cache's side of decoding: limits, deaths and hangs of the child, threads. Linux only."""

import math
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
from itertools import product
from pathlib import Path
from threading import main_thread

import psutil
import pytest
from PIL import Image

from imgcache_scrapy.engine.decoding.child import _is_decodable, info_of
from imgcache_scrapy.engine.decoding.decoder import Decoder
from imgcache_scrapy.engine.decoding.decoders import Decoders, TimeLimits
from imgcache_scrapy.engine.decoding.frames import FrameDecoder
from imgcache_scrapy.engine.decoding.messages import (
    NOT_DECODED,
    QUICK_ONLY,
    DecodeError,
    ImageInfo,
    undecodable,
)
from imgcache_scrapy.engine.decoding.signatures import may_be_decoded
from tests.support.bombs import slow_bmp
from tests.support.mutations import pictures
from tests.support.pictures import chunk
from tests.support.pictures import picture as picture_of
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.usefixtures("real_decoders")

ROOT = Path(__file__).parents[2]
PATIENT = TimeLimits(PATIENCE, PATIENCE, PATIENCE)


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    """Give decoders that wait as long as a busy machine needs."""
    decoders = Decoders(PATIENT)
    yield decoders
    decoders.close()


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(time_limit=PATIENCE)
    yield decoder
    decoder.close()


def picture(seed: int = 1, side: int = 64) -> bytes:
    return picture_of(seed, side)


def png(width: int, height: int, rows: int | None = None) -> bytes:
    """A black PNG of one bit per pixel, possibly with fewer rows than its header tells."""
    pixels = bytes((1 + (width + 7) // 8) * (height if rows is None else rows))
    header = struct.pack("!IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels, 1)), chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


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


def processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@contextmanager
def watched(pid: int) -> Iterator[int]:
    """Have a descriptor that becomes readable when the process ends, reaped or not."""
    with os.fdopen(os.pidfd_open(pid), "rb", 0) as process:
        yield process.fileno()


def ends(process: int, seconds: float = PATIENCE) -> bool:
    return bool(select.select([process], [], [], seconds)[0])


def wait_until_asked(decoder: Decoder) -> None:
    """Return when another thread has begun to send a picture to the child."""
    wait_until(lambda: decoder._deadline != math.inf)


def test_one_child_decodes_all(decoder: Decoder) -> None:
    """Every picture has the size and hash that decoding it here gives, all by the same child."""
    pids = set()
    for seed in range(5):
        assert decoder.decode(picture(seed)) == info_of(picture(seed))
        assert info_of(picture(seed))[:2] == (64, 64)
        pids.add(child_pid(decoder))
    assert len(pids) == 1


def test_what_is_no_picture_starts_no_child(decoders: Decoders) -> None:
    """Text and archives get the same answer as from a child; pictures beside them are decoded."""
    others = [b"", b"a text", b"PK\3\4" + bytes(100), b"%PDF-1.7"]
    assert decoders.decode_quick(others) == [info_of(other) for other in others]
    assert all(decoder._child is None for decoder in decoders._quick)
    infos = decoders.decode_quick([others[1], picture(), others[2]])
    assert infos == [info_of(others[1]), info_of(picture()), info_of(others[2])]


@pytest.mark.parametrize("name", pictures())
def test_what_may_be_a_picture_reaches_a_child(name: str) -> None:
    """Whatever bytes a picture begins with: if a decoder accepts them, a child gets them."""
    data = pictures()[name]
    assert may_be_decoded(data)
    for place, byte in product(range(16), (0, 1, 2, 16, 32, 42, 43, 73, 77, 97, 127, 255)):
        changed = data[:place] + bytes([byte]) + data[place + 1 :]
        assert may_be_decoded(changed) or not _is_decodable(changed)


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
    assert decoder.decode(picture()) == info_of(picture())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", DecodeError.FORMAT),
        (b"no picture", DecodeError.FORMAT),
        (picture()[:-99], DecodeError.BROKEN),
        (bytes(1_000_000), DecodeError.FORMAT),
    ],
)
def test_bad_pictures_leave_the_child_alive(
    decoder: Decoder, data: bytes, error: DecodeError
) -> None:
    """What cannot be decoded has a reason, and the same child goes on with the next picture."""
    decoder.decode(picture())
    pid = child_pid(decoder)
    assert decoder.decode(data) == undecodable(error)
    assert decoder.decode(picture()) == info_of(picture())
    assert child_pid(decoder) == pid


def test_pixel_limit(decoder: Decoder) -> None:
    """Twenty-five million pixels are decoded, one row more is not."""
    assert decoder.decode(png(5_000, 5_000)) == ImageInfo(5_000, 5_000, 0)
    assert decoder.decode(png(5_000, 5_001)) is None


def test_pixel_bomb_is_refused_at_once(decoder: Decoder) -> None:
    """A few bytes that claim gigapixels do not keep the child busy."""
    decoder.decode(picture())
    before = processor_seconds(child_pid(decoder))
    assert decoder.decode(png(2**31 - 1, 2**31 - 1, rows=0)) is None
    assert processor_seconds(child_pid(decoder)) - before < 1


def test_memory_limit(decoder: Decoder) -> None:
    """A picture that needs more memory than the child may have is given up, the child goes on."""
    assert decoder.decode(webp_canvas(2_000, 2_000))[:2] == (2_000, 2_000)
    pid = child_pid(decoder)
    before = resident(pid)
    assert decoder.decode(webp_canvas(4_200, 4_200)) == undecodable(DecodeError.TOO_MUCH_MEMORY)
    # Where there is no room for the first half of it, libwebp does not say why it fails.
    assert decoder.decode(webp_canvas(5_000, 5_000)) == undecodable(DecodeError.BROKEN)
    assert decoder.decode(picture()) == info_of(picture())
    assert child_pid(decoder) == pid
    assert resident(pid, "VmHWM") - before < 300e6


def test_what_no_child_decodes_is_too_large(decoders: Decoders) -> None:
    """A child for quick pictures has no verdict on a slow one; the child for slow ones has."""
    pictures = [png(3_000, 2_000), png(5_000, 5_001)]
    assert decoders.decode_quick(pictures) == [NOT_DECODED] * 2
    found = [decoders.decode_slow(picture) for picture in pictures]
    assert found == [ImageInfo(3_000, 2_000, 0), undecodable(DecodeError.TOO_LARGE)]


def test_what_takes_too_much_processor_time_is_too_slow(decoder: Decoder) -> None:
    """The system ends the child, however much wall time is left; the next picture has a new one."""
    assert decoder.decode(slow_bmp(5_000, 4_900)) == undecodable(DecodeError.TOO_SLOW)
    assert decoder.decode(picture()) == info_of(picture())


def test_quick_pictures_do_not_wait_for_slow_ones(decoders: Decoders) -> None:
    """While a slow picture keeps its child busy, quick ones are decoded by others."""
    assert decoders.decode_slow(png(3_000, 2_000)) == ImageInfo(3_000, 2_000, 0)
    child = child_pid(decoders._full)
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(decoders.decode_slow, png(3_000, 2_000))
        assert decoders.decode_quick([picture()]) == [info_of(picture())]
        assert not stuck.done()
        os.kill(child, signal.SIGKILL)
        assert stuck.result() == NOT_DECODED


def test_each_thread_has_a_child(decoders: Decoders) -> None:
    """While one thread waits for its child, the others decode quick pictures."""
    decoders.decode_quick([picture()])
    first = decoders._quick[0]
    os.kill(child_pid(first), signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(decoders.decode_quick, [picture(1), picture(2)])
        wait_until_asked(first)
        assert decoders.decode_quick([picture(3)]) == [info_of(picture(3))]
        assert not stuck.done()
        os.kill(child_pid(first), signal.SIGCONT)
        assert stuck.result() == [info_of(picture(1)), info_of(picture(2))]


def test_pictures_beside_many_that_fail_are_given_up() -> None:
    """Hostile small pictures cannot hold up a batch: their time together is limited."""
    decoders = Decoders(PATIENT._replace(quick_failures=0.05))
    found = decoders.decode_quick([picture(1), *[slow_bmp(2_000, 2_000)] * 3, picture(2)])
    assert found[0] == info_of(picture(1))
    assert found[1:] == [NOT_DECODED] * 4
    decoders.close()


@pytest.mark.parametrize("side", [64, 400])
def test_a_picture_that_ends_the_child_spoils_no_other(decoder: Decoder, side: int) -> None:
    """Of pictures that are sent together, the one that the child dies of has the error, alone."""
    good = [picture(number, side) for number in range(4)]
    slow = slow_bmp(5_000, 4_900)
    answers = decoder.decode_many([*good[:2], slow, *good[2:]])
    found = [info for info, _ in answers]
    assert found == [*map(info_of, good[:2]), undecodable(DecodeError.TOO_SLOW)]
    assert answers[-1][1] > max(seconds for _, seconds in answers[:-1])
    assert [info for info, _ in decoder.decode_many(good[2:])] == [*map(info_of, good[2:])]


def test_each_picture_has_the_whole_time_limit(decoder: Decoder) -> None:
    """Many good pictures may take longer together than one may."""
    data = png(4_000, 4_000)
    (_, seconds), *_ = decoder.decode_many([data])
    decoder._time_limit = 2
    count = math.ceil(3 / seconds)
    answers = decoder.decode_many([data] * count)
    assert [info for info, _ in answers] == [ImageInfo(4_000, 4_000, 0)] * count


def test_a_child_that_hangs_ends_the_answers(decoder: Decoder) -> None:
    """A child that stops at one of several pictures is killed; what it answered before counts."""
    decoder.decode(picture(1))
    decoder._time_limit, pid = 1, child_pid(decoder)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(
            decoder.decode_many, [picture(1), slow_bmp(5_000, 4_900), picture(2)]
        )
        wait_until_asked(decoder)
        os.kill(pid, signal.SIGSTOP)
        *good, last = [info for info, _ in asked.result()]
    assert good in ([], [info_of(picture(1))])
    assert last in (NOT_DECODED, undecodable(DecodeError.TOO_SLOW))


def test_many_pictures_are_decoded_whatever_some_of_them_do(decoders: Decoders) -> None:
    """More pictures than are sent together, some of them large, broken or of no format."""
    pictures = [picture(number, 400 if number % 5 == 0 else 64) for number in range(20)]
    pictures[3], pictures[11], pictures[17] = picture(3)[:-60], b"<svg>", picture(17, 900)
    assert decoders.decode_quick(pictures) == [info_of(each) for each in pictures]


def test_a_cut_frame_is_found() -> None:
    """What cannot be decoded to its end is cut; what is whole, unknown or too large is not."""
    decoder = FrameDecoder()
    assert not decoder.is_cut(picture())
    assert decoder.is_cut(picture()[:-60])
    assert not decoder.is_cut(b"<svg>")
    assert not decoder.is_cut(png(5_000, 5_001, rows=1))
    decoder.close()


def test_a_frame_is_not_cut_if_its_decoder_dies() -> None:
    """Whatever happens to the child, the picture is kept, and the next one has a new child."""
    decoder = FrameDecoder()
    assert not decoder.is_cut(picture())
    pid = child_pid(decoder._decoder)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(decoder.is_cut, picture()[:-60])
        wait_until_asked(decoder._decoder)
        os.kill(pid, signal.SIGKILL)
        assert not asked.result()
    assert decoder.is_cut(picture()[:-60])
    decoder.close()


def test_processor_time_of_small_pictures() -> None:
    """What is slow though it is small is given up by the child itself, and has a second chance."""
    decoder = Decoder(PATIENCE, QUICK_ONLY)
    assert decoder.decode(slow_bmp(200, 100)) == ImageInfo(200, 100, 0)
    pid = child_pid(decoder)
    for _ in range(5):
        assert decoder.decode(slow_bmp(2_000, 2_000)) is None
    assert decoder.decode(picture()) == info_of(picture())
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
        expected = info_of(icon_with_wrong_size())
    assert expected[:2] == (64, 64)
    assert decoder.decode(icon_with_wrong_size()) == expected
    decoder.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [64, 1_000], ids=["in the pipe", "too large for the pipe"])
def test_hanging_child_is_replaced(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """A child that neither answers nor reads is killed; the next picture has a new one."""
    decoder.decode(picture())
    monkeypatch.setattr(decoder, "_time_limit", 1.5)
    with watched(child_pid(decoder)) as process:
        os.kill(child_pid(decoder), signal.SIGSTOP)
        start = time.monotonic()
        assert decoder.decode(picture(side=side)) == NOT_DECODED
        assert 1.4 < time.monotonic() - start < PATIENCE
        assert ends(process)
    monkeypatch.undo()
    assert decoder.decode(picture()) == info_of(picture())


def test_child_killed_between_pictures(decoder: Decoder) -> None:
    """When the child died since the last picture, the next one does not notice."""
    decoder.decode(picture())
    with watched(child_pid(decoder)) as process:
        os.kill(child_pid(decoder), signal.SIGKILL)
        assert ends(process)
    assert decoder.decode(picture()) == info_of(picture())


@pytest.mark.parametrize("side", [64, 1_000], ids=["in the pipe", "too large for the pipe"])
def test_child_killed_during_a_picture(decoder: Decoder, side: int) -> None:
    """A picture during which the child is killed is not decoded, at once; the next one is."""
    decoder.decode(picture())
    pid = child_pid(decoder)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(decoder.decode, picture(side=side))
        wait_until_asked(decoder)
        os.kill(pid, signal.SIGKILL)
        assert asked.result(timeout=PATIENCE / 2) == NOT_DECODED
    assert decoder.decode(picture()) == info_of(picture())


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_picture_that_crashes_the_child_is_to_blame(
    decoder: Decoder, number: signal.Signals
) -> None:
    """A child that dies of a fault of its own has crashed on its picture."""
    decoder.decode(picture())
    pid = child_pid(decoder)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(decoder.decode, picture(side=1_000))
        wait_until_asked(decoder)
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        assert asked.result() == undecodable(DecodeError.CRASHED)
    assert decoder.decode(picture()) == info_of(picture())


def test_a_child_that_cannot_start_blames_no_picture(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are not decoded yet as long as there is no child, and decoded when there is one."""
    for program in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", program)
        assert decoder.decode(picture()) == NOT_DECODED
    monkeypatch.undo()
    assert decoder.decode(picture()) == info_of(picture())


def test_a_picture_whose_turn_never_comes_is_not_decoded_yet(decoder: Decoder) -> None:
    """Whether the deadline is over or the child is busy until then, the picture has no reason."""
    decoder.decode(picture())
    assert decoder.decode(picture(), time.monotonic()) == NOT_DECODED
    with decoder._lock:
        assert decoder.decode(picture(), time.monotonic() + 0.1) == NOT_DECODED


def test_interrupted_parent_gets_no_wrong_answer(decoder: Decoder) -> None:
    """After Ctrl-C in the middle of a picture the next one gets its own answer."""
    decoder.decode(picture())
    os.kill(child_pid(decoder), signal.SIGSTOP)
    # A test run in the background of a shell ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        wait_until_asked(decoder)
        time.sleep(0.2)
        signal.pthread_kill(main_thread().ident, signal.SIGINT)

    with ThreadPoolExecutor(1) as threads:
        interrupted = threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            decoder.decode(picture(1))
        interrupted.result()
    signal.signal(signal.SIGINT, before)
    assert decoder.decode(picture(2)) == info_of(picture(2))


def test_child_survives_ctrl_c(decoder: Decoder) -> None:
    """SIGINT does not end the child, nor would the terminal send it there in the first place."""
    decoder.decode(picture())
    pid = child_pid(decoder)
    os.kill(pid, signal.SIGINT)
    assert decoder.decode(picture()) == info_of(picture())
    assert child_pid(decoder) == pid
    assert os.getpgid(pid) != os.getpgid(0)


def test_many_threads_share_the_child(decoder: Decoder) -> None:
    """Threads that ask at once each get the answer about their own picture."""
    seeds = range(200)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda seed: decoder.decode(picture(seed, 32)), seeds))
    assert found == [info_of(picture(seed, 32)) for seed in seeds]
    assert len(set(found)) == len(seeds)


def test_close_leaves_no_process(decoder: Decoder) -> None:
    """Closing ends and reaps the child, any number of times; a later picture starts another."""
    decoder.close()
    decoder.decode(picture())
    pid = child_pid(decoder)
    decoder.close()
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert decoder.decode(picture()) == info_of(picture())


def test_close_ends_a_hanging_child(decoder: Decoder) -> None:
    """Closing does not wait for a child that would not end by itself."""
    decoder.decode(picture())
    with watched(child_pid(decoder)) as process:
        os.kill(child_pid(decoder), signal.SIGSTOP)
        decoder.close()
        assert ends(process, 0)


PARENT = """
import sys, time
from imgcache_scrapy.engine.decoding.decoder import Decoder
decoder = Decoder()
decoder.decode(b"")
print(decoder._child.pid, flush=True)
time.sleep(600)
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

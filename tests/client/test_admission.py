"""Which bodies may be kept: agreement with Pillow, and what the decision costs this process."""

import asyncio
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.PngImagePlugin import PngInfo

from imgcache_scrapy.client.admission import Admission
from imgcache_scrapy.core.admission import Reason, is_in_doubt
from tests.support.bombs import BOMBS, SLOW
from tests.support.hostile_structures import HOSTILE
from tests.support.mutations import cuts, decodes, mutations, pictures
from tests.support.pictures import encoded, noise, picture

ROOT = Path(__file__).parents[2]
Admit = Callable[[bytes], Reason | None]
endurance = pytest.mark.endurance


@pytest.fixture(scope="module")
def admit() -> Iterator[Admit]:
    """Give a function that decides about a body; one child decodes for all tests."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    admission = Admission()
    yield lambda body: asyncio.run_coroutine_threadsafe(admission.refusal(body), loop).result()
    asyncio.run_coroutine_threadsafe(admission.aclose(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def disagreements(admit: Admit, name: str, data: bytes, cut: int) -> Iterator[str]:
    """Yield each change of a picture about which the cache and Pillow do not agree."""
    for change, changed in mutations(name, data):
        if not decodes(changed):
            continue
        if admit(changed):
            yield f"{name}, {change}: refused as {admit(changed)}, although Pillow decodes it"
        for part in cuts(changed, cut):
            is_good = decodes(part)
            if is_good == bool(admit(part)):
                yield f"{name}, {change}, {len(part)} bytes of {len(changed)}: {is_good}"


@pytest.mark.parametrize("cut", [8, pytest.param(20, marks=endurance)])
@pytest.mark.parametrize("name", pictures())
def test_cut_is_what_pillow_cannot_decode(admit: Admit, name: str, cut: int) -> None:
    """A picture is refused if it is a part of one that Pillow decodes, and cannot be decoded."""
    data = pictures()[name]
    assert decodes(data)
    assert list(disagreements(admit, name, data, cut)) == []


@endurance
@pytest.mark.parametrize("side", [17, 32, 64])
@pytest.mark.parametrize("name", pictures())
def test_cut_anywhere_is_what_pillow_cannot_decode(admit: Admit, name: str, side: int) -> None:
    """The same, for other sizes, and for a cut behind every byte of the first kilobytes."""
    data = pictures(side)[name]
    assert list(disagreements(admit, name, data, 50)) == []
    for size in [*range(1, min(len(data), 3000)), *range(max(len(data) - 500, 1), len(data))]:
        assert decodes(data[:size]) != bool(admit(data[:size])), size


@given(st.sampled_from(sorted(pictures())), st.binary(max_size=40), st.integers(0, 40))
def test_what_pillow_decodes_is_never_refused(
    admit: Admit, name: str, end: bytes, missing: int
) -> None:
    """Whatever stands for the last bytes of a picture, it is kept if Pillow decodes it."""
    data = pictures()[name]
    changed = data[: len(data) - missing] + end
    assert admit(changed) is None or not decodes(changed)


@given(st.sampled_from(sorted(pictures())), st.data())
def test_no_wrong_byte_makes_us_refuse_what_pillow_decodes(
    admit: Admit, name: str, draw: st.DataObject
) -> None:
    """A few wrong bytes in the structure of a picture do not matter if Pillow decodes it."""
    changed = bytearray(pictures()[name])
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(20, min(len(changed), 300) - 1))
        changed[place] = draw.draw(st.integers(0, 255))
    assert admit(bytes(changed)) is None or not decodes(bytes(changed))


@given(st.sampled_from(sorted(pictures())), st.data())
def test_a_part_that_pillow_cannot_decode_is_refused(
    admit: Admit, name: str, draw: st.DataObject
) -> None:
    """At whatever place a picture is cut, it is kept only if Pillow decodes what is left."""
    data = pictures()[name]
    part = data[: draw.draw(st.integers(0, len(data) - 1))]
    assert decodes(part) != bool(admit(part))


def test_long_texts_in_a_picture_do_not_matter(admit: Admit) -> None:
    """The texts of a PNG without its last chunk may be as long as Pillow itself allows."""
    texts = PngInfo()
    for number in range(9):
        texts.add_text(f"text {number}", "a" * 10**6, zip=True)
    data = encoded(noise(9, 9), "PNG", pnginfo=texts)[:-12]
    assert decodes(data)
    assert admit(data) is None
    assert admit(data[:-50]) == "truncated"


@pytest.mark.parametrize("body", [b"", b"<html>", b"not found", b"<!doctype html><svg>"])
def test_what_is_no_picture_has_another_reason(admit: Admit, body: bytes) -> None:
    """Only pictures are cut off."""
    assert admit(body) in {"empty", "html", "not_image"}


@pytest.mark.parametrize("body", [b"<svg><path", b"\xff\x0a\x7f", b"\0\0\0\x18ftypheic" + bytes(8)])
def test_what_pillow_cannot_open_is_kept(admit: Admit, body: bytes) -> None:
    """Nobody can tell whether SVG, JPEG XL and HEIC are whole, so they are kept."""
    assert admit(body) is None


def test_a_jpeg_ls_is_kept_if_it_is_whole(admit: Admit) -> None:
    """Pillow cannot decode it, but its structure shows the end, behind escaped bytes as FF 7F."""
    frame, scan = b"\xff\xf7\0\x0b\x08\0\2\0\2\1\1\x11\0", b"\xff\xda\0\x08\1\1\0\0\0\0"
    data = b"\xff\xd8" + frame + scan + b"\x12\xff\x7f\xff\x08\x34" + b"\xff\xd9"
    assert not decodes(data)
    assert admit(data) is None
    assert admit(data[:-1]) == "truncated"


@pytest.mark.parametrize(
    ("options", "before", "distance"),
    [({"tile_size": (9, 9)}, b"ihdr", 12), ({"no_jp2": True}, b"\xff\x4f\xff\x51", 40)],
)
def test_a_jpeg_2000_is_kept_if_it_is_whole(
    admit: Admit, options: dict[str, Any], before: bytes, distance: int
) -> None:
    """Pillow cannot open one of five components, but its structure shows the end."""
    data = encoded(noise(24, 24), "JPEG2000", **options)
    place = data.index(before) + distance
    changed = data[:place] + b"\0\5" + data[place + 2 :]
    assert not decodes(changed)
    assert admit(changed) is None
    assert admit(changed + b"\r\n") is None
    for size in (len(changed) - 1, len(changed) - 30, len(changed) // 2):
        assert admit(changed[:size]) == "truncated"
    last = changed.rindex(b"\xff\x90\0\x0a") + 6
    without_length = changed[:last] + bytes(4) + changed[last + 4 :]
    assert admit(without_length) is None
    for size in (len(changed) - 1, len(changed) - 30, last + 6):
        assert admit(without_length[:size]) == "truncated"


@pytest.mark.parametrize("sizes", [(1152, 576, 1), (606, 576, 546)])
def test_a_cut_tiff_is_refused_if_it_states_wrong_sizes(
    admit: Admit, sizes: tuple[int, int, int]
) -> None:
    """Pillow does not use the sizes of strips without compression, so they prove nothing."""
    data = encoded(noise(24, 24), "TIFF", tiffinfo={278: 8})
    table = struct.pack("<3I", 576, 576, 576)
    assert data.count(table) == 1
    assert not is_in_doubt(data)
    changed = data.replace(table, struct.pack("<3I", *sizes))
    assert decodes(changed)
    assert admit(changed) is None
    for missing in (1, 20, 100, 500, 1000):
        part = changed[:-missing]
        assert bool(admit(part)) != decodes(part), missing


def test_a_rewritten_jpeg_may_have_lost_its_other_pictures(admit: Admit) -> None:
    """If the list of the pictures is out of date, then they were removed, and not cut off."""
    data = pictures()["MPO"]
    first = data[: data.index(b"\xff\xd9") + 2]
    assert admit(first) == "truncated"
    scan = first.index(b"\xff\xda")
    rewritten = first[:scan] + b"\xff\xfe\0\x06done" + first[scan:]
    assert admit(rewritten) is None
    assert admit(rewritten[:-2]) == "truncated"
    assert admit(rewritten + data[len(first) : -9]) == "truncated"


def test_a_jpeg_with_a_comment_before_its_list_is_cut_between_its_pictures(admit: Admit) -> None:
    """The list then states a wrong size of the first picture, but where the next one starts."""
    data = pictures()["MPO"]
    commented = data[:2] + b"\xff\xfe\0\x06done" + data[2:]
    assert decodes(commented)
    assert admit(commented) is None
    first = commented[: commented.index(b"\xff\xd9") + 2]
    assert not decodes(first)
    assert admit(first) == "truncated"


@pytest.mark.parametrize("padding", [0, 100])
def test_all_listed_pictures_of_a_jpeg_are_there(admit: Admit, padding: int) -> None:
    """Then it is whole, even if Pillow cannot find them, because the list states wrong places."""
    first, *others = (noise(24, 24, seed=seed) for seed in range(4))
    data = encoded(first, "MPO", save_all=True, append_images=others)
    end = data.index(b"\xff\xd9") + 2
    moved = data[:end] + bytes(padding) + data[end:]
    assert not decodes(moved)
    assert admit(moved) is None
    assert admit(moved[:-9]) == "truncated"


@pytest.mark.parametrize(
    "name",
    [
        "89 megapixels",
        "WebP, canvas",
        "GIF, 3,000 frames",
        "icon",
        *(pytest.param(name, marks=endurance) for name in BOMBS | SLOW if "lying" not in name),
    ],
)
def test_what_exceeds_the_limits_of_the_decoder_is_kept(admit: Admit, name: str) -> None:
    """A whole picture that no decoder may decode to its end is kept, also if it is in doubt."""
    data = (BOMBS | SLOW)[name](1)
    assert admit(data) is None
    assert admit(data + b"\r\n") is None


async def test_small_and_whole_pictures_cost_no_thread_and_no_child() -> None:
    """What is whole at first sight is decided at once; a large body is read in a thread."""
    admission = Admission()
    assert await admission.refusal(picture()) is None
    assert not admission._readers._threads
    assert await admission.refusal(encoded(noise(700, 700), "PNG")) is None
    assert admission._readers._threads
    assert admission._decoder is None
    await admission.aclose()


async def test_the_limit_of_the_size_holds() -> None:
    """A picture of more bytes than allowed is refused before anything else is looked at."""
    admission = Admission(max_bytes=len(picture()))
    assert await admission.refusal(picture()) is None
    assert await admission.refusal(picture() + b"\0") == "too_large"
    await admission.aclose()


IMPORTS = """
import asyncio, sys
from imgcache_scrapy.client.admission import Admission
from imgcache_scrapy.core.entry import content_hash_of

async def main(data):
    admission = Admission()
    print(await admission.refusal(data), await admission.refusal(data[:-60]))
    await admission.aclose()

asyncio.run(main(sys.stdin.buffer.read()))
print({"PIL", "numpy", "sqlalchemy", "imgcache_scrapy.engine.cache"} & set(sys.modules))
"""


def test_a_doubt_imports_no_decoder() -> None:
    """The process that decides gets neither Pillow nor the engine, also over a service."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=ROOT, input=picture(), capture_output=True, check=True
    )
    assert done.stdout.decode().split("\n")[:2] == ["None truncated", "set()"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_structures_take_bounded_work_and_memory(name: str) -> None:
    """However large a picture is, a bounded number of steps and little memory decide about it."""
    data = HOSTILE[name]()
    assert len(data) > 20 * 2**20
    lines = 0

    def count(_frame: object, event: str, _arg: object) -> object:
        nonlocal lines
        lines += event == "line"
        return count

    tracemalloc.start()
    try:
        is_in_doubt(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    before = sys.gettrace()
    sys.settrace(count)
    try:
        is_in_doubt(data)
    finally:
        sys.settrace(before)
    assert peak < 2**21
    assert lines < 700_000

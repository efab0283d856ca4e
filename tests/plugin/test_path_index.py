"""PathIndex and its rules: which of the pictures with one path gets which number."""

import asyncio
import logging
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.plugin.file_names.order import (
    ArrivalOrder,
    Holder,
    digest,
    numbers_to_try,
    same_file,
)
from imgcache_scrapy.plugin.file_names.path_index import Claim, PathIndex

SLOT = digest("x.jpg")


@pytest.fixture
def index(tmp_path):
    """Return an index in a folder that does not exist yet."""
    index = PathIndex(tmp_path / "data" / "paths.sqlite3", logging.getLogger(__name__))
    yield index
    index.close()


def claim(picture, content, first=1, *, slot=SLOT, name="x"):
    """Return the claim of a picture for `x.jpg`."""

    def file(number):
        return digest(f"{name}.jpg" if number == 1 else f"{name}-{number}.jpg")

    return Claim(slot, digest(picture), content, "jpg", first, {digest(picture)}, file)


@pytest.mark.parametrize(
    ("a", "b"),
    [("A.jpg", "a.jpg"), ("e\u0301", "\u00e9"), ("a./b", "a/b"), ("STRASSE", "straße")],
)
def test_paths_that_some_file_system_confuses_are_the_same(a, b):
    """Case, composition, and dots at an end do not make two files."""
    assert same_file(a) == same_file(b)


def test_a_picture_keeps_its_number_first():
    """Its own number comes first, then that of the same bytes, then its place, then free ones."""
    holders = [Holder(b"a", 3, "A"), Holder(b"old", 2, "B"), Holder(b"rival", 7, "B")]
    numbers = numbers_to_try(holders, b"a", "B", 1, {b"a", b"rival"})
    assert list(islice(numbers, 5)) == [3, 2, 1, 8, 9]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5))))
def test_arrival_numbers_are_those_of_a_plain_list(calls):
    """A picture's number is its place among the pictures of its path."""
    order, lists = ArrivalOrder(), {}
    for slot, picture in calls:
        pictures = lists.setdefault(slot, [])
        if picture not in pictures:
            pictures.append(picture)
        assert order.number(bytes([slot]), bytes([picture])) == pictures.index(picture) + 1


def test_the_arrival_order_forgets_the_oldest_path():
    """Memory is bounded, however many paths a crawl has."""
    order = ArrivalOrder(max_slots=2)
    for slot in (b"1", b"2", b"3"):
        order.number(slot, b"x")
    assert order.pictures(b"1") == frozenset()
    assert order.pictures(b"3") == {b"x"}


async def test_a_name_is_found_after_its_file_was_written(index):
    """A name that was only claimed is not found, and one that is given back is free."""
    assert await index.claim(claim("a", "A")) == 1
    assert await index.find(SLOT, digest("a")) is None
    await index.confirm(SLOT, digest("a"))
    assert await index.find(SLOT, digest("a")) == (1, "jpg")

    assert await index.claim(claim("b", "B")) == 2
    await index.release(SLOT, digest("b"))
    assert await index.claim(claim("c", "C")) == 2


async def test_a_file_that_is_written_again_keeps_its_name(index):
    """A rewrite that fails does not give the name back, but the file is not up to date."""
    await index.claim(claim("a", "A"))
    await index.confirm(SLOT, digest("a"))
    assert await index.claim(claim("a", "A2")) == 1
    await index.release(SLOT, digest("a"))
    assert await index.find(SLOT, digest("a")) is None
    assert await index.claim(claim("b", "B")) == 2


async def test_paths_of_other_names_are_not_taken(index):
    """`x-2.jpg` may be the second picture of `x.jpg`, or the first one of another name."""
    other = claim("other", "O", slot=digest("x-2.jpg"), name="x-2")
    assert await index.claim(other) == 1
    assert await index.claim(claim("a", "A")) == 1
    assert await index.claim(claim("b", "B", first=2)) == 3


async def test_new_urls_of_a_picture_need_no_space(index, tmp_path):
    """The name of an URL that is not in the crawl any more is replaced."""
    for night in range(50):
        assert await index.claim(claim(f"a?{night}", "A")) == 1
        await index.confirm(SLOT, digest(f"a?{night}"))
    assert await index.find(SLOT, digest("a?48")) is None
    assert await index.find(SLOT, digest("a?49")) == (1, "jpg")


async def test_crawls_that_start_at_once_share_the_file(tmp_path):
    """Each one opens the new file, although SQLite lets only one of them change its mode."""
    for turn in range(150):
        path = tmp_path / f"{turn}.sqlite3"
        indexes = [PathIndex(path, logging.getLogger(__name__)) for _ in range(4)]
        got = await asyncio.gather(
            *(index.claim(claim(str(n), str(n))) for n, index in enumerate(indexes))
        )
        assert sorted(got) == [1, 2, 3, 4]
        for index in indexes:
            index.close()


async def test_two_crawls_never_get_the_same_path(tmp_path):
    """Processes with one store share the file, and each claim is one transaction."""
    path = tmp_path / "paths.sqlite3"
    indexes = [PathIndex(path, logging.getLogger(__name__)) for _ in range(4)]
    claims = [claim(str(n), str(n)) for n in range(40)]
    got = await asyncio.gather(*(indexes[n % 4].claim(each) for n, each in enumerate(claims)))
    assert sorted(got) == list(range(1, 41))
    for index in indexes:
        index.close()

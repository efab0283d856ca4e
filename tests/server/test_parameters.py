"""The types and helpers of the parameters of routes."""

from threading import get_ident

import pytest

from imgcache_scrapy.server.parameters import with_keys


@pytest.mark.parametrize(
    ("urls", "is_costly"),
    [
        ([], False),
        (["http://h.example/a.jpg"] * 1000, False),
        (["http://h.example/" + "a" * 60_000], True),
        (["http://h.example/" + "a" * 1000] * 100, True),
        (["http://h.example/" + "é" * 200] * 30, True),
    ],
)
async def test_the_keys_of_large_batches_are_computed_in_a_thread(urls, is_costly):
    """Thousands of long URLs take seconds, in which the event loop would answer nobody."""
    assert (await with_keys(urls, get_ident) != get_ident()) == is_costly

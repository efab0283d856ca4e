"""The blocking client is derived from the awaited one: its methods have the same signatures."""

import inspect

import pytest

from imgcache_scrapy import AsyncImgCacheClient, ImgCacheClient

AWAITED = {
    name
    for name, method in inspect.getmembers(AsyncImgCacheClient, inspect.iscoroutinefunction)
    if not name.startswith("_")
}


def test_every_awaited_method_is_there():
    """Only the methods that close have other names."""
    assert len(AWAITED) > 10
    missing = {name for name in AWAITED - {"aclose"} if not hasattr(ImgCacheClient, name)}
    assert not missing


@pytest.mark.parametrize("name", sorted(AWAITED - {"aclose"}))
def test_a_derived_method_is_documented_like_the_awaited_one(name):
    """It has the signature and the docstring, and blocks."""
    derived, awaited = getattr(ImgCacheClient, name), getattr(AsyncImgCacheClient, name)
    assert inspect.signature(derived) == inspect.signature(awaited)
    assert derived.__doc__ == awaited.__doc__
    assert not inspect.iscoroutinefunction(derived)

"""The blocking client is derived from the awaited client: the methods have equal signatures."""

import inspect

import pytest

from imgcache_scrapy import AsyncImgCacheClient, ImgCacheClient

AWAITED = {
    name
    for name, method in inspect.getmembers(AsyncImgCacheClient, inspect.iscoroutinefunction)
    if not name.startswith("_")
}


def test_the_blocking_client_has_every_awaited_method():
    """Only the method that closes the client has another name."""
    assert len(AWAITED) > 10
    missing = {name for name in AWAITED - {"aclose"} if not hasattr(ImgCacheClient, name)}
    assert not missing


@pytest.mark.parametrize("name", sorted(AWAITED - {"aclose"}))
def test_a_blocking_method_has_signature_and_docstring_of_the_awaited_one(name):
    """A blocking method has the same signature and docstring, and is not a coroutine function."""
    derived, awaited = getattr(ImgCacheClient, name), getattr(AsyncImgCacheClient, name)
    assert inspect.signature(derived) == inspect.signature(awaited)
    assert derived.__doc__ == awaited.__doc__
    assert not inspect.iscoroutinefunction(derived)

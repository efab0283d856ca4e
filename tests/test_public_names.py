"""The public names of the package, and what importing them loads."""

import subprocess
import sys

import pytest

import imgcache_scrapy
from tests.support.waiting import PATIENCE

HEAVY = {"scrapy", "fastapi", "starlette", "sqlalchemy", "PIL", "numpy", "obstore", "twisted"}


def loaded_by(statement):
    """Give the top-level modules that a fresh interpreter has after a statement."""
    script = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return set(done.stdout.split())


def test_the_public_names_are_sorted():
    """Who looks for a name finds it where the alphabet says."""
    assert imgcache_scrapy.__all__ == sorted(set(imgcache_scrapy.__all__))


@pytest.mark.parametrize("name", imgcache_scrapy.__all__)
def test_every_public_name_can_be_imported(name):
    """A public name is a thing of that name, listed by `dir` as well."""
    assert getattr(imgcache_scrapy, name).__name__ == name
    assert name in dir(imgcache_scrapy)


def test_the_promised_names_are_public():
    """What the README and other people's settings refer to is there."""
    promised = {
        "Addon",
        "AsyncImgCacheClient",
        "Entry",
        "ImgCacheClient",
        "ImgCacheError",
        "ImgCacheFilesPipeline",
        "ImgCacheImagesPipeline",
        "ImgCacheMiddleware",
        "ImgCachePipeline",
        "get_client",
    }
    assert promised <= set(imgcache_scrapy.__all__)


def test_every_error_is_public():
    """Whoever catches an error of the tree can import it from the top."""

    def tree(error):
        return {error.__name__}.union(*map(tree, error.__subclasses__()))

    assert tree(imgcache_scrapy.ImgCacheError) <= set(imgcache_scrapy.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt import fails as in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'ImgCacheClent'"):
        _ = imgcache_scrapy.ImgCacheClent


def test_importing_the_package_is_cheap():
    """It loads no library at all, and none of its own modules."""
    loaded = loaded_by("import imgcache_scrapy")
    assert not loaded & (HEAVY | {"httpx", "anyio", "asyncio"})


def test_a_client_needs_neither_scrapy_nor_the_cache():
    """Who only talks to a service loads httpx, and none of the heavy libraries."""
    loaded = loaded_by(
        "import imgcache_scrapy.client.client\n"
        "imgcache_scrapy.client.client.ImgCacheClient('http://127.0.0.1:9').close()"
    )
    assert "httpx" in loaded
    assert not loaded & HEAVY


def test_the_crawl_side_does_not_load_the_cache():
    """With a service configured the plugin loads Scrapy, and neither catalog nor web framework."""
    loaded = loaded_by("from imgcache_scrapy import Addon, ImgCacheMiddleware, ImgCachePipeline")
    assert "scrapy" in loaded
    assert not loaded & {"fastapi", "starlette", "sqlalchemy", "obstore", "numpy"}

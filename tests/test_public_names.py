"""The public names of the package, and what importing them loads."""

import subprocess
import sys

import pytest

import imgcache_scrapy
from tests.support.waiting import PATIENCE

HEAVY = {"scrapy", "fastapi", "starlette", "sqlalchemy", "PIL", "numpy", "obstore", "twisted"}


def modules_imported_by(statement):
    """Return the top-level modules that a new interpreter has imported after a statement."""
    script = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return set(done.stdout.split())


def test_the_public_names_are_sorted():
    """`__all__` is sorted and has no duplicates."""
    assert imgcache_scrapy.__all__ == sorted(set(imgcache_scrapy.__all__))


@pytest.mark.parametrize("name", imgcache_scrapy.__all__)
def test_every_public_name_can_be_imported(name):
    """Each public name is an object of that name, and `dir` lists it."""
    assert getattr(imgcache_scrapy, name).__name__ == name
    assert name in dir(imgcache_scrapy)


def test_documented_names_are_public():
    """The names that the README and users' settings refer to are public."""
    documented = {
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
    assert documented <= set(imgcache_scrapy.__all__)


def test_every_error_is_public():
    """Every error class of the package can be imported from its top level."""

    def tree(error):
        return {error.__name__}.union(*map(tree, error.__subclasses__()))

    assert tree(imgcache_scrapy.ImgCacheError) <= set(imgcache_scrapy.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """A wrong name raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'ImgCacheClent'"):
        _ = imgcache_scrapy.ImgCacheClent


def test_importing_the_package_imports_no_library():
    """`import imgcache_scrapy` imports neither a library nor a module of its own."""
    loaded = modules_imported_by("import imgcache_scrapy")
    assert not loaded & (HEAVY | {"httpx", "anyio", "asyncio"})


def test_a_client_of_a_service_imports_httpx_only():
    """A client of a service imports none of the heavy libraries."""
    loaded = modules_imported_by(
        "import imgcache_scrapy.client.client\n"
        "imgcache_scrapy.client.client.ImgCacheClient('http://127.0.0.1:9').close()"
    )
    assert "httpx" in loaded
    assert not loaded & HEAVY


def test_the_plugin_does_not_import_the_engine():
    """The plugin's names import Scrapy, and neither the engine nor the web framework."""
    loaded = modules_imported_by(
        "from imgcache_scrapy import Addon, ImgCacheMiddleware, ImgCachePipeline"
    )
    assert "scrapy" in loaded
    assert not loaded & {"fastapi", "starlette", "sqlalchemy", "obstore", "numpy"}

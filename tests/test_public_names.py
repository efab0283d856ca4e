"""The package's face and its house rules: public names, cheap imports, imports that point down."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import imgcache_scrapy

PACKAGE = Path(imgcache_scrapy.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"scrapy", "fastapi", "starlette", "sqlalchemy", "PIL", "numpy", "obstore", "twisted"}
SCRAPY_FILES = {
    "media.py",
    "addon.py",
    "pipeline.py",
    "middleware.py",
    "failures.py",
    "fates.py",
    "crawl.py",
    "responses.py",
    "settings.py",
}
# Which files may import a library, by the beginning of their path.
HOMES = {
    "httpx": {"rest.py", "client.py"},
    "sqlalchemy": {"engine/"},
    "obstore": {"engine/objects.py"},
    "PIL": {"engine/decoding.py"},
    "numpy": {"engine/decoding.py"},
    "fastapi": {"server/"},
    "starlette": {"server/"},
    "pydantic": {"server/"},
    "python_multipart": {"server/"},
    "prometheus_client": {"server/"},
    "uvicorn": {"cli.py", "server/protocol.py"},
    "typer": {"cli.py"},
    "rich": {"cli.py"},
    "scrapy": SCRAPY_FILES,
    "twisted": SCRAPY_FILES,
    "itemadapter": SCRAPY_FILES,
    "w3lib": {"urls.py", *SCRAPY_FILES},
    "typing_extensions": {"entry.py"},
}
# Every import points down this list, or stays within a line.
LAYERS = [
    ["__init__"],
    ["addon"],
    ["pipeline"],
    ["media"],
    ["middleware"],
    ["failures"],
    ["crawl"],
    ["fates"],
    ["responses"],
    ["admission"],
    ["settings"],
    ["cli"],
    ["resilience"],
    ["client"],
    ["embedded"],
    ["rest"],
    ["server"],
    ["engine"],
    ["answers"],
    ["joining"],
    ["conversion"],
    ["breaker"],
    ["spool"],
    ["record"],
    ["files"],
    ["formats"],
    ["urls"],
    ["entry"],
    ["errors"],
]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def path_in_package(source):
    return source.relative_to(PACKAGE).as_posix()


def layer_of(source):
    return source.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source):
    """Give every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} imports relatively"
            if node.module == "imgcache_scrapy":
                yield from (f"imgcache_scrapy.{alias.name}" for alias in node.names)
            else:
                yield node.module


def loaded_by(statement):
    """Give the top-level modules that a fresh interpreter has after a statement."""
    script = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
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
        "import imgcache_scrapy.client\n"
        "imgcache_scrapy.client.ImgCacheClient('http://127.0.0.1:9').close()"
    )
    assert "httpx" in loaded
    assert not loaded & HEAVY


def test_the_crawl_side_does_not_load_the_cache():
    """With a service configured the plugin loads Scrapy, and neither catalog nor web framework."""
    loaded = loaded_by("from imgcache_scrapy import Addon, ImgCacheMiddleware, ImgCachePipeline")
    assert "scrapy" in loaded
    assert not loaded & {"fastapi", "starlette", "sqlalchemy", "obstore", "numpy"}


def test_the_sources_are_found():
    """The two tests below look at something."""
    assert len(SOURCES) > 20


@pytest.mark.parametrize("source", SOURCES, ids=path_in_package)
def test_each_library_is_imported_where_it_lives(source):
    """A library can be exchanged, since few files know it."""
    path = path_in_package(source)
    for module in imports_of(source):
        library = module.split(".")[0]
        if library in sys.stdlib_module_names or library == "imgcache_scrapy":
            continue
        assert library in HOMES, f"{path} imports {library}, which has no home"
        assert path.startswith(tuple(HOMES[library])), f"{path} imports {library}"


@pytest.mark.parametrize("source", SOURCES, ids=path_in_package)
def test_imports_point_down(source):
    """No module knows what is built on it, so each can be read from the bottom up."""
    own = layer_of(source)
    for module in imports_of(source):
        if module.startswith("imgcache_scrapy."):
            imported = module.split(".")[1]
            assert RANKS[own] < RANKS[imported] or own == imported, f"{own} imports {imported}"

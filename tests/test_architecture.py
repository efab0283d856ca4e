"""The architecture: which part may import which other part, and which libraries."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path, PurePath

import pytest

import imgcache_scrapy

PACKAGE = Path(imgcache_scrapy.__file__).parent
SOURCES = {path.relative_to(PACKAGE): path.read_text() for path in PACKAGE.rglob("*.py")}

# What each part may import: other parts, then libraries.
MAY_IMPORT = {
    "core": {"w3lib", "itsdangerous"},
    "engine": {"core", "typing_extensions", "sqlalchemy", "alembic", "obstore", "PIL", "numpy"},
    "client": {"core", "engine", "httpx", "anyio", "httpcore"},
    "server": {
        *(
            "core",
            "engine",
            "fastapi",
            "starlette",
            "jinja2",
            "pydantic",
            "python_multipart",
            "typing_extensions",
        ),
        *("prometheus_client", "uvicorn"),
    },
    "plugin": {"core", "client", "scrapy", "twisted", "itemadapter", "w3lib"},
    "cli": {"core", "client", "engine", "server", "typer", "rich", "uvicorn", "pyarrow"},
}
# Importing the package must stay fast: it imports a public name only at its first use.
MAY_IMPORT[""] = {"cli"}
# Imports that this test cannot follow.
DYNAMIC_IMPORT = re.compile(
    r"\b(?:__import__|exec|eval)(?=\()|importlib(?!\.(?:metadata|util))|pkgutil"
)
# What a part may import only inside functions.
MAY_IMPORT_IN_FUNCTIONS = {"cli": {"plugin"}}
# Libraries that only some modules of their part may import.
HOMES = {
    "httpx": {
        *("client/base.py", "client/client.py", "client/connection.py", "client/network.py"),
        "client/sites.py",
    },
    "anyio": {"client/network.py"},
    "httpcore": {"client/network.py"},
    "alembic": {"engine/catalog/migrations"},
    "sqlalchemy": {"engine/catalog"},
    "obstore": {"engine/blobs/objects.py"},
    "PIL": {"engine/decoding"},
    "itsdangerous": {"core/signing.py"},
    "numpy": {"engine/decoding"},
    "pyarrow": {"cli/transfer/parquet.py"},
}


def imports(path: PurePath, text: str) -> Iterator[tuple[str, bool]]:
    """Yield the full name of each module that a file imports, and whether a function imports it."""
    tree = ast.parse(text)
    if path == PurePath("__init__.py"):
        # Names for type checkers, which are not imported.
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    in_functions = {id(node) for function in functions for node in ast.walk(function)}
    package = ("imgcache_scrapy", *path.parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, id(node) in in_functions) for name in names)


def violations(path: PurePath, text: str) -> Iterator[str]:
    """Yield one sentence for each forbidden import."""
    part = path.parts[0] if len(path.parts) > 1 else ""
    for call in DYNAMIC_IMPORT.findall(text) if part else ():
        yield f"{path} imports by {call}"
    for name, is_in_function in imports(path, text):
        library, _, rest = name.partition(".")
        imported = rest.split(".")[0] if library == "imgcache_scrapy" else library
        if imported == part or library in sys.stdlib_module_names:
            continue
        allowed = MAY_IMPORT[part] | (
            MAY_IMPORT_IN_FUNCTIONS.get(part, set()) if is_in_function else set()
        )
        homes = HOMES.get(imported)
        is_home = homes is None or any(path.is_relative_to(home) for home in homes)
        if imported not in allowed or not is_home:
            yield f"{path} imports {name}"


def modules_imported(path: PurePath, text: str) -> set[PurePath]:
    """Return the modules of the package that a file imports."""
    found = set()
    for name, _ in imports(path, text):
        if name.startswith("imgcache_scrapy."):
            module_path = PurePath(*name.split(".")[1:])
            candidates = (module_path.with_suffix(".py"), module_path.parent.with_suffix(".py"))
            packages = (module_path / "__init__.py", module_path.parent / "__init__.py")
            found |= {each for each in (*candidates, *packages) if each in SOURCES}
    return found - {path, PurePath("__init__.py")}


def test_every_import_is_allowed():
    """plugin → client → engine → core; server → engine; cli → client, engine and server."""
    assert len(SOURCES) > 20
    found = [each for path, text in SOURCES.items() for each in violations(path, text)]
    assert not found


@pytest.mark.parametrize(
    ("path", "forbidden_import"),
    [
        ("core/urls.py", "import httpx"),
        ("core/urls.py", "from imgcache_scrapy.engine.cache import ImageCache"),
        ("core/urls.py", "from ..engine.cache import ImageCache"),
        ("core/urls.py", "from .. import engine"),
        ("core/urls.py", "from imgcache_scrapy import engine"),
        ("core/urls.py", "from imgcache_scrapy import ImgCacheClient"),
        ("engine/cache.py", "import imgcache_scrapy.client.client"),
        ("engine/cache.py", "from imgcache_scrapy.server import app"),
        ("engine/cache.py", "import scrapy"),
        ("engine/catalog/tables.py", "from ...client import client"),
        ("engine/blobs/files.py", "import sqlalchemy"),
        ("client/client.py", "from imgcache_scrapy.plugin.settings import Settings"),
        ("client/client.py", "import scrapy"),
        ("client/spool.py", "import httpx"),
        ("server/app.py", "from imgcache_scrapy.client.client import ImgCacheClient"),
        ("server/app.py", "def function():\n    from imgcache_scrapy.client import client"),
        ("plugin/settings.py", "from imgcache_scrapy.engine.cache import ImageCache"),
        ("plugin/settings.py", "from imgcache_scrapy import server"),
        ("plugin/settings.py", "def function():\n    from imgcache_scrapy import cli"),
        ("cli/main.py", "from imgcache_scrapy.plugin.settings import Settings"),
        ("cli/main.py", "import scrapy"),
        ("client/client.py", "import importlib\nimportlib.import_module('scrapy')"),
        ("client/client.py", "from importlib import import_module as load\nload('scrapy')"),
        ("engine/cache.py", "__import__('scrapy')"),
        ("core/urls.py", "import pkgutil\npkgutil.resolve_name('imgcache_scrapy.engine.cache')"),
        ("core/urls.py", "exec('import scrapy')"),
        ("__init__.py", "import scrapy"),
        ("__init__.py", "from imgcache_scrapy.engine.cache import ImageCache"),
        ("__main__.py", "import fastapi"),
    ],
)
def test_a_forbidden_import_is_found(path, forbidden_import):
    """The test above fails for each kind of forbidden import."""
    text = f"{SOURCES[PurePath(path)]}\n{forbidden_import}\n"
    assert list(violations(PurePath(path), text))


def test_cli_may_import_plugin_in_a_function():
    """The only exception: cli imports plugin inside functions."""
    text = "def function():\n    from imgcache_scrapy.plugin.settings import Settings\n"
    assert not list(violations(PurePath("cli/main.py"), text))


def test_there_are_no_import_cycles():
    """The modules can be sorted so that each comes after the modules that it imports."""
    graph = {path: modules_imported(path, text) for path, text in SOURCES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(SOURCES)


def test_every_module_belongs_to_a_part():
    """The top level of the package has only `__init__.py` and `__main__.py`."""
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py"}
    assert {path.parts[0] for path in SOURCES if len(path.parts) > 1} == set(MAY_IMPORT) - {""}

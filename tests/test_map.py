"""The map: the docstring of the package names files, functions and parts that exist."""

import ast
import re
from pathlib import Path

import pytest

import imgcache_scrapy

PACKAGE = Path(imgcache_scrapy.__file__).parent
MAP = imgcache_scrapy.__doc__ or ""
HOPS = re.findall(r"([a-z_0-9/]+\.py):([A-Za-z_.]+)", MAP)
PARTS = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]


def names_in(tree, prefix=""):
    """Yield the qualified name of each class and function."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from names_in(node, f"{prefix}{node.name}.")
        # A method that is derived from another one by a helper.
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            yield from (f"{prefix}{each.id}" for each in node.targets if isinstance(each, ast.Name))


def test_the_map_has_four_journeys():
    """Each has hops, and they run through all parts that an image passes."""
    assert len(HOPS) >= 30
    assert {path.split("/")[0] for path, _ in HOPS} == {*PARTS} - {"cli"}


@pytest.mark.parametrize(("path", "name"), sorted(set(HOPS)))
def test_each_hop_exists(path, name):
    """The file is there and defines the function."""
    assert name in names_in(ast.parse((PACKAGE / path).read_text()))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_on_the_map(part):
    """The map says what the part is for, and the part says what must hold in it."""
    assert re.search(rf"^    {part}/ ", MAP, re.MULTILINE)
    assert len(ast.get_docstring(ast.parse((PACKAGE / part / "__init__.py").read_text()))) > 200

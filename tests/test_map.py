"""The map and the guide for contributors name only files, functions and parts that exist."""

import ast
import re
from pathlib import Path

import pytest

import imgcache_scrapy

PACKAGE = Path(imgcache_scrapy.__file__).parent
MAP = imgcache_scrapy.__doc__ or ""
GUIDE = (PACKAGE.parent / ".github" / "CONTRIBUTING.md").read_text()
STEPS = re.findall(r"([a-z_0-9/]+\.py):([A-Za-z_.]+)", MAP)
PARTS = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]


def names_in(tree, prefix=""):
    """Yield the qualified name of each class and function."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from names_in(node, f"{prefix}{node.name}.")
        # A method that a helper derives from another one.
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            yield from (f"{prefix}{each.id}" for each in node.targets if isinstance(each, ast.Name))


def test_the_map_covers_every_part():
    """The steps of the journeys are in all parts that an image passes."""
    assert len(STEPS) >= 30
    assert {path.split("/")[0] for path, _ in STEPS} == {*PARTS} - {"cli"}


@pytest.mark.parametrize(("path", "name"), sorted(set(STEPS)))
def test_each_step_exists(path, name):
    """The file of each step exists and defines the function."""
    assert name in names_in(ast.parse((PACKAGE / path).read_text()))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_on_the_map(part):
    """The map describes each part, and the part's docstring says what must hold in it."""
    assert re.search(rf"^    {part}/ ", MAP, re.MULTILINE)
    assert len(ast.get_docstring(ast.parse((PACKAGE / part / "__init__.py").read_text()))) > 200


def test_the_example_of_the_guide_has_the_steps_that_it_names():
    """Each file that the guide names for a new method has a step of its example, `buckets()`."""
    _, _, section = GUIDE.partition("## Add a method of the cache")
    steps, _, tests = section.partition("## ")[0].partition("Then test the method")
    files = re.findall(r"`((?:engine|client|server)/[a-z_/]+\.py)`", steps)
    assert len(files) == 7
    assert [file for file in files if "buckets" not in (PACKAGE / file).read_text()] == []
    for file in re.findall(r"`(tests/[a-z_/]+\.py)`", tests):
        assert (PACKAGE.parent / file).exists()

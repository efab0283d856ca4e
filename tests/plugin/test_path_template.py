"""PathTemplate: which templates are valid, and that no value leaves the store."""

import dataclasses
from pathlib import Path, PurePosixPath, PureWindowsPath

import attrs
import pydantic
import pytest
import scrapy
from hypothesis import example, given
from hypothesis import strategies as st
from itemadapter import ItemAdapter

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.plugin.file_names.path_template import (
    MAX_PART_BYTES,
    NoValueError,
    PathTemplate,
    clean,
)

USUAL = PathTemplate.parse("{item[category]}/{item[sku]}-{index}.{ext}")


class DeclaredItem(scrapy.Item):
    """A Scrapy item."""

    category = scrapy.Field()
    sku = scrapy.Field()


@dataclasses.dataclass
class DataclassItem:
    """A dataclass item."""

    category: str
    sku: int


@attrs.define
class AttrsItem:
    """An attrs item."""

    category: str
    sku: int


class PydanticItem(pydantic.BaseModel):
    """A pydantic item."""

    category: str
    sku: int


def render(template, item, *numbers, extension="jpg"):
    """Return the path that a template gives to an item."""
    parsed = PathTemplate.parse(template)
    return parsed.render(parsed.values(item), *(numbers or (1,))[:1], extension, *numbers[1:])


@pytest.mark.parametrize(
    "kind", [dict, DeclaredItem, DataclassItem, AttrsItem, PydanticItem], ids=lambda k: k.__name__
)
def test_every_kind_of_item_has_a_path(kind):
    """Fields are read through itemadapter."""
    values = USUAL.values(ItemAdapter(kind(category="Shoes", sku=5)))
    assert USUAL.render(values, 3, "png") == "Shoes/5-3.png"


@pytest.mark.parametrize(
    ("template", "item", "path"),
    [
        ("{item[a]}.{ext}", {"a": "../../etc/passwd"}, "etcpasswd.jpg"),
        ("{item[a]}.{ext}", {"a": "..\\..\\x\0y"}, "xy.jpg"),
        ("{item[a]}.{ext}", {"a": "C:\\Windows"}, "CWindows.jpg"),
        ("{item[a]}.{ext}", {"a": " .hidden\n"}, "hidden.jpg"),
        ("{item[a]}/{index}.{ext}", {"a": ".."}, "_/1.jpg"),
        ("{item[a]}/{index}.{ext}", {"a": ""}, "_/1.jpg"),
        ("{item[a]}.{ext}", {"a": "con"}, "con_.jpg"),
        ("{item[a]}/{index}", {"a": "COM1"}, "COM1_/1"),
        ("{item[a]}.{ext}", {"a": "Grüße 你好 🎉"}, "Grüße 你好 🎉.jpg"),
        ("{item[a]}.{ext}", {"a": "a\ud800b"}, "ab.jpg"),
        ("{item[a]}.{ext}", {"a": ["one"]}, "one.jpg"),
        ("{item[a]}.{ext}", {"a": 0}, "0.jpg"),
        ("{item[a b]}-{index:03}.{ext}", {"a b": "x"}, "x-001.jpg"),
        ("{{{item[a]}}}.{ext}", {"a": "x"}, "{x}.jpg"),
        ("{ext}/{item[a]}", {"a": "x.png"}, "jpg/x.png"),
        ("{item[a]}-{index}.{ext}", {"a": "é" * 100}, f"{'é' * 57}-1.jpg"),
        ("{item[a]}-{item[b]}.{ext}", {"a": "a" * 200, "b": "bb"}, f"{'a' * 113}-bb.jpg"),
        ("{item[a]}/{index}.{ext}", {"a": "🎉" * 100}, f"{'🎉' * 30}/1.jpg"),
    ],
)
def test_values_are_cleaned_and_cut(template, item, path):
    """Nothing leaves its part; the longest values are cut, and the rest is kept."""
    assert render(template, item) == path


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{item[a]}.{ext}", "x-2.jpg"),
        ("{item[a]}", "x-2"),
        ("{item[file]}", "photo.1-2.png"),
        ("{item[a]}/{index}.tar.{ext}", "x/1.tar-2.jpg"),
        ("{item[long]}.{ext}", f"{'y' * 114}-2.jpg"),
    ],
)
def test_a_number_comes_before_the_extension(template, path):
    """The second picture of a path gets `-2`, and the part is not longer than before."""
    item = {"a": "x", "file": "photo.1.png", "long": "y" * 300}
    assert render(template, item, 1, 2) == path


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"sku": 5}, "no value in its field 'category'"),
        ({"sku": 5, "category": None}, "no value in its field 'category'"),
        ({"sku": [], "category": "x"}, "field 'sku', which IMGCACHE_PATH uses, is a list"),
        ({"sku": {"a": 1}, "category": "x"}, "is a dict"),
        ({"sku": b"5", "category": "x"}, "is a bytes"),
    ],
)
def test_a_field_without_one_value_is_named(item, message):
    """There is no path, and the message names the field."""
    with pytest.raises(NoValueError, match=message):
        USUAL.values(item)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "use {item"),
        ("{sku}.{ext}", "{sku} is not known"),
        ("{}.{ext}", "{} is not known"),
        ("{item}.{ext}", "{item} is not known"),
        ("{item.__class__}", "{item.__class__} is not known"),
        ("{item[a].__class__}", "is not known"),
        ("{item[a][b]}", "is not known"),
        ("{index.real}", "is not known"),
        ("{item[a]", "expected '}'"),
        ("{item[a]}}", "Single '}'"),
        ("{index:999999999}", "has a format"),
        ("{index:{ext}}", "has a format"),
        ("{item[a]:>9}", "has a format"),
        ("{item[a]!r}", "has a format"),
        ("/{item[a]}", "relative"),
        ("{item[a]}/", "relative"),
        ("a//{item[a]}", "relative"),
        ("../{item[a]}", "relative"),
        ("./{item[a]}", "relative"),
        ("C:/{item[a]}", "no backslash, colon"),
        ("a\\{item[a]}", "no backslash, colon"),
        ("a\0{item[a]}", "no backslash, colon"),
        ("x" * 61 + "{index}", "more than 60 bytes"),
    ],
)
def test_a_wrong_template_is_refused(template, reason):
    """The reason says what is wrong."""
    with pytest.raises(ConfigurationError) as raised:
        PathTemplate.parse(template)
    assert reason in str(raised.value)


TEMPLATES = [
    "{item[a]}/{item[b]}-{index}.{ext}",
    "{item[a]}{item[b]}.{ext}",
    "{item[a]}",
    "x/{item[a]}/.{item[b]}/{index:03}",
    "..{item[a]}.{ext}",
]
DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{name}{n}" for name in ("COM", "LPT") for n in range(10)),
}
HOSTILE = st.text(
    st.sampled_from("./\\:\0\n \u00a0é🎉e\u0301\ud800cCoOnN1aux~") | st.characters(), max_size=200
)


@given(
    template=st.sampled_from(TEMPLATES),
    a=HOSTILE,
    b=HOSTILE,
    index=st.integers(1, 10**6),
    number=st.integers(1, 10**6),
)
@example(TEMPLATES[0], "..", "../..", 1, 1)
@example(TEMPLATES[1], ".", ".", 1, 1)
def test_no_value_leaves_the_store(template, a, b, index, number):
    """The path has the parts of the template, each of them short and harmless everywhere."""
    path = render(template, {"a": a, "b": b}, index, number)
    parts = path.split("/")
    assert len(parts) == template.count("/") + 1
    for part in parts:
        assert 0 < len(part.encode()) <= MAX_PART_BYTES + 1
        assert part not in {".", ".."}
        assert not set(part) & set("\\:\0\n")
        assert part.partition(".")[0].strip().upper() not in DEVICES
    for kind in (PurePosixPath, PureWindowsPath):
        assert kind("/store", *parts).parent.is_relative_to(kind("/store"))
    assert Path("/store", *parts).resolve().is_relative_to("/store")
    if template.endswith("{ext}"):
        assert path.endswith(".jpg")


@given(HOSTILE)
def test_cleaning_twice_is_cleaning_once(value):
    """A cleaned value is clean, and starts with no dot."""
    cleaned = clean(value)
    assert clean(cleaned) == cleaned
    assert cleaned
    assert not cleaned.startswith(".")


@given(HOSTILE, st.integers(1, 99), st.integers(1, 99))
def test_numbers_and_indexes_make_different_paths(value, one, two):
    """No cut makes the paths of two numbers equal."""
    first, second = (
        render("{item[a]}-{index}.{ext}", {"a": value}, n, m)
        for n, m in [(one, two), (one, two + 1)]
    )
    assert first != second

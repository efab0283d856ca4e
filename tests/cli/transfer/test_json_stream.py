"""Large JSON files are read value by value."""

import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.cli.transfer import json_stream
from imgcache_scrapy.cli.transfer.confined import BadFileError
from imgcache_scrapy.cli.transfer.json_stream import json_values
from imgcache_scrapy.cli.transfer.pictures import split_of
from imgcache_scrapy.core.entry import content_hash_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    """Read a few characters at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_PART", 3)
        yield


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 2]))
def test_an_array(values, indent):
    """Its values come in their order."""
    text = json.dumps(values, indent=indent)
    assert list(json_values(StringIO(text))) == [(None, value) for value in values]


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5), st.booleans())
def test_an_object(values, ensure_ascii):
    """Its values come with their keys."""
    text = json.dumps(values, ensure_ascii=ensure_ascii)
    assert list(json_values(StringIO(text))) == list(values.items())


@pytest.mark.parametrize(
    "text", ["", " ", "1", "[", "[1", "[1 2]", "[1,]", '{"a"}', '{"a": }', "{1: 2}", '"a"', "[}"]
)
def test_what_is_no_json_is_an_error(text):
    """The error comes after the values before it."""
    with pytest.raises(BadFileError, match="JSON"):
        list(json_values(StringIO(text)))


def test_splits_have_their_shares():
    """Of many images, each split gets about its share."""
    splits = {"train": 0.8, "test": 0.15, "rest": 0.05}
    found = [split_of(content_hash_of(b"%d" % number), splits) for number in range(4000)]
    for name, share in splits.items():
        assert abs(found.count(name) / len(found) - share) < 0.03

"""RecentResults: which results a pipeline forgets."""

import pytest

from imgcache_scrapy.plugin.recent import RecentResults


@pytest.fixture
def results():
    """The dictionaries of a pipeline, and a function that uses a key of them."""
    kept, beside = {}, {}
    recent = RecentResults(max_results=2)

    def use(key):
        return recent.use(key, kept, beside)

    return kept, beside, use


def test_only_so_many_results_are_remembered(results):
    """Beyond the bound it is the result used longest ago that is forgotten."""
    kept, beside, use = results
    for key in (b"a", b"b", b"a", b"c"):
        with use(key):
            kept[key] = beside[key] = 1
    assert list(kept) == list(beside) == [b"a", b"c"]


def test_a_result_in_use_is_never_forgotten(results):
    """However many others come and go meanwhile, and however many use it."""
    kept, _, use = results
    with use(b"slow"):
        kept[b"slow"] = 1
        with use(b"slow"):
            pass
        for key in (b"a", b"b", b"c", b"d"):
            with use(key):
                kept[key] = 1
        assert list(kept) == [b"slow", b"c", b"d"]
    assert list(kept) == [b"slow", b"d"]


def test_an_error_ends_the_use(results):
    """A block that raises keeps its result no longer than another one."""
    kept, _, use = results
    for key in (b"a", b"b", b"c"):
        kept[key] = 1
        with pytest.raises(RuntimeError), use(key):
            raise RuntimeError
    assert list(kept) == [b"b", b"c"]

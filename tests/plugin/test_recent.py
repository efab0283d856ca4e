"""RecentKeys and RecentResults: what a long crawl forgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.plugin.recent import RecentKeys, RecentResults


@pytest.fixture
def results():
    """Return the two dictionaries of a pipeline, and a function that uses one of their keys."""
    downloaded, failed = {}, {}
    recent = RecentResults(max_results=2)

    def use(key):
        return recent.use(key, downloaded, failed)

    return downloaded, failed, use


def test_the_number_of_results_is_limited(results):
    """Above the limit, the least recently used result is forgotten."""
    downloaded, failed, use = results
    for key in (b"a", b"b", b"a", b"c"):
        with use(key):
            downloaded[key] = failed[key] = 1
    assert list(downloaded) == list(failed) == [b"a", b"c"]


def test_a_result_in_use_is_never_forgotten(results):
    """It stays if many other results are used in the meantime, and if it is used twice itself."""
    downloaded, _, use = results
    with use(b"slow"):
        downloaded[b"slow"] = 1
        with use(b"slow"):
            pass
        for key in (b"a", b"b", b"c", b"d"):
            with use(key):
                downloaded[key] = 1
        assert list(downloaded) == [b"slow", b"c", b"d"]
    assert list(downloaded) == [b"slow", b"d"]


def test_an_error_ends_the_use(results):
    """After an error in its block, a result can be forgotten like any other."""
    downloaded, _, use = results
    for key in (b"a", b"b", b"c"):
        downloaded[key] = 1
        with pytest.raises(RuntimeError), use(key):
            raise RuntimeError
    assert list(downloaded) == [b"b", b"c"]


@given(keys=st.lists(st.integers(0, 30).map(str), max_size=200))
def test_recent_keys_are_remembered(keys):
    """The last five different keys are known, and at most ten keys are remembered."""
    seen, last = RecentKeys(minimum=5), {}
    for key in keys:
        is_new = seen.add(key, None)
        assert not (is_new and key in list(last)[-5:])
        assert is_new or key in last
        if is_new:
            last.pop(key, None)
            last[key] = None
        assert len(seen._recent) <= 5
        assert len(seen._older) <= 5

"""RecentKeys: the keys that were added last, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.plugin.tally import RecentKeys


@given(keys=st.lists(st.integers(0, 30).map(str), max_size=200))
def test_recent_keys_are_remembered(keys):
    """The last five different keys are known, and at most ten keys are remembered."""
    seen, last = RecentKeys(minimum=5), {}
    for key in keys:
        is_new = seen.add(key)
        assert not (is_new and key in list(last)[-5:])
        assert is_new or key in last
        if is_new:
            last.pop(key, None)
            last[key] = None
        assert len(seen._recent) <= 5
        assert len(seen._older) <= 5

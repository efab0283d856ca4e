"""RecentKeys: which keys were seen last, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.plugin.tally import RecentKeys


@given(keys=st.lists(st.integers(0, 30).map(str), max_size=200))
def test_seen_keys_are_remembered_within_bounds(keys):
    """None of the last five different keys is new, and no more than ten are remembered."""
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

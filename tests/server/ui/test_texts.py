"""How values are written for people, and how plots are computed: without any service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.server.ui import plots, texts
from imgcache_scrapy.server.ui.grid_query import GridQuery, chips
from imgcache_scrapy.server.ui.results import result, result_of
from imgcache_scrapy.server.ui.tiles import download_name


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (123_456, "123 KB")),
        *((1_500_000, "1.5 MB"), (10**18, "1000 PB")),
    ],
)
def test_sizes_have_units(count, text):
    """A size has three digits at most, up to the largest unit."""
    assert texts.size(count) == text


def test_the_bytes_of_a_small_picture_are_said_once():
    """Below a thousand, the size with a unit is the number of bytes."""
    assert texts.size_and_bytes(999) == "999 B"
    assert texts.size_and_bytes(1234) == "1.2 KB (1\u202f234 B)"


def test_types_have_short_names():
    """A type is named as people know it."""
    names = [texts.kind(each) for each in ("image/jpeg", "image/svg+xml", "image/x", UNKNOWN_TYPE)]
    assert names == ["JPG", "SVG", "X", "unknown"]


def test_only_addresses_of_the_web_are_links():
    """A browser opens http and https, never a script or another scheme."""
    assert texts.link("https://a.test/x") == "https://a.test/x"
    for url in ("javascript:alert(1)", "data:,x", "//a.test", "http://", "http://[", "x" * 9):
        assert texts.link(url) is None
    assert texts.link(f"https://a.test/{'x' * 9000}") is None


@given(st.text(max_size=500), st.integers(4, 100))
def test_short_texts_keep_both_ends(text, length):
    """A long text loses its middle, and a short one nothing."""
    found = texts.short(text, length)
    assert len(found) <= length
    assert found == text or (text.startswith(found.split("…")[0]) and "…" in found)


@given(st.text(max_size=300))
def test_names_of_downloads_are_harmless(name):
    """A name has no path, no control character and the extension of what the file is."""
    entry = {
        "original_filename": name,
        "url": "https://a.test/b",
        "content_type": "image/png",
        "content_hash": "0" * 64,
    }
    found = download_name(entry)
    assert found.endswith(".png")
    assert found == found.strip()
    assert not set(found) & set("/\\:\0\r\n\"'<>|?*\u202e")
    assert len(found) < 120


def test_a_wrong_address_is_explained_in_plain_words():
    """A person reads which part of the address is wrong, and not how a program checks it."""
    wrong = {"min_width": "x", "min_bytes": "-1", "size": "huge", "since": "2026-13-45"}
    with pytest.raises(InvalidRequestError) as raised:
        GridQuery.of({**wrong, "until": "soon", "after": "x"})
    assert str(raised.value).split("; ") == [
        "since: is not a date such as 2026-01-31",
        "until: a time must look like 2026-01-31T12:00:00+00:00",
        "min_width: is not a whole number",
        "min_bytes: must not be smaller than 0",
        "size: must be 's', 'm', 'l' or 'xl'",
        "after: is not one that a page of this service gives",
    ]


@pytest.mark.parametrize("letter", ["a", "é", "本", "𠮷"])
def test_names_of_downloads_fit_in_a_file_system(letter):
    """A long name in any script is cut, so that a folder and a zip can hold it."""
    entry = {"original_filename": f"{letter * 300}.jpg", "url": "", "content_hash": "0" * 64}
    found = download_name({**entry, "content_type": "image/jpeg"})
    assert found.removesuffix(".jpg") == letter * min(100, 200 // len(letter.encode()))


def test_chips_lead_to_the_grid_without_them():
    """Each condition is named, and its address keeps the others and begins at the newest."""
    found = chips({"host": "a.test", "size": "l", "after": "1_2", "url_contains": "x&y"})
    assert [(each.label, each.value) for each in found] == [
        ("URL contains", "x&y"),
        ("host", "a.test"),
    ]
    assert found[1].without == "/?size=l&url_contains=x%26y"


def test_results_of_acts_are_said():
    """A result goes through the address and comes back as a sentence; anything else does not."""
    assert result_of(result("delete", 1, 0)) == "1 picture deleted."
    assert result_of(result("block", 3, 2)) == "3 pictures blocked. 2 were not there."
    assert result_of(result("unblock", 0, 1)) == "0 pictures allowed again. 1 was not blocked."
    for text in (None, "", "delete.1", "delete.1.0x", "drop.1.0", "delete.99999.0"):
        assert result_of(text) is None


@given(
    st.dictionaries(
        st.integers(0, 400), st.tuples(st.integers(1, 9), st.integers(0, 10**12)), max_size=60
    )
)
def test_the_plot_of_the_growth_stays_in_its_frame(days):
    """Each bar is inside of the plot, and the highest one has its top."""
    plot = plots.growth([(day, *days[day]) for day in sorted(days)])
    assert bool(plot.bars) is bool(days)
    for bar in plot.bars:
        assert 0 <= bar.x <= plot.width - bar.width + 0.1
        assert 0 <= bar.y <= plot.base
        assert bar.y + bar.height <= plot.base + 0.1
    if any(size for _, size in days.values()) and len(days) == 1:
        assert plot.bars[0].y == pytest.approx(20, abs=0.1)


def test_a_table_has_a_dozen_rows_and_the_others():
    """The largest groups have a row, and all others one together."""
    groups = {f"host {n}": {"bytes": 1000 - n} for n in range(20)}
    rows = plots.byte_shares(groups, {"host 0": "/?host=0"})
    assert len(rows) == 13
    assert rows[0] == plots.Share("host 0", "1.0 KB", 100.0, "/?host=0")
    assert rows[-1].name == "all others"
    assert max(row.share for row in rows) == 100
    assert plots.byte_shares({}, {}) == []
    assert [row.name for row in plots.byte_shares({"": {"bytes": 0}}, {})] == ["(none)"]

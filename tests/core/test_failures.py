"""Which failures are remembered, and for how long: pure rules, also for hostile headers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.core.failures import (
    DEFAULT_SECONDS,
    MAX_SECONDS,
    checked_rules,
    seconds_to_remember,
)

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DATE = r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]?\w*"
DAY, HOUR = 86_400, 3_600


def seconds(reason, retry_after=None, rules=DEFAULT_SECONDS):
    return seconds_to_remember(reason, retry_after, rules, NOW)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("http_404", DAY), ("http_410", DAY), *((reason, None) for reason in (
        "http_401", "http_403", "http_429", "http_451", "http_500", "http_503", "dns",
        "connection", "timeout", "filtered", "download", "html", "truncated", "known_http_404",
    ))],
)  # fmt: skip
def test_only_what_is_gone_is_remembered_by_default(reason, expected):
    """404 and 410 for a day; nothing that another request may get."""
    assert seconds(reason) == expected


@pytest.mark.parametrize("reason", ["http_429", "http_503"])
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("3601", HOUR),
        ("9" * 90, HOUR),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), HOUR),
        ("Fri, 31 Dec 9999 23:59:59 -1300", HOUR),
        ("Fri, 27 Nov 2026 14:02:00 +0200", 120),
        ("Fri, 27 Nov 2026 12:02:00 -0000", 120),
        (format_datetime(NOW - timedelta(minutes=2), usegmt=True), None),
        *((value, None) for value in (
            "0", "-5", "+5", "1.5", "1e9", "0x10", "", " ", "soon", "NaN", "inf", "٣", "²",
            "Fri, 00 Foo 2026", "Fri, 27 Nov 0000 12:00:00 GMT",
            "9" * 5000, "Fri, " * 1000,
        )),
    ],
)  # fmt: skip
def test_a_site_may_ask_for_an_hour(reason, header, expected):
    """The header Retry-After counts, as seconds or as a date, up to an hour; nonsense does not."""
    assert seconds(reason, header) == expected
    assert seconds("http_500", header) is None


@given(st.text() | st.from_regex(DATE))
def test_any_header_is_harmless(header):
    """No header raises an error, or gives more than an hour."""
    found = seconds("http_503", header)
    assert found is None or 0 < found <= HOUR


def test_the_rules_of_the_user_count_first():
    """They add reasons, change times, and switch reasons off; the defaults stay."""
    rules = checked_rules({"dns": 60, "http_404": 5, "http_410": 0, "http_503": 7})
    assert seconds("dns", rules=rules) == 60
    assert seconds("http_404", rules=rules) == 5
    assert seconds("http_410", rules=rules) is None
    assert seconds("http_503", "100", rules=rules) == 7
    assert seconds("http_429", "100", rules=rules) == 100
    assert seconds("http_410", rules=checked_rules({"http_403": 1})) == DAY


@pytest.mark.parametrize(
    "rules",
    [[], "http_404", None, {"html": 5}, {"http_304": 5}, {404: 5}, {"http_404": -1},
     {"http_404": True}, {"http_404": "5"}, {"dns": MAX_SECONDS + 1}, {"dns": float("nan")}],
    ids=str,
)  # fmt: skip
def test_wrong_rules_are_refused(rules):
    """A reason that cannot be remembered, or a time that is none."""
    with pytest.raises(ValueError, match=r"."):
        checked_rules(rules)

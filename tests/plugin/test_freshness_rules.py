"""Freshness rules: the pure decisions about ages, validators and answers."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.freshness import FreshnessRules, checked_max_age
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.revalidation import (
    as_changed,
    confirms,
    is_conditional,
    renewed_headers,
    validators,
)
from imgcache_scrapy.plugin.freshness import checked_max_ages, dated_stat, seconds_of_days

URL = "http://h.example/a.jpg"


def entry_of(age=0.0, **keys):
    """Return an entry of this age in seconds."""
    time = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    return {"url": URL, "lookup_time": time, "content_hash": "0" * 64, **keys}


@pytest.mark.parametrize(
    ("mode", "age", "max_age", "asks"),
    [
        ("normal", 50, None, False),
        ("normal", 50, 100, False),
        ("normal", 150, 100, True),
        ("normal", 0, 0, True),
        ("normal", -50, 100, False),
        ("normal", -150, 100, True),
        ("normal", -150, 0, True),
        ("refresh", 0, None, True),
        ("offline", 150, 100, False),
        ("offline", 0, 0, False),
    ],
)
def test_when_the_site_is_asked(mode, age, max_age, asks):
    """The mode decides first, then the age; a time far ahead is that of a wrong clock."""
    assert FreshnessRules(mode).must_ask(entry_of(age), max_age) is asks


@pytest.mark.parametrize(
    ("mode", "age", "max_age", "is_used"),
    [
        ("normal", 50, None, True),
        ("normal", 150, 100, False),
        ("normal", 0, 0, False),
        ("normal", -50, 100, True),
        ("normal", -150, 100, False),
        ("refresh", 0, None, False),
        ("offline", 150, 100, True),
    ],
)
def test_when_a_local_file_is_used(mode, age, max_age, is_used):
    """A file that is used gets the newest date, so that Scrapy's own age does not matter."""
    stat = {"checksum": "x", "last_modified": 1_000 - age}
    dated = dated_stat(FreshnessRules(mode), stat, 1_000, max_age)
    assert dated == ({"checksum": "x", "last_modified": math.inf} if is_used else {})


@pytest.mark.parametrize(
    ("url", "age"),
    [
        ("http://example.com/a", 60),
        ("http://IMG.example.com:81/a", 60),
        ("http://www.img2.example.com/a", None),
        ("http://notexample.com/a", 5),
        ("data:image/png;base64,AAAA", 5),
    ],
)
def test_a_host_holds_for_its_subdomains(url, age):
    """The rule of the nearest parent counts, then that of every host."""
    ages = checked_max_ages({"Example.com": 60, "img2.example.com": None, "*": 5})
    assert FreshnessRules(max_ages=ages).max_age(url, "default") == age


def test_a_host_without_a_rule_has_the_default():
    """Without a rule for every host, other hosts have the default of the pipeline."""
    assert FreshnessRules(max_ages={"h.example": 1}).max_age("http://x.example/", 7) == 7


@pytest.mark.parametrize(
    ("value", "ages"),
    [
        (60, {"*": 60}),
        ("60", {"*": 60}),
        (0, {"*": 0}),
        (None, {"*": None}),
        ('{"h.example": 0.5, "*": null}', {"h.example": 0.5, "*": None}),
    ],
)
def test_ages_in_settings(value, ages):
    """An age is a number for every host, or numbers by host, also as a text."""
    assert checked_max_ages(value) == ages


@pytest.mark.parametrize(
    "value",
    [
        -1,
        "soon",
        True,
        math.nan,
        math.inf,
        10**400,
        [],
        {"h.example": "x"},
        {"h.example/a": 1},
        {3: 1},
    ],
)
def test_wrong_ages_in_settings(value):
    """Negative or infinite numbers, other values, and what is no host are refused."""
    with pytest.raises((ValueError, ConfigurationError, InvalidRequestError)):
        checked_max_ages(value)


def test_the_age_of_a_request():
    """None means no limit."""
    assert (checked_max_age(None), checked_max_age(3)) == (None, 3)
    for wrong in ("3", True, -1, math.inf, math.nan, 10**400):
        with pytest.raises(InvalidRequestError, match="a number of seconds"):
            checked_max_age(wrong)


def test_scrapys_days():
    """As in Scrapy, what expires in 0 days or less is always asked for again."""
    assert [seconds_of_days(days) for days in (90, 0, -1)] == [7_776_000, 0, 0]


def test_validators_of_an_entry():
    """They are sent as the site wrote them, byte for byte."""
    headers = {"ETag": 'W/"\xe9"', "Last-Modified": "Wed, 25 Nov 2026 10:00:00 GMT"}
    assert validators(entry_of(headers=headers)) == {
        "If-None-Match": b'W/"\xe9"',
        "If-Modified-Since": b"Wed, 25 Nov 2026 10:00:00 GMT",
    }
    assert validators(entry_of()) == {}


def test_conditions_of_the_user():
    """Any header that makes a request conditional counts, in any letter case."""
    assert is_conditional([b"Accept", b"if-none-match"])
    assert not is_conditional([b"Accept", b"If-Something"])


@pytest.mark.parametrize(
    ("keys", "asked", "answered", "is_about_it"),
    [
        ({}, URL, URL, True),
        ({}, f"{URL}?X-Amz-Signature=1", URL, False),
        ({}, URL, "http://h.example/b.jpg", False),
        ({"final_url": "http://h.example/b.jpg"}, URL, "http://h.example/b.jpg", True),
        ({"final_url": "http://h.example/b.jpg"}, URL, URL, False),
    ],
)
def test_whom_a_validator_means_something(keys, asked, answered, is_about_it):
    """Only the answer of the URL that gave the validators counts."""
    assert confirms(entry_of(**keys), ImageUrl.of(asked), answered, cache_key) is is_about_it


def test_headers_of_a_renewed_capture():
    """The answer "not modified" renews headers, but its type is not that of the image."""
    entry = entry_of(headers={"ETag": '"1"', "Content-Type": "image/jpeg", "Link": "<x>"})
    given = {"ETag": '"2"', "Content-Type": "text/html", "Date": "now"}
    assert renewed_headers(entry, given) == {
        "ETag": '"2"',
        "Content-Type": "image/jpeg",
        "Link": "<x>",
        "Date": "now",
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "distance"),
    [("00000000000000ff", "0000000000000000", {"distance": 8}), (None, "0" * 16, {})],
)
def test_the_keys_of_a_changed_image(ours, theirs, distance):
    """They name the previous image, and the distance where both have a perceptual hash."""
    previous = entry_of(perceptual_hash=theirs)
    entry = entry_of(perceptual_hash=ours)
    entry["content_hash"] = "1" * 64
    changed = as_changed(entry, previous)
    assert changed == entry | distance | {"changed": True, "previous_content_hash": "0" * 64}


@pytest.mark.parametrize(("on_gone", "fails"), [("fail", True), ("stale", False)])
def test_a_picture_that_is_gone(on_gone, fails):
    """Only 404 and 410 say that a picture is gone."""
    rules = FreshnessRules(on_gone=on_gone)
    assert [rules.fails(status) for status in (404, 410, 403, 500)] == [fails, fails, False, False]

"""The presets: which URLs of each provider share a key, and which do not."""

import pytest

from imgcache_scrapy.core import (
    ALL_PRESETS,
    DEFAULT_PRESETS,
    DEFAULT_RULES,
    KeyRules,
    cache_key,
    explain_key,
)
from tests.support.key_shapes import PROVIDERS, filled

SEEDS = range(3)
ALL_RULES = KeyRules(ALL_PRESETS)


def keys_of_group(templates, rules=DEFAULT_RULES):
    """Return the keys of the URLs that one picture has in several crawls."""
    return {cache_key(filled(each, seed), rules) for each in templates for seed in SEEDS}


@pytest.mark.parametrize("name", DEFAULT_PRESETS)
def test_the_urls_of_one_picture_share_a_key(name):
    """Whatever signs, expires or routes a URL is not in its key, in ten pairs of URLs and more."""
    groups = PROVIDERS[name].groups
    for group in groups:
        assert len(keys_of_group(group)) == 1, group
    urls = {filled(each, seed) for group in groups for each in group for seed in SEEDS}
    assert len(urls) - len(groups) >= 10


@pytest.mark.parametrize("name", DEFAULT_PRESETS)
def test_different_pictures_have_different_keys(name):
    """What may select a picture is in the key, in ten pairs of URLs and more."""
    provider = PROVIDERS[name]
    keys = [key for group in provider.groups for key in keys_of_group(group)]
    keys += [cache_key(filled(each, seed)) for each in provider.apart for seed in SEEDS]
    assert len(set(keys)) == len(keys) >= 10


@pytest.mark.parametrize("name", DEFAULT_PRESETS)
def test_a_preset_can_be_switched_off(name):
    """Without its preset, the signatures and mirrors of a provider stay in the keys."""
    rules = KeyRules([each for each in DEFAULT_PRESETS if each != name])
    for group in PROVIDERS[name].groups:
        urls = [filled(each, seed) for each in group for seed in SEEDS]
        assert {explain_key(url, rules).reason for url in urls} == {"plain"}


@pytest.mark.parametrize("name", DEFAULT_PRESETS)
def test_the_other_presets_change_nothing(name):
    """Every preset on, the keys of a provider are those of its own preset, and so is the reason."""
    provider = PROVIDERS[name]
    templates = [each for group in provider.groups for each in group] + provider.apart
    for template in templates:
        url = filled(template, 0)
        alone = explain_key(url, KeyRules([name]))
        assert explain_key(url, DEFAULT_RULES) == alone
        assert alone.reason in {name, "plain"}
        assert cache_key(alone.key) == alone.key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # A signature on imgix and Reddit is a size of avatars, and noise on TikTok.
        ("https://avatars.githubusercontent.com/u/1?s=40", "…?s=80"),
        ("https://www.gravatar.com/avatar/1?s=" + "1" * 32, "…?s=" + "2" * 32),
        ("https://x.imgix.net/1.jpg?s=40", "…?s=80"),
        ("https://p16-sign-va.tiktokcdn.com/1.jpeg?s=1", "…?s=2"),
        # Words of lists of tracking parameters that select a picture somewhere.
        ("https://img.example/1.jpg?th=1", "…?th=2"),
        ("https://img.example/1.jpg?keywords=a", "…?keywords=b"),
        ("https://img.example/1.jpg?mc=1", "…?mc=2"),
        ("https://img.example/1.jpg?utm_source=a", "…?utm_source=b"),
        ("https://img.example/1.jpg?v=1", "…?v=2"),
        ("https://img.example/1.jpg?token=1&expires=1", "…?token=2&expires=1"),
        ("https://img.example/1.jpg?sv=1&sig=1", "…?sv=1&sig=2"),
        ("https://img.example/1.jpg?sv=2026-01-01&sig=1", "…?sv=2026-01-02&sig=1"),
        ("https://cdn.shopify.com/s/files/1.jpg?v=1", "…?v=2"),
        ("https://cdn.shopify.com/s/files/1_480x480.jpg", "https://cdn.shopify.com/s/files/1.jpg"),
        ("https://pbs.twimg.com/media/1?format=jpg&name=small", "…?format=jpg&name=large"),
        (
            "https://img.example/cdn-cgi/image/width=1/a.jpg",
            "https://img.example/cdn-cgi/image/width=2/a.jpg",
        ),
        (
            "https://m.media-amazon.com/1._AC_SL1500_.jpg",
            "https://m.media-amazon.com/1._AC_SL500_.jpg",
        ),
        (
            "https://i.ebayimg.com/images/g/1/s-l1600.jpg",
            "https://i.ebayimg.com/images/g/1/s-l500.jpg",
        ),
        ("https://imgproxy.example/<sig1>/w:1/a.jpg", "https://imgproxy.example/<sig2>/w:1/a.jpg"),
        (
            "https://v5.airtableusercontent.com/v3/u/1/1/1/a",
            "https://v5.airtableusercontent.com/v3/u/1/1/2/a",
        ),
        ("https://cdn4.telesco.pe/file/a.jpg", "https://cdn4.telesco.pe/file/b.jpg"),
        ("https://i0.wp.com/a.example/1.jpg?ssl=1", "https://i0.wp.com/a.example/1.jpg"),
        ("https://sun9-1.userapi.com/1.jpg?as=1&u=1", "…?as=1&u=2"),
    ],
)
def test_traps(one, other):
    """A parameter that signs at one provider selects a picture elsewhere."""
    assert cache_key(one) != cache_key(other.replace("…", one.partition("?")[0]))


@pytest.mark.parametrize(
    ("preset", "one", "other"),
    [
        ("utm", "https://a.example/1?utm_source=a&gclid=1&w=1", "https://a.example/1?w=1&fbclid=2"),
        ("version", "https://a.example/1.jpg?v=12&w=1", "https://a.example/1.jpg?ver=3&w=1"),
        ("bunny-any-host", "https://a.example/1?token=a&expires=1", "https://a.example/1"),
        (
            "bunny-any-host",
            "https://a.example/bcdn_token=a&expires=1/1.jpg",
            "https://a.example/bcdn_token=b&expires=2/1.jpg",
        ),
        (
            "cloudinary-version",
            "https://res.cloudinary.com/c/image/upload/w_1/v1/a.jpg",
            "https://res.cloudinary.com/c/image/upload/w_1/v22/a.jpg",
        ),
        (
            "shopify-version",
            "https://cdn.shopify.com/s/files/1.jpg?v=1&width=2",
            "https://cdn.shopify.com/s/files/1.jpg?width=2&v=3",
        ),
        (
            "shopify-version",
            "https://a.example/cdn/shop/files/1.jpg?v=1",
            "https://a.example/cdn/shop/files/1.jpg?v=2",
        ),
    ],
)
def test_an_opt_in_preset(preset, one, other):
    """What a person may disagree about is in the key, until its preset is on."""
    assert preset not in DEFAULT_PRESETS
    assert cache_key(one) != cache_key(other)
    rules = KeyRules([preset])
    assert cache_key(one, rules) == cache_key(other, rules)
    assert explain_key(one, rules).reason == preset


def test_opt_in_presets_keep_what_selects():
    """Also with every preset on, sizes and sources stay in the key."""
    urls = [
        "https://a.example/1.jpg?utm=1",
        "https://a.example/1.jpg?vs=1",
        "https://a.example/1.jpg?token=1",
        "https://a.example/1.jpg?expires=1",
        "https://res.cloudinary.com/c/image/upload/w_1/v1.jpg",
        "https://res.cloudinary.com/c/image/upload/w_1/v2.jpg",
        "https://res.cloudinary.com/c/image/fetch/https://a.example/v1/a.jpg",
        "https://res.cloudinary.com/c/image/fetch/https://a.example/v2/a.jpg",
        "https://res.cloudinary.com/c/image/upload/v1/v2/a.jpg",
        "https://res.cloudinary.com/c/image/upload/v1/v3/a.jpg",
    ]
    assert len({cache_key(url, ALL_RULES) for url in urls}) == len(urls)


def test_two_presets_can_apply_to_one_url():
    """The reason names each preset that left something out, in the order of the list."""
    url = "https://d1.example/1.jpg?w=1&utm_source=a&Expires=1&Signature=2&Key-Pair-Id=3"
    found = explain_key(url, KeyRules(["utm", "cloudfront"]))
    assert found == ("https://d1.example/1.jpg?w=1", "cloudfront, utm")


def test_the_presets_that_are_on_by_default():
    """The lists have each name once, and what is on by default comes first."""
    assert ALL_PRESETS[: len(DEFAULT_PRESETS)] == DEFAULT_PRESETS
    assert len(set(ALL_PRESETS)) == len(ALL_PRESETS)
    assert set(PROVIDERS) == set(DEFAULT_PRESETS)

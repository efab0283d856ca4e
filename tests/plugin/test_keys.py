"""The settings for cache keys, and the function of a project."""

import pytest
from scrapy.settings import Settings as ScrapySettings

from imgcache_scrapy import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core import DEFAULT_RULES, KeyRules, cache_key, explain_key
from imgcache_scrapy.plugin.keys import KeyFinder, KeyFunctionError
from imgcache_scrapy.plugin.outcome import ImageFailed
from imgcache_scrapy.plugin.settings import Settings

SIGNED = "https://d1.example/1.jpg?w=1&sid=2&utm_id=3&Expires=1&Signature=2&Key-Pair-Id=3"


def read(**settings):
    """Return the settings of a crawl."""
    named = {f"IMGCACHE_{name}": value for name, value in settings.items()}
    return Settings.from_settings(ScrapySettings({"IMGCACHE_URL": "cache", **named}))


def by_path(url):
    """Compute a key, as the function of a project does."""
    return url.partition("?")[0]


def test_without_settings_keys_follow_the_default_rules():
    """What is certain is on, and no parameter is ignored."""
    settings = read()
    assert settings.key_of(SIGNED) == cache_key(SIGNED)
    assert settings.key_of is settings.key_of
    rules = KeyRules(settings.key_presets, settings.key_ignore_params)
    assert (rules, settings.key_function) == (DEFAULT_RULES, None)


@pytest.mark.parametrize(
    "presets", [["utm", "cloudfront"], ("utm", "cloudfront"), "utm, cloudfront"]
)
@pytest.mark.parametrize("params", [{"d1.example": ["sid"]}, '{"d1.example": ["sid"]}'])
def test_the_settings_of_a_project(presets, params):
    """Lists and dicts may also be texts, as on the command line."""
    settings = read(KEY_PRESETS=presets, KEY_IGNORE_PARAMS=params)
    found = settings.key_of.explain(SIGNED)
    assert found == ("https://d1.example/1.jpg?w=1", "cloudfront, utm, ignored parameters")


@pytest.mark.parametrize("presets", [[], ""])
def test_all_presets_can_be_off(presets):
    """An empty list leaves every parameter in the key."""
    assert read(KEY_PRESETS=presets).key_of.explain(SIGNED) == explain_key(SIGNED, KeyRules(()))


@pytest.mark.parametrize("function", [by_path, f"{__name__}.by_path"])
def test_a_function_computes_the_key(function):
    """A function, or its path, decides alone; its key has the spelling of all keys."""
    settings = read(KEY_FUNCTION=function, KEY_IGNORE_PARAMS={"*": ["w"]})
    assert settings.key_of.explain("HTTP://u:p@H/a?w=1") == ("http://h/a", "user rule")
    assert settings.key_of("http://h/b#c") == "http://h/b"


def test_a_function_gets_the_url_as_it_is_written():
    """The URL is not quoted, folded or sorted before the function sees it."""
    seen = []
    key_of = KeyFinder(DEFAULT_RULES, lambda url: seen.append(url) or url)
    key_of(SIGNED)
    assert seen == [SIGNED]


def test_a_function_gets_only_urls():
    """What is no URL is refused before, and a picture in its URL has the key of its bytes."""
    key_of = KeyFinder(DEFAULT_RULES, lambda url: "http://h/")
    with pytest.raises(InvalidRequestError):
        key_of("")
    with pytest.raises(InvalidRequestError):
        key_of(None)
    assert key_of.explain("data:,x") == explain_key("data:,x")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda url: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda: "http://h/", "raised TypeError"),
        (lambda url: None, "returned no URL: a URL must be a string, got NoneType"),
        (lambda url: b"http://h/", "returned no URL: a URL must be a string, got bytes"),
        (lambda url: "", "returned no URL: a URL must not be empty"),
        (lambda url: "http://h/\ud800", "returned no URL"),
        (lambda url: "http://h/" + "a" * 70_000, "returned no URL: a URL must not be longer"),
    ],
)
def test_a_function_that_fails(function, sentence):
    """Its failure is that of a hook of the project, and names the setting."""
    with pytest.raises(KeyFunctionError, match=f"IMGCACHE_KEY_FUNCTION {sentence}") as raised:
        KeyFinder(DEFAULT_RULES, function)(SIGNED)
    failed = ImageFailed.of(raised.value)
    assert (failed.reason, failed.fate) == ("hook", "failed")
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("KEY_PRESETS", ["s3", "s4"], r"list of presets, not .*no preset 's4': the presets are s3"),
        ("KEY_PRESETS", 5, "must be a list of presets, not 5"),
        ("KEY_IGNORE_PARAMS", {"h": "sid"}, "must be a dict of hosts, each with a list"),
        ("KEY_IGNORE_PARAMS", ["sid"], "must be a dict of hosts"),
        ("KEY_IGNORE_PARAMS", "{", "must be a dict of hosts"),
        ("KEY_IGNORE_PARAMS", {"a/b": ["sid"]}, "'a/b' is not a host"),
        ("KEY_FUNCTION", "shop.keys.missing", "must be the path of a function, not 'shop.keys"),
        ("KEY_FUNCTION", "missing", "must be the path of a function, not 'missing'"),
        ("KEY_FUNCTION", f"{__name__}.SIGNED", "must be the path of a function"),
        ("KEY_FUNCTION", 5, "must be the path of a function, not 5"),
    ],
)
def test_a_wrong_setting(setting, value, sentence):
    """The sentence names the setting, and what it must be."""
    with pytest.raises(ConfigurationError, match=f"IMGCACHE_{setting} .*{sentence}"):
        read(**{setting: value})

"""Cache keys: one key for the spellings of one request, and never one for two pictures."""

import time
from collections import Counter
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from imgcache_scrapy import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core import (
    ALL_PRESETS,
    DEFAULT_PRESETS,
    DEFAULT_RULES,
    KeyRules,
    cache_key,
    explain_key,
)
from imgcache_scrapy.core import urls as core_urls
from tests.support.key_shapes import MOVED, PROVIDERS, SIGNED, filled

NO_PRESETS = KeyRules(())
EVERYTHING = KeyRules(
    ALL_PRESETS,
    {"*": ["sid"], "googleusercontent.com": ["ref"], "lh3.googleusercontent.com": ["a"]},
)
RULES = st.sampled_from([DEFAULT_RULES, NO_PRESETS, EVERYTHING])

# What each preset may leave out, written once more: names, or starts of names with "*".
MAY_DROP = {
    "s3": "X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders"
    " X-Amz-Signature X-Amz-Security-Token X-Amz-Content-Sha256 response-* x-id"
    " x-amz-checksum-mode AWSAccessKeyId Signature Expires x-amz-security-token",
    "cloudfront": "Expires Policy Signature Key-Pair-Id Hash-Algorithm",
    "gcs": "X-Goog-Algorithm X-Goog-Credential X-Goog-Date X-Goog-Expires X-Goog-SignedHeaders"
    " X-Goog-Signature GoogleAccessId Signature Expires",
    "firebase": "token",
    "azure": "sv ss srt sr sp st se sip spr sig si sk* rsc* saoid suoid scid sdd ses",
    "oss": "OSSAccessKeyId Expires Signature security-token",
    "cos": "q-* x-cos-security-token",
    "akamai": "hdnts hdnea hdntl __token__",
    "bunny": "token expires token_path token_ignore_params",
    "imgix": "s expires ixlib ixid",
    "facebook": "oh oe ccb efg edm gid ig_cache_key _nc_*",
    "tiktok": "x-expires x-signature lk3s dr idc nonce ps refresh_token s sc shcp shp t",
    "discord": "ex is hm backend",
    "reddit": "s",
    "wikimedia": "utm_*",
    "youtube": "rs",
    "vk": "sign",
    "deviantart": "token",
    "linkedin": "e v t",
    "github": "jwt",
    "supabase": "token",
}
MIRRORS = {
    "facebook": ("scontent", (".fbcdn.net", ".cdninstagram.com")),
    "tiktok": ("p", (".tiktokcdn.com",)),
    "vk": ("sun", (".userapi.com",)),
}
UNRESERVED = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")

# Few different pieces, so that two URLs are often the same request, or nearly so.
texts = st.lists(
    st.sampled_from(
        ["a", "%61", "b", "B", "%2F", "%2f", "/", "+", "%2B", "%20", " ", "é", "%C3%A9"]
    ),
    max_size=3,
).map("".join)
names = st.sampled_from(["a", "%61", "A", "a-b", "a%2db", "%2561", "b", "ü"])
parameters = st.builds(
    lambda name, sign, value: name + sign + (value if sign else ""),
    names,
    st.sampled_from(["=", "=", "=", ""]),
    texts,
)
hosts = st.sampled_from(["h.example", "H.Example", "h.example:80", "h.example:443", "i1.wp.com"])


def url_of(scheme, host, path, query):
    """Return the URL of these parts."""
    return f"{scheme}://{host}/{path}{'?' if query else ''}{'&'.join(query)}".strip()


plain_urls = st.builds(
    url_of,
    st.sampled_from(["http", "HTTP", "https"]),
    hosts,
    texts,
    st.lists(parameters, max_size=4),
)


def tokens(text):
    """Return what a text of a URL means: characters and bytes, one by one."""
    found, position = [], 0
    while position < len(text):
        if text[position] == "%":
            byte, position = int(text[position + 1 : position + 3], 16), position + 3
            found.append(chr(byte) if byte in UNRESERVED else byte)
        else:
            char, position = text[position], position + 1
            found += char.encode() if char == " " or char > "~" else char
    return tuple(found)


def meaning(url):
    """Return what a URL of `plain_urls` requests, as this module understands it by itself."""
    scheme, rest = url.split("://")
    host, _, rest = rest.partition("/")
    path, _, query = rest.partition("?")
    host = host.lower().removesuffix({"http": ":80", "https": ":443"}[scheme.lower()])
    listed = [part.partition("=") for part in query.split("&")]
    listed = [(tokens(name), sign, tokens(value)) for name, sign, value in listed]
    is_ordered = host.endswith(".wp.com") or not all(sign for _, sign, _ in listed)
    by_name = {}
    for name, _, value in listed:
        by_name.setdefault(name, []).append(value)
    return scheme.lower(), host, tokens(path), listed if is_ordered else by_name


@settings(max_examples=400)
@given(plain_urls, plain_urls)
@example("http://h.example/?a", "http://h.example/?a=")
@example("http://h.example/?a=+", "http://h.example/?a=%2B")
@example("http://h.example/?a=+", "http://h.example/?a=%20")
@example("http://h.example/?a=1&a=2", "http://h.example/?a=2&a=1")
@example("http://h.example/?b=1&a=2", "http://h.example/?a=2&b=1")
@example("http://h.example/?b&a=2", "http://h.example/?a=2&b")
@example("http://h.example/?b=1&a=2", "http://h.example/?%61=2&b=1")
@example("http://h.example:80/", "https://h.example:80/")
@example("http://i1.wp.com/?b=1&a=2", "http://i1.wp.com/?a=2&b=1")
def test_two_urls_share_a_key_if_and_only_if_they_mean_the_same(one, other):
    """Without presets, the keys are equal exactly where a second implementation says so."""
    is_same = meaning(one) == meaning(other)
    assert (cache_key(one, NO_PRESETS) == cache_key(other, NO_PRESETS)) is is_same


@settings(max_examples=200)
@given(plain_urls, st.randoms(use_true_random=False))
def test_the_order_of_parameters_does_not_count(url, random):
    """Values of one name keep their order; where order acts, another order is another key."""
    start, _, query = url.partition("?")
    listed = query.split("&")
    random.shuffle(listed)
    other = "?".join([start, *filter(None, ["&".join(listed)])]).strip()
    is_same = meaning(url) == meaning(other)
    assert (cache_key(url) == cache_key(other)) is is_same


ODD = st.text(
    st.one_of(st.characters(), st.sampled_from("%%%%25/?#&=;+@: \t\n\\[]{}|^'<>~ü€日😀1aF")),
    max_size=30,
)
SIGNS = [
    template.partition("?")[2].partition("#")[0]
    for provider in SIGNED.values()
    for group in provider.groups
    for template in group
]
ALL_PARAMETERS = sorted({each for sign in SIGNS for each in sign.split("&") if "=" in each})
TEMPLATES = [each for provider in PROVIDERS.values() for group in provider.groups for each in group]
ALL_HOSTS = sorted({urlsplit(template).netloc.removesuffix(":443") for template in TEMPLATES})
PIECES = st.one_of(
    ODD,
    st.sampled_from(
        [
            "/hdnts=",
            "~hmac=ab",
            "/dir",
            "/s--ab--",
            "/image/upload",
            "/bcdn_token=a&expires=1",
            "/v1",
        ]
    ),
    st.sampled_from(ALL_PARAMETERS).map(lambda each: f"&{filled(each, 0)}"),
)
odd_urls = st.builds(
    lambda scheme, user, host, tail: f"{scheme}//{user}{host}{''.join(tail)}",
    st.sampled_from(["http:", "https:", "HTTP:", "ftp:", "foo:", "s3:", ""]),
    st.sampled_from(["", "", "u@", "u:p@", "@"]),
    st.one_of(st.sampled_from(ALL_HOSTS), ODD),
    st.lists(st.one_of(st.just("/"), st.just("?"), PIECES), max_size=6),
)


@settings(max_examples=500)
@given(odd_urls, RULES)
@example("http://h/%%34%31?%4%31", DEFAULT_RULES)
@example("http://h/a?utm_x=%&b=%%34%31&utm_y=%4&c=%31", EVERYTHING)
@example("http://h?utm_x=1", EVERYTHING)
@example("http://lh5.googleusercontent.com/a?a=1", EVERYTHING)
@example("http://media.rightmove.co.uk/dir/dir/dir/a", DEFAULT_RULES)
@example("http://x.xhscdn.com/hdnts=~hmac=ab/202502241258/" + "a" * 32 + "/b", DEFAULT_RULES)
@example("foo://u@/x", DEFAULT_RULES)
@example("http://h #f", DEFAULT_RULES)
@example("http://////", DEFAULT_RULES)
def test_a_key_is_its_own_key(url, rules):
    """A key is a URL whose key it is, also where a preset has left something out."""
    try:
        key = cache_key(url, rules)
    except InvalidRequestError:
        assume(False)
    assert cache_key(key, rules) == key
    assert "#" not in key
    assert "u:p@" not in key


def may_be_dropped(parameter, reasons):
    """Return whether one of these presets may leave out a parameter."""
    allowed = " ".join(MAY_DROP.get(reason, "") for reason in reasons).split()
    starts = tuple(each[:-1] for each in allowed if each.endswith("*"))
    if "discord" in reasons and parameter in {"", "="}:
        return True
    name = parameter.partition("=")[0]
    return name in allowed or bool(starts and name.startswith(starts))


@settings(max_examples=500)
@given(
    st.sampled_from(ALL_HOSTS),
    st.sampled_from(["", "a.jpg", "storage/v1/object/sign/a.jpg"]),
    st.sampled_from(SIGNS),
    st.lists(st.sampled_from(ALL_PARAMETERS), max_size=6),
    st.randoms(use_true_random=False),
)
def test_only_parameters_of_a_preset_are_left_out(host, path, sign, more, random):
    """A key is the URL without the parameters of the presets that its reason names, and no more."""
    listed = [*sign.split("&"), *more]
    random.shuffle(listed)
    url = f"https://{host}/{path}?{filled('&'.join(listed), 0)}"
    key, reason = explain_key(url)
    reasons = [] if reason == "plain" else reason.split(", ")
    found, parts = urlsplit(key), urlsplit(cache_key(url, NO_PRESETS))
    left, before = ({*each.query.split("&")} for each in (found, parts))
    assert left - before <= {""}
    assert all(may_be_dropped(each, reasons) for each in before - left)
    query = "&".join(each for each in parts.query.split("&") if each in left)
    assert key == cache_key(f"https://{found.netloc}{parts.path}?{query}", NO_PRESETS)
    if found.netloc != parts.netloc:
        (moved,) = [each for each in reasons if each in MIRRORS or each in MOVED]
        start, domains = MIRRORS.get(moved, ("", ("",)))
        for each in (found.netloc, parts.netloc):
            assert each.startswith(start)
            assert each.endswith(domains)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("HTTP://H.Example:80/A#b", "http://h.example/A"),
        ("https://h.example:443/", "https://h.example/"),
        ("https://h.example:80/", "https://h.example:80/"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("http://[::1]:81/", "http://[::1]:81/"),
        ("http://ü.example/ü", "http://xn--tda.example/%C3%BC"),
        ("http://h/%7e%2f%2B%c3%bc", "http://h/~%2F%2B%C3%BC"),
        ("http://h/%2541", "http://h/%2541"),
        ("http://h/100%", "http://h/100%"),
        ("http://h/%%34%31?%4%31", "http://h/%%341?%4%31"),
        ("http://h/?b=1&a=2&b=0", "http://h/?a=2&b=1&b=0"),
        ("http://h/?b&a=2", "http://h/?b&a=2"),
        ("http://h/?b=1&&a=2", "http://h/?b=1&&a=2"),
        ("http://i4.wp.com/a?w=1&crop=2", "http://i4.wp.com/a?w=1&crop=2"),
        ("http://x.files.wordpress.com/a?w=1&crop=2", "http://x.files.wordpress.com/a?w=1&crop=2"),
        ("http://user:secret@h/a", "http://h/a"),
        ("ftp://user:secret@h/a?b=1&a=2", "ftp://h/a?b=1&a=2"),
        ("s3://Bucket/%2f", "s3://bucket/%2f"),
        ("mailto:me@h.example", "mailto:me@h.example"),
        ("//u@h/a", "//h/a"),
    ],
)
def test_the_key_of_a_url(url, key):
    """The key has one spelling of what is requested, and nothing that is not."""
    assert explain_key(url) == (key, "plain")


def test_the_key_of_a_data_url_is_its_pictures():
    """The spelling of a `data:` URL does not count, and no rule applies to it."""
    key = cache_key("data:image/png;base64,AAAA")
    assert key == cache_key("DATA:image/png;base64,AAAA", EVERYTHING) == cache_key(key)
    assert explain_key("data:image/png;base64,AAAA") == (key, "data")
    assert key == core_urls.data_key("data:,%00%00%00")


@pytest.mark.parametrize(
    "url",
    ["", " ", "http://h/a\0", "http://h/\ud800", "http://[::1", "//@", None, 5, b"http://h/", []],
)
def test_what_is_no_url_has_no_key(url):
    """What cannot be kept as a URL is an invalid request, never another exception."""
    with pytest.raises(InvalidRequestError):
        cache_key(url)


def test_parameters_are_ignored_on_their_hosts():
    """A host stands for itself and its subdomains, and `*` for every host."""
    rules = KeyRules((), {"h.example": ["sid", "a b", "ü"], "*": ["ref"], "Ü.example": ["x[]"]})
    ignored = [
        "http://h.example/?w=1&sid=1&ref",
        "http://a.b.h.example:81/?sid=1&w=1&sid=2",
        "http://h.example/?w=1&a%20b=1&a+b=2&%c3%bc=3&ü=4",
        "http://other.example/?w=1&ref=2",
        "http://ü.example/?w=1&x[]=1&x%5B%5D=1",
    ]
    for url in ignored:
        found = explain_key(url, rules)
        assert urlsplit(found.key).query == "w=1"
        assert found.reason == "ignored parameters"
    kept = ["http://hh.example/?sid=1", "http://other.example/?sid=1", "http://h.example/?SID=1"]
    for url in kept:
        assert explain_key(url, rules) == (url, "plain")


def test_parameters_of_a_mirror_are_ignored_in_its_key():
    """Rules for a mirror, and for the host that stands for it, apply to both."""
    url = "https://lh5.googleusercontent.com/a?w=1&sid=2"
    for host in ("lh5.googleusercontent.com", "lh3.googleusercontent.com"):
        rules = KeyRules(ignore_params={host: ["sid"]})
        found = explain_key(url, rules)
        assert found == ("https://lh3.googleusercontent.com/a?w=1", "google, ignored parameters")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"presets": ["s4"]}, r"there is no preset 's4': the presets are s3, cloudfront, .*utm"),
        ({"presets": "s3"}, "presets are a list of names, not 's3'"),
        ({"presets": None}, "presets are a list of names"),
        ({"presets": [["s3"]]}, "presets are a list of names"),
        ({"ignore_params": ["sid"]}, "ignored parameters are a dict of hosts"),
        ({"ignore_params": {"h": "sid"}}, "the parameters of 'h' are a list of names, not 'sid'"),
        ({"ignore_params": {"h": [5]}}, "the parameters of 'h' are a list of names"),
        ({"ignore_params": {"h": [""]}}, "the parameters of 'h' are a list of names"),
        ({"ignore_params": {"http://h/": ["a"]}}, "'http://h/' is not a host"),
        ({"ignore_params": {"h:80": ["a"]}}, "'h:80' is not a host"),
        ({"ignore_params": {"u@h": ["a"]}}, "is not a host"),
        ({"ignore_params": {"": ["a"]}}, "'' is not a host"),
        ({"ignore_params": {5: ["a"]}}, "'5' is not a host"),
    ],
)
def test_wrong_rules_are_refused(arguments, sentence):
    """The sentence names what is wrong, and what there is instead."""
    with pytest.raises(ConfigurationError, match=sentence):
        KeyRules(**arguments)


def test_rules_are_values():
    """Equal rules are equal, whatever list they were made of, and cannot be changed."""
    one = KeyRules(list(DEFAULT_PRESETS), {"h": ["a"]})
    assert one == KeyRules(ignore_params={"h": ("a",)}) != DEFAULT_RULES
    assert len({one, KeyRules(ignore_params={"h": ("a",)}), DEFAULT_RULES}) == 2
    with pytest.raises(AttributeError):
        one.presets = ()


def repeated(text):
    """Return a text of nearly the length that a URL may have."""
    return text * (65_000 // len(text))


@pytest.mark.parametrize(
    "url",
    [
        "http://h/" + repeated("%41"),
        "http://h/" + repeated("%"),
        "http://h/?" + repeated("&"),
        "http://h/?" + repeated("b=1&a=2&"),
        "http://h/?" + "&".join(f"p{number}={number}" for number in range(5000, 0, -1)),
        "http://h" + repeated("/hdnts="),
        "http://h/hdnts=" + repeated("~hmac=ab"),
        "http://h/hdnts=~hmac=" + repeated("a"),
        "http://h/?hdnts=" + repeated("~hmac=~"),
        "http://" + repeated("a.") + "/",
        "http://res.cloudinary.com" + repeated("/a"),
        "http://res.cloudinary.com/a/image/upload" + repeated("/v1"),
        "http://res.cloudinary.com/a/image/upload/s--" + repeated("-"),
        "http://media.rightmove.co.uk" + repeated("/dir"),
        "http://images-wixmp-a.wixmp.com/?token=" + repeated("a."),
        "http://h/?sv=2020-01-01&sig=1&Signature=1&Key-Pair-Id=1&Expires=1&" + repeated("a=1&"),
    ],
    ids=lambda url: url[:40],
)
def test_hostile_urls_take_linear_time(url):
    """The longest odd URLs take milliseconds, where a square would take minutes."""
    started = time.process_time()
    key = cache_key(url, EVERYTHING)
    assert time.process_time() - started < 5
    assert cache_key(key, EVERYTHING) == key


def test_a_plain_key_has_all_parameters():
    """Nothing is lost where no rule applies: each parameter is there as often as before."""
    url = "http://h/?" + "&".join(f"p{number % 7}={number}" for number in range(50))
    before, after = (Counter(urlsplit(each).query.split("&")) for each in (url, cache_key(url)))
    assert before == after

"""Cache keys, and which spellings of a URL can be fetched."""

import base64
from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scrapy import Request
from w3lib.url import safe_url_string

from imgcache_scrapy import InvalidRequestError
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.limits import MAX_URL_BYTES
from imgcache_scrapy.core.urls import _QUOTED, data_key, fetchable, filename_of, request_url

HOSTS = st.sampled_from(
    [
        "h.example",
        "H.EXAMPLE",
        "ü.example",
        "日本.example",
        "h.example:8080",
        "u:p@h.example",
        "[::1]",
    ]
)
odd_text = st.text(
    st.one_of(st.characters(), st.sampled_from("%25/?#&=;+ \t\n\\[]{}|^\"'<>~ü€日😀\u200f\u00a0"))
)
http_urls = st.builds(
    lambda scheme, host, path, tail: f"{scheme}://{host}/{path}{tail}",
    st.sampled_from(["http", "https", "HTTP"]),
    HOSTS,
    odd_text,
    st.one_of(st.just(""), odd_text.map("?{}".format), odd_text.map("#{}".format)),
)


def key_or_none(url):
    try:
        return request_url(url)
    except InvalidRequestError:
        return None


@given(st.one_of(http_urls, odd_text))
@example("http://h.example/%")
@example("http://h.example/%zz%2")
@example("http://h.example/a b\u00a0c?q=ü%C3%BC+%2B#f g")
@example("http://h.example #f")
def test_a_request_url_is_its_own_key(url):
    """Making a key of a key changes nothing, so that a stored URL finds itself."""
    key = key_or_none(url)
    assume(key is not None)
    assert request_url(key) == key


@given(http_urls)
@example("http://h.example/ü b.png?q=ü c&r=%C3%BC#ü")
@example("http://ü.example/[a]|b")
def test_a_request_url_is_the_url_that_scrapy_requests(url):
    """An item's spelling and the request's spelling of one URL share a key."""
    key = key_or_none(url)
    assume(key is not None)
    assert key == request_url(Request(url).url) == Request(url).url.partition("#")[0]


def test_different_urls_have_different_keys():
    """Nothing that can lead to another picture is thrown away."""
    urls = [
        "http://h.example/a?b=1&c=2",
        "http://h.example/a?c=2&b=1",
        "http://h.example/a?b=1",
        "http://h.example/a/?b=1&c=2",
        "http://h.example/A?b=1&c=2",
        "https://h.example/a?b=1&c=2",
        "http://h.example/a?b=1&c=2%26",
    ]
    assert len({request_url(url) for url in urls}) == len(urls)


@pytest.mark.parametrize(
    "url",
    ["", " ", "\n", "http://h/a\0", "http://h/\ud800", "http://[::1", None, 5, b"http://h/a"],
)
def test_what_is_no_url_has_no_key(url):
    """Whatever cannot be kept as a URL is an invalid request, never another exception."""
    with pytest.raises(InvalidRequestError):
        request_url(url)


def test_a_key_is_as_long_as_the_catalog_allows():
    """64 KiB are allowed, one byte more is not, also when only the quoting makes it."""
    start = "http://h.example/"
    longest = start.ljust(MAX_URL_BYTES, "a")
    assert request_url(longest) == longest
    for too_long in (f"{longest}a", start + "ü" * (MAX_URL_BYTES // 4)):
        with pytest.raises(InvalidRequestError, match="64 KiB"):
            request_url(too_long)


# Different letters: each makes the ASCII form of a name take longer.
LONG_LABEL = "".join(map(chr, range(0x4E00, 0x4E00 + 64)))
LONG_NAME = ".".join(LONG_LABEL[:42] for _ in range(6))


@pytest.mark.parametrize("name", [LONG_LABEL, LONG_NAME, f"a.example.{LONG_LABEL}"])
@pytest.mark.parametrize(
    "url",
    [
        "http://{}/a.png",
        "//{}?a",
        "HTTPS:\\\\{}#a",
        " h\tttp:/\n/{}:80",
        "http://user:password@{}/a.png",
        "s3://{}/a.png",
    ],
)
def test_a_name_that_no_host_can_have_is_refused(url, name):
    """The time to compute the ASCII form of a name grows with the square of its length."""
    with pytest.raises(InvalidRequestError, match="host of this URL is too long"):
        request_url(url.format(name))


@pytest.mark.parametrize(
    "url",
    [
        f"http://{LONG_LABEL[:63]}.example/a.png",
        f"http://{LONG_NAME[:-5]}/a.png",
        f"http://h.example/{LONG_NAME}.png?{LONG_NAME}",
        f"http://h.example/?a=//{LONG_NAME}",
        f"http://{'a' * 300}/a.png",
        f"http://u:{'p' * 100}@ü.example/a.png",
    ],
)
def test_other_long_parts_of_a_url_may_stay(url):
    """Only the name of the host is compared with the longest one, and ASCII costs nothing."""
    assert request_url(url)


@given(odd_text)
def test_only_invalid_request_errors_leave(text):
    """Any text is fetchable, or refused as an invalid request."""
    for judge in (request_url, fetchable):
        with suppress(InvalidRequestError):
            assert judge(text)


@given(http_urls)
def test_what_is_fetchable_is_what_was_given(url):
    """A URL that can be fetched is never altered, but for blanks around it."""
    try:
        found = fetchable(f" {url}\n")
    except InvalidRequestError:
        assume(False)
    assert found == url.strip()


@pytest.mark.parametrize(
    ("given", "fetched"),
    [
        ("http://h.example/a.png", "http://h.example/a.png"),
        ("  https://h.example/a b.png\n", "https://h.example/a b.png"),
        ("//cdn.example/a.png", "https://cdn.example/a.png"),
        (" //cdn.example/a.png", "https://cdn.example/a.png"),
        ("ftp://h.example/a.png", "ftp://h.example/a.png"),
        ("s3://bucket/a.png", "s3://bucket/a.png"),
        ("file:///srv/a.png", "file:///srv/a.png"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ("DATA:,x", "DATA:,x"),
    ],
)
def test_what_can_be_fetched(given, fetched):
    """Absolute URLs stay, those without a scheme get https, blanks around them go."""
    assert fetchable(given) == fetched


@pytest.mark.parametrize("url", ["/a.png", "a.png", "../a.png", "?a=1", "#a"])
def test_a_relative_url_is_refused_with_the_way_out(url):
    """The message tells what to write in the spider."""
    with pytest.raises(InvalidRequestError, match=r"relative.*response\.urljoin\(url\)"):
        fetchable(url)


@pytest.mark.parametrize(
    "url", ["", " ", "http:///a.png", "http://", "mailto:me@h.example", None, 5, b"http://h/", []]
)
def test_what_cannot_be_fetched_is_refused(url):
    """No host, no scheme or no string: there is nothing to request."""
    with pytest.raises(InvalidRequestError):
        fetchable(url)


def test_a_data_url_longer_than_a_url_may_be_is_fetchable():
    """A picture in the page is no key, so its length does not matter."""
    url = "data:image/png;base64," + "A" * 4 * MAX_URL_BYTES
    assert fetchable(url) == url


@given(st.binary())
def test_the_key_of_a_data_url_is_its_pictures(data):
    """Two texts of one picture have one key, short and itself a URL that can be kept."""
    encoded = base64.b64encode(data).decode()
    keys = {
        data_key(f"data:image/png;base64,{encoded}"),
        data_key(f"data:;base64,{encoded}"),
        data_key(f" \n data:image/png;base64,{encoded}\n"),
        data_key("data:," + "".join(f"%{byte:02x}" for byte in data)),
    }
    assert keys == {f"data:,blake2b-{content_hash_of(data)}"}
    assert request_url(*keys) in keys


@pytest.mark.parametrize("url", ["data:", "data:;base64,A", "http://h.example/"])
def test_a_data_url_that_cannot_be_decoded_is_refused(url):
    """The key of a picture that is not there is an invalid request."""
    with pytest.raises(InvalidRequestError, match="cannot be decoded"):
        data_key(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h.example/a/b.png", "b.png"),
        ("http://h.example/b.png?c=d/e.png#f/g.png", "b.png"),
        ("http://h.example/%C3%BC%20b.png", "ü b.png"),
        ("http://h.example/a/", None),
        ("http://h.example", None),
        ("http://h.example?a=b", None),
        ("data:image/png;base64,AA/AA", None),
        ("file:///srv/b.png", "b.png"),
        ("http://[h.example/b.png", None),
    ],
)
def test_the_file_name_of_a_url(url, name):
    """It is the last part of the path, unquoted, or none."""
    assert filename_of(url) == name


@given(http_urls)
def test_every_key_has_a_file_name_or_none(url):
    """No URL that can be kept breaks its naming."""
    key = key_or_none(url)
    assume(key is not None)
    name = filename_of(key)
    assert name is None or name


@given(st.from_regex(_QUOTED, fullmatch=True))
def test_a_url_that_is_already_quoted_stays(url):
    """What is not quoted again is what quoting would leave as it is."""
    assert request_url(url) == url == safe_url_string(url)

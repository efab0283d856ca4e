"""Hosts as users write them."""

import pytest

from imgcache_scrapy import InvalidRequestError
from imgcache_scrapy.core.hosts import stored_host


def test_hosts_are_stored_as_urls_have_them():
    """In lower case, in ASCII letters, and without the brackets of an IPv6 address."""
    expected = {
        "Shop.EXAMPLE": "shop.example", " a.b ": "a.b", "bücher.example": "xn--bcher-kva.example",
        "[::1]": "::1", "2001:DB8::1": "2001:db8::1", "10.0.0.1": "10.0.0.1", "": "",
    }  # fmt: skip
    assert {host: stored_host(host) for host in expected} == expected


@pytest.mark.parametrize("host", ["0" * 300, "x..y", "1:2:3", "a%2fb", "a\uff1ab", "xn--\u0378"])
def test_a_name_that_no_site_has_is_no_error(host):
    """It finds nothing. What a host may be is a pattern, which the OpenAPI document can show."""
    assert stored_host(host) == host


@pytest.mark.parametrize(
    "host",
    ["http://a", "a/b", "a:80", "10.0.0.1:80", "u@a", "a?b", "a#b", "a b", "a\\b", "  ", "[a"],
)
def test_more_than_a_host_is_refused(host):
    """The error shows what a host looks like."""
    with pytest.raises(InvalidRequestError, match="is not a host: write"):
        stored_host(host)

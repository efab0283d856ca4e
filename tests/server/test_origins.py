"""Browsers are no accomplices: pages of other sites can neither read the cache nor change it."""

import re
import socket

import pytest

from imgcache_scrapy import HostError, ImgCacheClient
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.server.origins import (
    Caller,
    checked_host_name,
    is_foreign,
    own_names,
    unknown_host,
)
from tests.support.commands import assert_failed, run_imgcache
from tests.support.service import Service, http_client

UNKNOWN_HASH = "0" * 64
NAMES = frozenset({"cache.example.com"})


# The decisions


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8010",
        "192.168.1.5:80",
        "[::1]:8010",
        "[2001:db8::1]",
        "localhost:8010",
        "cache",
        "CACHE:8010",
        "a.localhost",
        "cache.LOCAL:8010",
        "cache.internal",
        "cache.internal.",
        "cache.example.com",
        "Cache.Example.Com:8010",
        "cache.example.com.:443",
        "",
    ],
)
def test_a_host_that_no_foreign_page_can_have_is_known(host):
    """Addresses, local names and allowed names are known, in any spelling and with any port."""
    assert unknown_host(Caller(hosts=[host]), NAMES) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8010",
        "cache.example.com.evil.example",
        "evilcache.example.com",
        "example.com",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io",
        "evil.localhost.example",
        "xlocal.example",
        "1.2.3",
        "127.0.0.1:8010:x",
        "user@localhost",
        "localhost/evil.example",
        "[::1].evil.example",
        "[::1",
        "localhost:" + "9" * 5000,
    ],
)
def test_any_other_host_is_unknown(host):
    """A public or malformed host is unknown, also as a second header."""
    assert unknown_host(Caller(hosts=[host]), NAMES) == host
    assert unknown_host(Caller(hosts=["localhost", host]), NAMES) == host
    assert unknown_host(Caller(path="/serve/x", hosts=[host]), NAMES) == host
    for path in ("/health", "/metrics"):
        assert unknown_host(Caller(path=path, hosts=[host]), NAMES) is None


def test_a_program_needs_no_host():
    """A request without a host comes from no browser."""
    assert unknown_host(Caller(hosts=[]), NAMES) is None


LOCAL = ("127.0.0.1:8010",)


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        # A program sends none of these headers.
        (Caller("POST", "/images"), False),
        # Sec-Fetch-Site decides where it is sent.
        (Caller("POST", "/images", fetch_site="same-origin"), False),
        (Caller("GET", "/images/search", fetch_site="none"), False),
        (Caller("POST", "/images", fetch_site="cross-site"), True),
        (Caller("GET", "/images/search", fetch_site="cross-site"), True),
        (Caller("GET", "/images/x", fetch_site="same-site"), True),
        (Caller("DELETE", "/images/x", fetch_site="nonsense"), True),
        (Caller("POST", "/images", fetch_site=""), True),
        (Caller("POST", "/images", LOCAL, "http://127.0.0.1:8010", "cross-site"), True),
        (Caller("POST", "/images", LOCAL, "http://evil.example", "same-origin"), False),
        # Without it, the origin decides.
        (Caller("POST", "/images", LOCAL, "http://127.0.0.1:8010"), False),
        (Caller("POST", "/images", LOCAL, "https://127.0.0.1:8010"), False),
        (Caller("POST", "/images", LOCAL, "http://127.0.0.1:3000"), True),
        (Caller("POST", "/images", LOCAL, "http://127.0.0.1"), True),
        (Caller("POST", "/images", LOCAL, "http://localhost:8010"), True),
        (Caller("POST", "/images", LOCAL, "http://evil.example"), True),
        (Caller("GET", "/stats", LOCAL, "http://evil.example"), True),
        (Caller("POST", "/images", LOCAL, "https://cache.example.com"), False),
        (Caller("POST", "/images", LOCAL, "https://cache.example.com.evil.example"), True),
        (Caller("POST", "/images", LOCAL, "null"), True),
        (Caller("POST", "/images", LOCAL, ""), True),
        (Caller("POST", "/images", LOCAL, "http://[::1"), True),
        (Caller("POST", "/images", LOCAL, "http://127.0.0.1:99999"), True),
        (Caller("POST", "/images", ("cache",), "http://cache"), False),
        (Caller("POST", "/images", ("cache:443",), "https://cache"), False),
        (Caller("POST", "/images", ("cache",), "https://cache:443"), False),
        (Caller("POST", "/images", ("cache:80",), "https://cache"), True),
        (Caller("POST", "/images", (), "http://127.0.0.1:8010"), True),
        # A person may follow a link to a page.
        (Caller("GET", "/docs", LOCAL, None, "cross-site", "navigate", "document"), False),
        (Caller("GET", "/docs", LOCAL, None, "cross-site", "navigate"), False),
        (Caller("GET", "/docs", LOCAL, None, "cross-site", "navigate", "iframe"), True),
        (Caller("GET", "/docs", LOCAL, None, "cross-site", "no-cors", "image"), True),
        (Caller("POST", "/docs", LOCAL, None, "cross-site", "navigate", "document"), True),
        (Caller("POST", "/images", LOCAL, None, "cross-site", "navigate", "document"), True),
        (Caller("GET", "/images/similar", LOCAL, None, "cross-site", "navigate"), True),
        # Pages of other sites may show images.
        (Caller("GET", "/serve/x", LOCAL, None, "cross-site", "no-cors", "image"), False),
        (Caller("HEAD", "/serve/x", LOCAL, "http://evil.example"), False),
        (Caller("DELETE", "/serve/x", LOCAL, None, "cross-site"), True),
        (Caller("GET", "/serve", LOCAL, None, "cross-site"), True),
        (Caller("GET", "/health", LOCAL, None, "cross-site"), False),
        (Caller("GET", "/metrics", LOCAL, "http://evil.example"), False),
    ],
)
def test_a_request_of_another_sites_page_is_foreign(caller, expected):
    """The headers of a browser tell whether a page of another site makes it send a request."""
    assert is_foreign(caller, NAMES) is expected


@pytest.mark.parametrize("name", ["", "a b", "http://cache.example.com", "a,b", "*.example.com"])
def test_an_allowed_host_is_a_name(name):
    """Anything that is no name is refused."""
    with pytest.raises(ConfigurationError, match="--allowed-host"):
        checked_host_name(name)


# The service


@pytest.fixture(scope="module")
def named_service(tmp_path_factory):
    """Serve a cache that has a public name, with two workers."""
    options = ("--allowed-host", "Cache.Example.COM", "--allowed-host", "b.example.com:8010")
    service = Service(tmp_path_factory.mktemp("named") / "service", "--workers", "2", *options)
    service.start()
    yield service
    service.stop()


def operations(http):
    """Return each method and path of a service, except for those that are always open."""
    paths = http.get("/openapi.json").json()["paths"]
    found = [
        (method.upper(), path.format(content_hash=UNKNOWN_HASH))
        for path, methods in paths.items()
        for method in methods
        if path not in {"/health", "/metrics"}
    ]
    assert len(found) > 8
    return [*found, ("GET", "/docs"), ("GET", "/openapi.json"), ("OPTIONS", "/images")]


def test_a_page_that_rebinds_dns_gets_a_421(http):
    """Under a public name nothing is answered except for the health and the metrics."""
    for host in ("evil.example", "evil.example:8010", "127.0.0.1.nip.io"):
        headers = {"Host": host, "Sec-Fetch-Site": "same-origin", "Origin": f"http://{host}"}
        for method, path in operations(http):
            answer = http.request(method, path, headers=headers)
            assert answer.status_code == 421, (method, path)
            if method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "host"
                assert f"--allowed-host {host.split(':')[0]}," in answer.json()["detail"]
        for path in ("/health", "/metrics"):
            assert http.get(path, headers={"Host": host}).status_code == 200


def test_the_names_of_a_service_are_known(named_service):
    """Each worker knows the allowed names, and each service the names of its machine."""
    with http_client(named_service.url, headers={"Connection": "close"}) as http:
        for _ in range(10):
            for host in ("cache.example.com", "b.example.com:1", *own_names()):
                assert http.get("/stats", headers={"Host": host}).status_code == 200
            assert http.get("/stats", headers={"Host": "c.example.com"}).status_code == 421


def test_the_name_of_the_machine_is_its_own():
    """The names of the machine contain its host name."""
    assert socket.gethostname().lower() in own_names()


def test_a_service_with_a_token_has_any_name(stopped_service):
    """A page does not know the token, so the host name is not checked."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    headers = {"Authorization": "Bearer secret", "Host": "evil.example"}
    with http_client(stopped_service.url, headers=headers) as http:
        assert http.get("/stats").status_code == 200
        assert http.get("/stats", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
    ids=["cross-site", "same-site", "origin", "sandbox"],
)
def test_a_page_of_another_site_gets_a_403(http, site, headers):
    """Such a page can neither store nor read nor delete, but it may show an image."""
    form = {"data": {"url": f"{site}/a", "client_name": "me"}, "files": {"file": ("f", b"GIF89a")}}
    refused = http.post("/images", headers=headers, **form)
    assert (refused.status_code, refused.json()["code"]) == (403, "unauthorized")
    assert http.get("/images/lookup", params={"url": f"{site}/a"}).status_code == 404
    for method, path in operations(http):
        if not path.startswith("/serve/"):
            assert http.request(method, path, headers=headers).status_code == 403, (method, path)
    content_hash = http.post("/images", **form).json()["content_hash"]
    assert http.delete(f"/images/{content_hash}", headers=headers).status_code == 403
    shown = http.get(f"/serve/{content_hash}", headers=headers)
    assert (shown.status_code, shown.content) == (200, b"GIF89a")
    assert shown.headers["cross-origin-resource-policy"] == "cross-origin"


def test_a_page_of_the_service_may_use_it(http, site):
    """A page under the address of the service may store an image."""
    form = {"data": {"url": f"{site}/a", "client_name": "me"}, "files": {"file": ("f", b"GIF89a")}}
    for headers in (
        {"Sec-Fetch-Site": "same-origin", "Origin": str(http.base_url).rstrip("/")},
        {"Origin": str(http.base_url).rstrip("/")},
        {"Sec-Fetch-Site": "none"},
    ):
        assert http.post("/images", headers=headers, **form).status_code in {200, 201}


def test_the_documentation_needs_no_other_host(http):
    """`/docs` describes each route, and the browser loads and runs nothing for it."""
    answer = http.get(
        "/docs", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    )
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    paths = http.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            assert f"<h2>{method.upper()} {path}</h2>" in answer.text
    assert "max_hamming_distance" in answer.text
    assert "client_name" in answer.text
    assert not re.search(r"<script|\bsrc=|url\(|@import|<link|https?://", answer.text)
    assert http.get("/redoc").status_code == 404


def test_our_client_raises_host_error(named_service):
    """The error says which option to set."""
    with ImgCacheClient(named_service.url) as client:
        assert client.stats()["captures"] == 0
        client._client.transport._headers["Host"] = "c.example.com"
        with pytest.raises(HostError, match=r"--allowed-host c\.example\.com"):
            client.stats()


def test_serve_refuses_a_bad_name(tmp_path):
    """A wrong name ends the command with one sentence."""
    done = run_imgcache(tmp_path, "serve", "--port", "0", "--allowed-host", "http://a.example")
    assert_failed(done, "--allowed-host", "cache.example.com")

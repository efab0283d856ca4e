"""Signing in to the page, and what an attacker can try against it, over a real service."""

import html
import re
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.signed_links import is_signed, signed_query
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.server.app import create_app
from imgcache_scrapy.server.sessions import Sessions
from tests.support.pictures import picture
from tests.support.service import Service, http_client

TOKEN = "a-token-of-40-characters-or-more-or-less"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PERSON = {"Accept": "text/html,application/xhtml+xml"}
UNKNOWN_HASH = "0" * 64
SCRIPT = "<script>fetch('/stats').then(r => r.text())</script>"
# Each is a picture for a program, and a page or a script for a careless browser.
POLYGLOTS = {
    "svg": f"<svg xmlns='http://www.w3.org/2000/svg'>{SCRIPT}</svg>".encode(),
    "html": f"<html><body>{SCRIPT}</body></html>".encode(),
    "gif": b"GIF89a/*" + bytes(4) + b"*/=1;fetch('/stats')" + SCRIPT.encode(),
    "png and html": picture(77) + SCRIPT.encode(),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Serve a cache that needs a token, by two processes."""
    service = Service(tmp_path_factory.mktemp("signing-in") / "service", "--workers", "2")
    service.environment = {"IMGCACHE_TOKEN": TOKEN}
    service.start()
    yield service
    service.stop()


@pytest.fixture
def browser(service):
    """Return an HTTP client that keeps cookies and sends the headers of a person's browser."""
    with http_client(service.url, headers=PERSON) as http:
        yield http


@contextmanager
def started(tmp_path, *options, token=TOKEN):
    service = Service(tmp_path / "service", *options)
    service.environment = {"IMGCACHE_TOKEN": token} if token else {}
    service.start()
    try:
        yield service
    finally:
        service.stop()


def csrf_token(answer):
    """Return the CSRF token of the first form in a page."""
    return html.unescape(re.search(r'name="csrf_token" value="([^"]+)"', answer.text)[1])


def sign_in(http, token=TOKEN, there="/", **headers):
    """Send the form to sign in, as a browser that has opened the page."""
    form = {"csrf_token": csrf_token(http.get("/ui/sign-in")), "token": token, "next": there}
    return http.post("/ui/sign-in", data=form, headers=headers)


def store(http, data):
    url = f"http://{uuid4().hex}.example/image"
    answer = http.post(
        "/images",
        data={"url": url, "client_name": "me"},
        files={"file": ("f", data)},
        headers=BEARER,
    )
    return answer.json()["content_hash"]


# Signing in and out


def test_a_person_signs_in_and_out(browser):
    """The first page leads to the form, the token to where the person wanted to go, and back."""
    first = browser.get("/?host=a.test")
    assert (first.status_code, urlsplit(first.headers["location"]).path) == (303, "/ui/sign-in")
    form = browser.get(first.headers["location"])
    assert form.status_code == 200
    assert 'value="/?host=a.test"' in form.text
    answer = sign_in(browser, there="/?host=a.test")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?host=a.test")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    page = browser.get("/")
    assert page.status_code == 200
    assert "Sign out" in page.text
    assert browser.get("/ui/sign-in").headers["location"] == "/"
    answer = browser.post("/ui/sign-out", data={"csrf_token": csrf_token(page)})
    assert answer.headers["location"] == "/ui/sign-in"
    assert browser.get("/").status_code == 303


def test_a_link_on_another_site(browser):
    """A browser sends no cookie after a link on another site, so it opens the page again."""
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    document = link | {"Sec-Fetch-Dest": "document"}
    page = browser.get('/?url_contains="><script>&host=a.test', headers=document)
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert "<script" not in page.text
    there = html.unescape(re.search(r'content="0; url=([^"]+)"', page.text)[1])
    assert there.startswith("/?url_contains=")
    again = browser.get(there, headers={"Sec-Fetch-Site": "same-origin"})
    assert (again.status_code, urlsplit(again.headers["location"]).path) == (303, "/ui/sign-in")
    sign_in(browser)
    assert browser.get(there, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_the_session_changes_when_signing_in(browser):
    """Who knows the cookie of before is not signed in with it: each sign-in has a new one."""
    browser.get("/ui/sign-in")
    before = dict(browser.cookies)
    sign_in(browser)
    assert dict(browser.cookies) != before
    browser.cookies.clear()
    browser.cookies.update(before)
    assert browser.get("/").status_code == 303


def test_a_wrong_token(browser, service):
    """A wrong token says so, and signs nobody in."""
    for wrong in ("", "wrong", TOKEN[:-1], TOKEN + "x", "tökén", TOKEN.upper()):
        answer = sign_in(browser, wrong)
        assert answer.status_code in {401, 429}
        assert TOKEN not in answer.text
        assert browser.get("/").status_code == 303
    assert "A wrong token in the form to sign in, from '127.0.0.1'" in service.log
    assert TOKEN[:-1] not in service.log


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_new_token_signs_everybody_out(tmp_path, options):
    """A session outlives a restart, but not a new token."""
    with started(tmp_path, *options) as service, http_client(service.url, headers=PERSON) as http:
        sign_in(http)
        assert http.get("/").status_code == 200
        service.stop()
        service.start()
        assert http.get("/").status_code == 200
        service.stop()
        service.environment = {"IMGCACHE_TOKEN": "another-token"}
        service.start()
        assert http.get("/").status_code == 303


def test_without_a_token_nobody_signs_in(tmp_path):
    """A service without a token has no page to sign in, and its acts have a CSRF token all the
    same."""
    with (
        started(tmp_path, token=None) as service,
        http_client(service.url, headers=PERSON) as http,
    ):
        page = http.get("/")
        assert page.status_code == 200
        assert "Sign out" not in page.text
        assert http.get("/ui/sign-in").headers["location"] == "/"
        form = {"act": "delete", "hash": UNKNOWN_HASH}
        assert http.post("/ui/confirm", data=form).status_code == 401


def test_behind_a_proxy_with_tls(browser, service):
    """Under TLS the cookie is bound to the host by its name, and never sent without TLS."""
    browser.headers["X-Forwarded-Proto"] = "https"
    page = browser.get("/ui/sign-in")
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Host-imgcache-")
    assert {"Secure", "Path=/", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    # The client sends no secure cookie to http://, as a browser.
    browser.headers["Cookie"] = cookie.partition(";")[0]
    form = {"csrf_token": csrf_token(page), "token": TOKEN, "next": "/"}
    answer = browser.post("/ui/sign-in", data=form)
    assert answer.status_code == 303
    browser.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
    assert browser.get("/").status_code == 200
    del browser.headers["X-Forwarded-Proto"]
    assert browser.get("/").status_code == 303


# What a cookie is good for


def test_a_signed_in_browser_sees_images_only(browser):
    """The cookie shows thumbnails and originals, and authorizes nothing else of the API."""
    content_hash = store(browser, picture(21))
    addresses = [f"/{place}/{content_hash}" for place in ("thumbnails", "serve", "images")]
    for address in addresses:
        assert browser.get(address).status_code == 401
    sign_in(browser)
    for address in addresses:
        for method in ("GET", "HEAD"):
            assert browser.request(method, address).status_code == 200
    form = {"url": "http://a.test/new", "client_name": "me"}
    for method, path, body in (
        ("POST", "/images", {"data": form, "files": {"file": ("f", picture(22))}}),
        ("POST", "/images/lookup", {"json": {"urls": ["http://a.test/"]}}),
        ("DELETE", f"/images/{content_hash}", {}),
        ("DELETE", "/captures?all_captures=true&dry_run=true", {}),
        ("POST", "/blocked", {"json": {"content_hash": content_hash}}),
        ("POST", "/failures", {"json": []}),
        ("GET", "/stats", {}),
        ("GET", "/images", {}),
        ("GET", f"/images/meta/{content_hash}", {}),
        ("GET", "/metrics", {}),
    ):
        assert browser.request(method, path, **body).status_code == 401, path
    assert browser.get(f"/serve/{content_hash}").status_code == 200


def page_routes(tmp_path):
    """Yield the method and path of every page."""
    with closing(ImageCache.in_folder(tmp_path / "cache")) as cache:
        app = create_app(cache, token=TOKEN)
    for route in all_routes(app.routes):
        for method in getattr(route, "methods", ()):
            if route.path == "/" or route.path.startswith("/ui/"):
                yield method, re.sub(r"\{[^}]*\}", UNKNOWN_HASH, route.path)


def all_routes(routes):
    """Yield the routes, also those of routers that are included in others."""
    for route in routes:
        # Older versions of FastAPI have no such object.
        router = getattr(route, "original_router", None)
        yield from [route] if router is None else all_routes(router.routes)


def test_no_page_is_open(tmp_path, service):
    """Every page but the form to sign in and the static files leads a stranger to the form."""
    routes = set(page_routes(tmp_path))
    assert {("GET", "/"), ("POST", "/ui/act"), ("GET", "/ui/state")} <= routes
    with http_client(service.url, headers=PERSON) as http:
        for method, path in routes:
            answer = http.request(method, path)
            if path.startswith("/ui/static/"):
                assert answer.status_code == 404
            elif path == "/ui/sign-in":
                assert answer.status_code == (200 if method in {"GET", "HEAD"} else 401)
            else:
                assert answer.status_code == 303, (method, path)
                assert urlsplit(answer.headers["location"]).path == "/ui/sign-in"
        for trick in (
            "/ui/static/../state",
            "/ui/static/%2e%2e/state",
            "/ui/static/..%2f..%2fstats",
        ):
            assert http.get(trick).status_code in {303, 404}


# Attacks


def test_csrf_a_form_without_its_token(tmp_path, browser):
    """A form of another page, which does not know the CSRF token, does nothing."""
    content_hash = store(browser, picture(23))
    sign_in(browser)
    good = csrf_token(browser.get("/"))
    for path in sorted(path for method, path in page_routes(tmp_path) if method == "POST"):
        for wrong in (None, "", "x", good[:-2] + "AA", UNKNOWN_HASH, "tökén"):
            form = {"act": "delete", "hash": content_hash, "token": TOKEN}
            data = form if wrong is None else form | {"csrf_token": wrong}
            answer = browser.post(path, data=data)
            assert answer.status_code == 401, (path, wrong)
    with http_client(str(browser.base_url), headers=PERSON) as other:
        sign_in(other)
        theirs = csrf_token(other.get("/"))
    form = {"act": "delete", "hash": content_hash, "csrf_token": theirs}
    assert browser.post("/ui/act", data=form).status_code == 401
    assert browser.get(f"/thumbnails/{content_hash}").status_code == 200
    assert browser.post("/ui/act", data=form | {"csrf_token": good}).status_code == 303
    assert browser.get(f"/thumbnails/{content_hash}").status_code == 404


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_csrf_a_form_of_another_site(browser, site):
    """A browser says that another site sends the form; then not even the right token helps."""
    content_hash = store(browser, picture(24))
    sign_in(browser)
    form = {"act": "delete", "hash": content_hash, "csrf_token": csrf_token(browser.get("/"))}
    headers = {"Sec-Fetch-Site": site, "Origin": "http://evil.example"}
    assert browser.post("/ui/act", data=form, headers=headers).status_code == 403
    assert browser.get(f"/thumbnails/{content_hash}").status_code == 200


def test_behind_a_proxy_the_csrf_token_decides(browser):
    """A proxy may change the host, so that the origin is another one; the form works anyway."""
    content_hash = store(browser, picture(25))
    origin = {"Origin": "http://cache.example"}
    assert sign_in(browser, **origin).status_code == 303
    form = {"act": "delete", "hash": content_hash, "csrf_token": csrf_token(browser.get("/"))}
    assert browser.post("/ui/act", data=form, headers=origin).status_code == 303
    assert browser.delete(f"/images/{content_hash}", headers=BEARER | origin).status_code == 403


def test_rebinding(tmp_path):
    """A page that rebinds its own host name to this service sees nothing of it."""
    with started(tmp_path, token=None) as service, http_client(service.url) as http:
        content_hash = store(http, picture(26))
        for path in ("/", "/ui/state", f"/thumbnails/{content_hash}", f"/serve/{content_hash}"):
            assert http.get(path, headers={"Host": "evil.example"}).status_code == 421
        form = {"act": "delete", "hash": content_hash, "csrf_token": csrf_token(http.get("/"))}
        answer = http.post("/ui/act", data=form, headers={"Host": "evil.example"})
        assert answer.status_code == 421
        assert http.get(f"/thumbnails/{content_hash}").status_code == 200


def test_clickjacking(browser):
    """No page can be shown in a frame of another site, signed in or not."""
    for is_signed_in in (False, True):
        if is_signed_in:
            sign_in(browser)
        for path in ("/", "/ui/state", "/ui/sign-in", "/ui/acts", f"/ui/images/{UNKNOWN_HASH}"):
            answer = browser.get(path, follow_redirects=True)
            policy = answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
        frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        answer = browser.get("/", headers=frame | {"Sec-Fetch-Dest": "iframe"})
        assert answer.status_code == 403


@pytest.mark.parametrize("kind", sorted(POLYGLOTS))
def test_a_picture_steals_no_cookie(browser, kind):
    """A hostile file that is opened from the service runs nothing, and sees no cookie."""
    content_hash = store(browser, POLYGLOTS[kind])
    answer = sign_in(browser)
    assert "HttpOnly" in answer.headers["set-cookie"].split("; ")
    for place in ("serve", "images"):
        answer = browser.get(f"/{place}/{content_hash}")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        kind_of = answer.headers["content-type"]
        is_shown = kind_of.startswith("image/") and "svg" not in kind_of
        assert is_shown or answer.headers["content-disposition"].startswith("attachment")
        assert "html" not in kind_of
        assert "set-cookie" not in answer.headers
    thumbnail = browser.get(f"/thumbnails/{content_hash}")
    assert b"fetch(" not in thumbnail.content


@pytest.mark.parametrize(
    "there",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/ui/\\evil.example",
        "/\t/evil.example",
        "/%09/evil.example",
        "javascript:alert(1)",
        "/ui/x\r\nSet-Cookie: a=b",
        "/ui/sign-in?next=//evil.example",
        "/stats",
        "?x",
        "",
        "/ui/" + "a" * 5000,
    ],
)
def test_open_redirects(browser, there):
    """After signing in, only pages of this service are opened."""
    page = browser.get("/ui/sign-in", params={"next": there})
    assert 'name="next" value="/"' in page.text
    answer = sign_in(browser, there=there)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    again = browser.get("/ui/sign-in", params={"next": there})
    assert (again.status_code, again.headers["location"]) == (303, "/")


def test_brute_force_by_the_form(tmp_path):
    """After some wrong tokens, even the right one must wait, from this address only."""
    with started(tmp_path) as service, http_client(service.url, headers=PERSON) as http:
        statuses = [sign_in(http, f"guess {number}").status_code for number in range(12)]
        assert statuses[:5] == [401] * 5
        assert 429 in statuses[5:]
        while sign_in(http, "guess").status_code != 429:
            continue
        refused = sign_in(http)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert " 1 seconds" not in refused.text
        assert http.get("/", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 303
        # A proxy that the service trusts says that another person asks.
        assert sign_in(http, **{"X-Forwarded-For": "192.0.2.1"}).status_code == 303


def test_brute_force_from_many_addresses(tmp_path):
    """Guesses of many addresses are limited together."""
    with started(tmp_path) as service, http_client(service.url, headers=PERSON) as http:
        statuses = [
            sign_in(http, f"guess {number}", **{"X-Forwarded-For": f"10.0.0.{number}"}).status_code
            for number in range(90)
        ]
        assert statuses[0] == 401
        assert 429 in statuses
        # The program that has the token goes on.
        assert http.get("/stats", headers=BEARER).status_code == 200


def test_brute_force_by_the_header(tmp_path):
    """After a hundred wrong tokens in the header, an address must wait; others go on."""
    with started(tmp_path) as service, http_client(service.url) as http:
        wrong = {"Authorization": "Bearer guess"}
        statuses = [http.get("/stats", headers=wrong).status_code for _ in range(100)]
        assert statuses == [401] * 100
        found = http.get("/stats", headers=wrong)
        while found.status_code == 401:
            found = http.get("/stats", headers=wrong)
        assert found.status_code == 429
        assert int(found.headers["retry-after"]) >= 1
        assert found.json()["code"] == "unauthorized"
        elsewhere = {"X-Forwarded-For": "192.0.2.1"}
        assert http.get("/stats", headers=BEARER | elsewhere).status_code == 200


def test_the_right_token_between_wrong_ones(tmp_path):
    """A program with a wrong token does not lock out the others of its machine."""
    with started(tmp_path) as service, http_client(service.url) as http:
        for _ in range(150):
            assert http.get("/stats", headers={"Authorization": "Bearer old"}).status_code == 401
            assert http.get("/stats", headers=BEARER).status_code == 200


# Signed links


def test_a_signed_link_opens_one_image(service, browser):
    """A link opens its image without the token, until it expires, and nothing else."""
    content_hash, other = store(browser, picture(31)), store(browser, picture(32))
    with ImgCacheClient(service.url, token=TOKEN) as client:
        link = client.serve_url(content_hash, expires=600)
        assert TOKEN not in link
        assert client.serve_url(content_hash) == f"{service.url}/serve/{content_hash}"
    for method in ("GET", "HEAD"):
        assert browser.request(method, link).status_code == 200
    query = link.partition("?")[2]
    for path in (f"/serve/{other}", f"/images/{content_hash}", f"/thumbnails/{content_hash}", "/"):
        assert browser.get(f"{path}?{query}").status_code in {401, 303}
    for method in ("POST", "DELETE", "PUT"):
        assert browser.request(method, link).status_code == 401
    later = re.sub(r"expires=(\d+)", lambda found: f"expires={int(found[1]) + 1}", link)
    for changed in (
        later,
        link[:-3] + "AAA",
        f"{link}&bucket=b",
        f"{link}&expires=99999999999",
        f"{link}&more=1",
        link.replace("signature", "Signature"),
        re.sub("signature=[^&]*", "signature=", link),
        re.sub("expires=[^&]*", "expires=1e9", link),
    ):
        assert browser.get(changed).status_code == 401, changed


def test_a_link_expires(service, browser):
    """A link ends at its time; a new token ends all links."""
    content_hash = store(browser, picture(33))
    with ImgCacheClient(service.url, token=TOKEN, bucket="") as client:
        link = client.serve_url(content_hash, expires=datetime.now(UTC) + timedelta(seconds=3))
    until = int(dict(parse_qsl(urlsplit(link).query))["expires"])
    while browser.get(link).status_code == 200:
        assert time.time() < until + 60
        time.sleep(0.1)
    assert time.time() >= until
    assert browser.get(link).status_code == 401
    with ImgCacheClient(service.url, token="another token") as client:
        assert browser.get(client.serve_url(content_hash, expires=600)).status_code == 401


def test_a_link_names_its_bucket(service, browser):
    """A link to an image in a bucket opens it in this bucket only."""
    bucket = "a bucket & more="
    with ImgCacheClient(service.url, token=TOKEN, bucket=bucket) as client:
        entry = client.store("http://a.test/in-bucket", picture(34), "me")
        link = client.serve_url(entry["content_hash"], expires=timedelta(minutes=5))
    assert browser.get(link).status_code == 200
    assert browser.get(re.sub("bucket=[^&]*&", "", link)).status_code == 401


@pytest.mark.parametrize(
    "expires",
    [
        0,
        -1,
        timedelta(0),
        datetime(2020, 1, 1, tzinfo=UTC),
        float("nan"),
        float("inf"),
        1e300,
        "tomorrow",
        True,
    ],
)
def test_a_link_that_makes_no_sense(expires):
    """A link that is over, or whose time is none, is refused when it is made."""
    with pytest.raises(InvalidRequestError, match="expire"):
        signed_query(TOKEN, UNKNOWN_HASH, "", expires)


def test_any_query_is_no_link():
    """Texts that are no link are refused without an error."""
    now = datetime.now(UTC)
    for query in (
        [],
        [("expires", ""), ("signature", "")],
        [("expires", "9" * 400), ("signature", "x")],
        [("expires", "99999999999"), ("signature", "ä\ud800")],
        [("expires", "-1"), ("signature", "AAAA")],
        [("expires", "٣"), ("signature", "AAAA")],
    ):
        assert not is_signed(TOKEN, UNKNOWN_HASH, query, now)


def test_a_cookie_is_no_link():
    """A signature for one purpose is not one for another."""
    sessions = Sessions(TOKEN, "0" * 32)
    session = sessions.start(is_signed_in=True)
    query = signed_query(TOKEN, UNKNOWN_HASH, "", 60)
    assert not sessions.is_csrf_token(session, query["signature"])
    found = [*(query | {"signature": sessions.csrf_token(session)}).items()]
    assert not is_signed(TOKEN, UNKNOWN_HASH, found, datetime.now(UTC))

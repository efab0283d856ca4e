"""What a page of another site, and a hostile picture, can do to a person who has signed in."""

from contextlib import closing, contextmanager

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.browser import needs_chromium
from tests.support.pictures import picture
from tests.support.service import Service
from tests.support.site import Site, respond

TOKEN = "a-token-of-40-characters-or-more-or-less"
SCRIPT = "<script>window.canary = document.cookie</script>"
POLYGLOTS = {
    "svg": f"<svg xmlns='http://www.w3.org/2000/svg'>{SCRIPT}</svg>".encode(),
    "html": f"<!doctype html><title>x</title>{SCRIPT}".encode(),
    "png and html": picture(77) + SCRIPT.encode(),
    "gif and script": b"GIF89a/*" + bytes(4) + b"*/=1" + SCRIPT.encode(),
}
pytestmark = needs_chromium


@pytest.fixture(
    scope="module",
    params=[
        "with token",
        pytest.param("without token", marks=pytest.mark.endurance),
        pytest.param("no embedding", marks=pytest.mark.endurance),
    ],
)
def service(request, tmp_path_factory):
    """Serve a cache; the person of the tests has signed in where there is a token."""
    options = {"with token": ["--token", TOKEN], "no embedding": ["--no-embedding"]}
    service = Service(
        tmp_path_factory.mktemp("attacked") / "service", *options.get(request.param, [])
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def client(service):
    with ImgCacheClient(service.url, token=TOKEN) as client:
        yield client


@pytest.fixture
def stored(client):
    """Return the hash of a stored picture."""
    return client.store("https://kept.test/a.png", picture(5), "me")["content_hash"]


@pytest.fixture(params=["127.0.0.1", "localhost"])
def evil(request):
    """Return the address of another site: on another port, to which cookies are sent, too; and
    on another host."""
    with closing(Site()) as site:
        site.answers["/evil"] = lambda handler: respond(
            handler, b"<!doctype html><title>evil</title>", content_type="text/html"
        )
        yield site.url.replace("127.0.0.1", request.param) + "/evil"


@contextmanager
def signed_in_page(browser, service):
    """Open a page in the browser of a person who has signed in, if there is something to sign."""
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(service.url)
        if "--token" in service.options:
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(service.url + "/")
        yield page


def can_show(page, url):
    """Return whether the page can show a picture of an address."""
    return page.evaluate(
        """url => new Promise(done => {
            const image = new Image();
            image.onload = () => done(true);
            image.onerror = () => done(false);
            image.src = url;
        })""",
        url,
    )


def test_a_foreign_form_does_nothing(browser, service, client, stored, evil):
    """A page of another site sends forms in the name of the person, and none of them acts."""
    with signed_in_page(browser, service) as page:
        for path in ("/ui/act", "/ui/confirm", "/ui/sign-out", "/ui/download"):
            page.goto(evil)
            with page.expect_navigation():
                page.evaluate(
                    """([action, hash]) => {
                        const form = document.createElement("form");
                        form.method = "post";
                        form.action = action;
                        for (const [name, value] of [
                            ["act", "delete"], ["hash", hash], ["csrf_token", "guess"],
                        ]) {
                            const field = document.createElement("input");
                            field.name = name;
                            field.value = value;
                            form.append(field);
                        }
                        document.body.append(form);
                        form.submit();
                    }""",
                    [service.url + path, stored],
                )
        page.goto(service.url)
        assert page.get_by_label("Token").count() == 0
    assert client.get_meta(stored) is not None


def test_a_foreign_page_reads_nothing(browser, service, stored, evil):
    """A page of another site can neither read a page or an answer, nor show a thumbnail."""
    with signed_in_page(browser, service) as page:
        page.goto(evil)
        for path in ("/", "/ui/state", "/stats", f"/images/{stored}", f"/thumbnails/{stored}"):
            for mode in ("cors", "no-cors"):
                found = page.evaluate(
                    """([url, mode]) => fetch(url, {mode, credentials: "include"})
                        .then(answer => answer.text()).catch(() => "")""",
                    [service.url + path, mode],
                )
                assert found == ""
        assert not can_show(page, f"{service.url}/thumbnails/{stored}")
        # Only a service without a token shows pictures to others, unless it is told not to.
        assert can_show(page, f"{service.url}/serve/{stored}") is (
            not service.options or ("--token" in service.options and "127.0.0.1" in evil)
        )


def test_a_foreign_page_shows_no_frame(browser, service, evil):
    """A page of another site cannot show the page in a frame, to make a person click in it."""
    with signed_in_page(browser, service) as page:
        page.goto(evil)
        for path in ("/", "/ui/sign-in", "/ui/state"):
            page.evaluate(
                """url => new Promise(done => {
                    const frame = document.createElement("iframe");
                    frame.onload = done;
                    frame.src = url;
                    document.body.append(frame);
                })""",
                service.url + path,
            )
            text = page.frames[-1].evaluate("document.documentElement.outerHTML")
            assert "imgcache" not in text
            assert "csrf_token" not in text


def test_a_link_of_a_foreign_page_opens_the_page(browser, service, evil):
    """A person who follows a link from another site sees the page, and need not sign in again."""
    with signed_in_page(browser, service) as page:
        page.goto(evil)
        page.evaluate(
            """url => {
                const link = document.createElement("a");
                link.href = url;
                link.textContent = "the pictures";
                document.body.append(link);
            }""",
            service.url + "/ui/state",
        )
        page.get_by_text("the pictures").click()
        page.get_by_role("heading", name="State").first.wait_for()


@pytest.mark.parametrize("kind", sorted(POLYGLOTS))
def test_a_hostile_picture_steals_no_cookie(browser, service, client, kind):
    """A file that is opened from the service runs no script; even with one, it sees no cookie and
    reads no page."""
    content_hash = client.store(f"https://evil.test/{kind}", POLYGLOTS[kind], "me")["content_hash"]
    with signed_in_page(browser, service) as page:
        for place in ("serve", "images"):
            answer = page.context.request.get(f"{service.url}/{place}/{content_hash}")
            if answer.headers["content-disposition"] != "inline":
                continue
            page.goto(f"{service.url}/{place}/{content_hash}")
            found = page.evaluate(
                """async () => {
                    const read = url => fetch(url, {credentials: "include"})
                        .then(answer => answer.text()).catch(() => "");
                    let cookie = "";
                    try { cookie = document.cookie } catch {}
                    return [window.canary ?? "", cookie, await read("/"), await read("/stats")];
                }"""
            )
            assert found == [""] * 4


def test_no_script_of_the_page_sees_the_cookie(browser, service):
    """Even a script in the page itself would not see the cookie."""
    with signed_in_page(browser, service) as page:
        assert page.evaluate("document.cookie") == ""
        names = [each["name"] for each in page.context.cookies()]
        assert any(name.startswith("imgcache-") for name in names)

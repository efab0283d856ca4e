"""Pictures, names and URLs that try to run a script or to break the page: nothing happens."""

from typing import Any

import pytest

from imgcache_scrapy.client.client import ImgCacheClient
from tests.support.browser import needs_chromium, open_page
from tests.support.pictures import encoded, jpeg, noise, picture

pytestmark = needs_chromium

CANARY = "alert('canary')"
TEXTS = [
    f"<script>{CANARY}</script>",
    f"<img src=x onerror={CANARY}>",
    f'"><svg onload={CANARY}>',
    f"' autofocus onfocus={CANARY} x='",
    f"</title></textarea></style><script>{CANARY}</script>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "\u202egpj.exe\u2066\u2067",
    "\u0301" * 200,
    "W" * 4000,
    "line\r\nSet-Cookie: canary=1\r\n\r\n<script>",
]
URLS = [
    f"javascript:{CANARY}//.jpg",
    f"data:text/html,<script>{CANARY}</script>",
    "//other.test/x.jpg",
    f"https://{'h' * 60}.test/{'long/' * 2000}x.jpg",
    f'https://quoted.test/"onmouseover={CANARY}//<b>.jpg',
    "https://user:secret@hidden.test/x.jpg",
]
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{CANARY}"><script>{CANARY}</script></svg>'
HTML = f"<!doctype html><script>{CANARY}</script>"


def polyglots() -> dict[str, bytes]:
    """Return files that are a picture and something else."""
    gif = encoded(noise(4, 4, "L"), "GIF")
    return {
        "GIF and script": gif + f"/*\n*/=1;{CANARY};".encode(),
        "JPEG and HTML": jpeg(5) + HTML.encode(),
        "PNG and SVG": picture(5) + SVG.encode(),
        "SVG": SVG.encode(),
        "SVG behind a comment": f"<!-- {'x' * 500} -->{SVG}".encode(),
        "HTML as a picture": HTML.encode(),
        "GIF without an end": b"GIF89a" + HTML.encode(),
    }


@pytest.fixture(scope="module")
def hostile(page_service: Any) -> list[str]:
    """Store hostile pictures; return their content hashes."""
    found = []
    with ImgCacheClient(page_service.url) as client:
        for number, text in enumerate(TEXTS):
            entry = client.store(
                f"https://texts.test/{number}?{text}",
                jpeg(100 + number),
                text[:1000],
                filename=text,
                bucket=text[:1000],
            )
            found.append(entry["content_hash"])
        for number, url in enumerate(URLS):
            entry = client.store(url, jpeg(200 + number), "urls")
            found.append(entry["content_hash"])
        for name, data in polyglots().items():
            entry = client.store(f"https://files.test/{name}", data, "files")
            found.append(entry["content_hash"])
        uses = [
            {"content_hash": found[1], "url": "https://texts.test/", "page_url": "javascript:0"}
            | {"item": text, "spider": text, "job": text, "alt": text, "caption": text}
            for text in (each[:1000] for each in TEXTS)
        ]
        client.record_uses(uses)
        client.block(found[0], reason=TEXTS[0])
    return found


def assert_layout(page: Any, what: str) -> None:
    """Assert that the page is as wide as its window, a large one and a small one."""
    for width in (360, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, what
        assert page.locator("footer").bounding_box()["width"] > width / 2, what


def test_nothing_of_a_hostile_picture_runs(browser, page_service, hostile):
    """No text or file of a stranger runs a script, loads anything, or breaks the layout.

    The fixture of the page fails if a dialog opens, or the console has an error. A polyglot may
    be no picture for a browser, so that its picture is missing; it is an image all the same.
    """
    with open_page(browser, page_service.url, "script") as page:
        paths = ["/?size=s", "/?size=xl", "/ui/state", "/ui/blocked", "/ui/acts"]
        paths += [f"/ui/images/{name}" for name in hostile]
        paths += [f"/ui/compare?a={hostile[0]}&b={name}" for name in hostile[1:3]]
        for path in paths:
            page.goto(path)
            assert_layout(page, path)
            assert page.evaluate("document.scripts.length") == 1
            for link in page.locator("a[href]").evaluate_all("all => all.map(x => x.protocol)"):
                assert link in {"http:", "https:"}
        page.goto(f"/ui/images/{hostile[0]}")
        page.get_by_role("button", name="Delete…").click()
        page.locator("dialog").wait_for()
        assert page.evaluate("document.scripts.length") == 1


def test_hostile_parameters_are_only_shown(browser, page_service):
    """What stands in the address is shown as text, and links go nowhere else."""
    with open_page(browser, page_service.url, "script") as page:
        for text in TEXTS[:6]:
            page.goto("/")
            page.get_by_role("searchbox").fill(text)
            page.get_by_role("searchbox").press("Enter")
            page.wait_for_url("**/?url_contains=*")
            assert page.get_by_role("searchbox").input_value() == text
            assert page.evaluate("document.scripts.length") == 1
        page.goto(f"/ui/history?url={URLS[0]}")
        assert_layout(page, "history")


def test_an_original_that_is_opened_runs_nothing(browser, page_service, hostile):
    """Also in a tab of its own, an original of any kind is an image or a download."""
    with open_page(browser, page_service.url, "script", accept_downloads=True) as page:
        for name in hostile[-7:]:
            response = page.request.get(f"/serve/{name}")
            assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
            page.goto(f"/ui/images/{name}")
            shown = page.locator(".view img")
            assert shown.count() == 0 or "/serve/" in shown.get_attribute("src")

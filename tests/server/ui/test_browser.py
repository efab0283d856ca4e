"""People look at a cache in a browser: find pictures, compare them, delete and block them."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
from axe_playwright_python.sync_playwright import Axe

from imgcache_scrapy.client.client import ImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from tests.support.browser import needs_chromium, open_page
from tests.support.pictures import encoded, jpeg, noise, picture
from tests.support.service import Service, http_client

pytestmark = needs_chromium

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
COUNT = 25
TOKEN = "a-token-for-browsers"
SIZE_XL = "/?size=xl"
CLOCK = "https://time.test/clock.jpg"


@pytest.fixture(scope="module")
def client(page_service: Service) -> Any:
    """Open a client of the service, whose cache gets the pictures of this module."""
    with ImgCacheClient(page_service.url) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def stored(client: ImgCacheClient) -> dict[str, str]:
    """Store the pictures; return their content hashes by name."""
    files = {f"many-{n}.png": picture(100 + n) for n in range(COUNT)}
    found = {
        name: client.store(f"https://many.test/{name}", data, "many")["content_hash"]
        for name, data in files.items()
    }
    clock = noise(8, 6, seed=7).resize((640, 480))
    alike = {
        "large": encoded(clock, "JPEG", quality=90),
        "poor": encoded(clock, "JPEG", quality=40),
        "small": encoded(clock.resize((320, 240)), "PNG"),
    }
    for name, data in alike.items():
        found[name] = client.store(f"https://alike.test/{name}", data, "clock")["content_hash"]
    use = {"content_hash": found["large"], "url": "https://alike.test/large", "spider": "clock"}
    client.record_uses([{**use, "page_url": "https://page.test/a", "item": "7", "alt": "<i>"}])
    for name, year in (("poor", 2020), ("large", 2021)):
        client.store(CLOCK, alike[name], "clock", lookup_time=f"{year}-01-01T00:00:00Z")
    found["svg"] = client.store("https://odd.test/a.svg", SVG, "odd")["content_hash"]
    broken = jpeg(3)[:200]
    found["broken"] = client.store("https://odd.test/b.jpg", broken, "odd")["content_hash"]
    return found


def store_one(client: ImgCacheClient, seed: int, how: str) -> str:
    """Store a picture for one test; return its content hash."""
    data = jpeg(1000 + seed + (how == "plain"))
    name = f"https://one-{how}.test/{seed}.jpg"
    return client.store(name, data, "one")["content_hash"]


def confirm(page: Any, button: str) -> None:
    """Press a button that asks, and then the same button of the question."""
    page.get_by_role("button", name=f"{button}…").click()
    page.locator("#question").get_by_role("button", name=button, exact=True).click()
    page.locator(".result").wait_for()


def tiles(page: Any) -> Any:
    """Return the pictures of the grid."""
    return page.locator(".tiles > li")


def test_the_grid_has_every_picture_once_newest_first(page, how, stored):
    """A person scrolls to the end, or follows the links, and sees each picture exactly once."""
    page.goto(f"{SIZE_XL}&host=many.test")
    seen = []
    if how == "script":
        while page.locator(".more").count():
            page.keyboard.press("End")
            page.wait_for_timeout(50)
        seen = page.locator(".tiles .name").all_text_contents()
    else:
        while True:
            seen += page.locator(".tiles .name").all_text_contents()
            if not page.locator(".more a").count():
                break
            with page.expect_navigation():
                page.locator(".more a").click()
        assert "after=" in page.url
        page.get_by_text("Back to the newest").click()
        page.wait_for_url(lambda url: "after=" not in url)
    assert seen == [f"many-{n}.png" for n in reversed(range(COUNT))]


@pytest.mark.parametrize("size", ["s", "m", "l", "xl"])
def test_nothing_moves_while_a_person_scrolls(scripted_page, size):
    """Each thing keeps its place on the page, so that a click hits what it was meant for."""
    page = scripted_page
    page.goto(f"/?host=many.test&size={size}")
    places = "() => [...document.querySelectorAll('.tiles li')].map((tile) => tile.offsetTop)"
    before = page.evaluate(places)
    for tile in tiles(page).all():
        tile.scroll_into_view_if_needed()
        page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate(places)[: len(before)] == before


def test_the_address_says_where_the_grid_is(scripted_page):
    """The address follows the scrolling, so that the same address shows the same pictures."""
    page = scripted_page
    page.goto(f"{SIZE_XL}&host=many.test")
    page.locator(".more").scroll_into_view_if_needed()
    page.locator("ul.tiles").nth(1).wait_for()
    page.keyboard.press("End")
    page.wait_for_url("**after=*")
    first = page.locator("ul.tiles").nth(1).locator(".name").first.text_content()
    page.reload()
    assert page.locator(".tiles .name").first.text_content() == first


def test_thumbnails_are_shown(page):
    """The pictures of the grid are thumbnails, which load when they come near the screen."""
    page.goto("/?host=many.test&size=s")
    image = page.locator(".thumb").first
    assert image.get_attribute("loading") == "lazy"
    assert "/thumbnails/" in image.get_attribute("src")


def test_a_search_is_part_of_the_address(page):
    """A search shows the pictures of such URLs; its address has no empty fields."""
    page.goto("/")
    page.get_by_role("searchbox").fill("many-7.")
    page.get_by_role("searchbox").press("Enter")
    page.wait_for_url("**/?url_contains=many-7.")
    assert page.locator(".tiles .name").all_text_contents() == ["many-7.png"]
    assert page.get_by_role("searchbox").input_value() == "many-7."


def test_filters_narrow_and_widen(page):
    """Filters are chosen in a form, stand in the address, and are removed one by one."""
    page.goto("/")
    page.get_by_text("Filters").click()
    page.get_by_label("Type").select_option("image/jpeg")
    page.get_by_label("Client").fill("clock")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/?**content_type=image%2Fjpeg**")
    assert "host=" not in page.url
    assert tiles(page).count() == 2
    page.get_by_role("link", name="Remove type").click()
    page.wait_for_url(lambda url: "content_type" not in url)
    assert tiles(page).count() == 3
    page.goto("/?client_name=odd&state=not_decoded")
    assert tiles(page).count() == 2
    assert page.locator(".badge").all_inner_texts() == ["not decoded"] * 2
    page.goto("/?state=damaged")
    assert page.get_by_text("No picture meets these conditions").is_visible()


def test_the_size_of_the_pictures_is_chosen(page):
    """The size stands in the address, and the conditions stay."""
    page.goto("/?host=many.test")
    page.get_by_role("link", name="XL", exact=True).click()
    page.wait_for_url("**/?host=many.test&size=xl")
    wide = tiles(page).first.bounding_box()["width"]
    page.get_by_role("link", name="S", exact=True).click()
    page.wait_for_url("**size=s")
    assert tiles(page).first.bounding_box()["width"] < wide / 2
    page.get_by_role("searchbox").fill("many-1")
    page.get_by_role("searchbox").press("Enter")
    page.wait_for_url(lambda url: "size=s" in url and "url_contains=many-1" in url)


def test_a_picture_has_its_facts_urls_and_histories(page, stored):
    """The page of a picture says what it is, where it is from, and what a URL gave at any time."""
    page.goto("/?host=alike.test")
    page.get_by_role("link", name="large").click()
    page.wait_for_url(f"**/ui/images/{stored['large']}")
    facts = page.locator(".facts").inner_text()
    assert "640 \u00d7 480" in facts
    assert stored["large"] in facts
    listed = page.locator("section[aria-labelledby=urls]")
    assert listed.locator("td .url").all_inner_texts() == ["https://alike.test/large", CLOCK]
    shown = page.locator(".view img")
    assert shown.evaluate("each => each.naturalWidth") == 640
    opened = listed.get_by_role("link", name="Open", exact=True).first
    assert opened.get_attribute("href") == "https://alike.test/large"
    page.get_by_role("link", name="History").nth(1).click()
    page.wait_for_url("**/ui/history?**")
    links = page.locator(".with-thumb").evaluate_all("all => all.map(each => each.href)")
    assert [link[-64:] for link in links] == [stored["large"], stored["poor"]]


def test_a_picture_says_who_uses_it(page, stored):
    """A use has its page, item, spider and texts, and leads to all pictures of the page."""
    page.goto(f"/ui/images/{stored['large']}")
    row = page.locator("section", has_text="All its pictures").locator("tbody tr").first
    for text in ("https://page.test/a", "7", "clock", "<i>"):
        assert text in row.inner_text()
    row.get_by_role("link", name="All its pictures").click()
    page.wait_for_url("**/?page_url=*")
    assert page.locator(".tiles .name").all_text_contents() == ["large"]


def test_a_picture_is_downloaded_with_its_right_name(page, stored):
    """The name has the extension of what the picture is, whatever its URL says."""
    page.goto(f"/ui/images/{stored['small']}")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download").click()
    download = waiting.value
    assert download.suggested_filename == "small.png"
    assert content_hash_of(download.path().read_bytes()) == stored["small"]


def test_the_url_is_copied(scripted_page, stored):
    """A key, or a button, copies the URL."""
    page = scripted_page
    page.goto(f"/ui/images/{stored['small']}")
    page.keyboard.press("c")
    page.get_by_text("Copied").wait_for()
    page.keyboard.press("/")
    page.keyboard.press("Control+V")
    assert page.get_by_role("searchbox").input_value() == "https://alike.test/small"


def test_what_is_not_shown_says_why(page, stored):
    """An SVG is never shown, and a picture that was not decoded has its reason."""
    page.goto(f"/ui/images/{stored['svg']}")
    assert "SVG is a document" in page.locator(".pane").inner_text()
    assert not page.locator(".pane img").count()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download").click()
    assert waiting.value.suggested_filename == "a.svg"
    page.goto(f"/ui/images/{stored['broken']}")
    assert "the decoder found an error" in page.locator(".pane").inner_text()
    assert "Not decoded" in page.locator(".note").inner_text()


def test_a_picture_that_is_gone_is_not_a_broken_one(browser, page_service, client):
    """What was damaged since it was listed has no broken picture, and its page says what to do."""
    hashes = [store_one(client, seed, "gone") for seed in (98, 100)]
    for name in hashes:
        (page_service.folder / "blobs" / name[:2] / name[2:]).unlink()
    # Not `open_page`: the browser writes the missing pictures to its console.
    with closing(browser.new_context(base_url=page_service.url)) as context:
        page = context.new_page()
        page.goto(f"/ui/images/{hashes[0]}")
        page.get_by_text("This picture cannot be read. Open this page again to see why.").wait_for()
        page.reload()
        page.get_by_text("The bytes of this picture are damaged").wait_for()
        page.goto("/?host=one-gone.test")
        page.locator("img.none").wait_for()
        assert page.locator(".thumb:not(.none)").count() == 0


def test_two_pictures_are_compared(page, stored):
    """Look-alikes lead to a comparison: side by side, as a difference, and swapped."""
    page.goto(f"/ui/images/{stored['large']}")
    page.get_by_role("link", name="Look for less similar pictures").click()
    page.wait_for_url("**far=1")
    assert page.locator("#alike ~ ul li").count() == 2
    page.locator("#alike ~ ul a").first.click()
    page.wait_for_url(f"**/ui/compare?a={stored['large']}&b=*")
    images = page.locator(".compare img")
    widths = images.evaluate_all("all => all.map(each => each.naturalWidth)")
    assert widths[0] == 640
    assert len(widths) == 2
    page.get_by_role("link", name="Difference").click()
    page.wait_for_url("**view=difference")
    assert images.count() == 2
    assert images.nth(1).evaluate("each => getComputedStyle(each).mixBlendMode") == "difference"
    page.get_by_role("link", name="Swap").click()
    page.wait_for_url(f"**&b={stored['large']}**")


def test_look_alikes_are_compared_by_keyboard(scripted_page, stored):
    """Keys open the nearest look-alike, go on to the next, show the difference, and zoom both."""
    page = scripted_page
    page.goto(f"/ui/images/{stored['large']}")
    page.keyboard.press("l")
    page.wait_for_url("**/ui/compare?**")
    first = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != first)
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(first)
    page.keyboard.press("d")
    page.wait_for_url("**view=difference")
    page.keyboard.press("d")
    page.wait_for_url(first)
    page.keyboard.press("+")
    page.keyboard.press("+")
    scales = page.locator(".compare img").evaluate_all(
        "all => all.map(each => getComputedStyle(each).getPropertyValue('--zoom'))"
    )
    assert scales == ["2.25", "2.25"]
    box = page.locator(".pane").first.bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.wheel(0, -400)
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.pane img')).getPropertyValue('--zoom') > 5"
    )
    page.keyboard.press("0")
    page.wait_for_function("!document.querySelector('.zoomed')")


def test_the_grid_works_by_keyboard(scripted_page):
    """Arrows go from picture to picture, keys select, resize, search and open."""
    page = scripted_page
    page.goto("/?host=many.test")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    assert page.locator(".acts .count").inner_text() == "2 selected"
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/images/*")
    second = page.url
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(lambda url: url != second)
    page.keyboard.press("ArrowRight")
    page.wait_for_url(second)
    page.goto("/?host=many.test")
    page.keyboard.press("+")
    page.wait_for_url("**size=l")
    page.keyboard.press("/")
    page.keyboard.type("+x")
    assert page.get_by_role("searchbox").input_value() == "+x"
    page.get_by_text("Keys", exact=True).click()
    page.get_by_label("Use these keys").uncheck()
    page.keyboard.press("-")
    page.reload()
    assert page.url.endswith("size=l")


def test_a_picture_is_deleted_after_one_question(page, how, client):
    """Cancel keeps it; the button deletes it, and the list of acts says who did it."""
    name = store_one(client, 0, how)
    page.goto(f"/ui/images/{name}")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("heading", name="Delete this picture?").wait_for()
    assert page.url.endswith("/ui/confirm") is (how == "plain")
    page.get_by_text("Cancel").click()
    page.wait_for_url(f"**/{name}")
    assert client.get_meta(name) is not None
    confirm(page, "Delete")
    assert page.locator(".result").inner_text() == "1 picture deleted."
    assert client.get_meta(name) is None
    page.goto("/ui/acts")
    newest = page.locator("tbody tr").first.inner_text()
    assert "page 127.0.0.1" in newest
    assert "delete" in newest


def test_back_shows_no_page_of_before_an_act(browser, page_service, client):
    """After a deletion, Back shows the list without the picture, and says that it is gone."""
    names = [store_one(client, seed, "back") for seed in (94, 95)]
    # Not `open_page`: the browser writes the missing picture to its console.
    with closing(browser.new_context(base_url=page_service.url)) as context:
        page = context.new_page()
        page.goto("/?host=one-back.test")
        tiles(page).nth(0).get_by_role("checkbox").check()
        confirm(page, "Delete")
        page.go_back()
        page.wait_for_function("document.querySelectorAll('.tiles > li').length === 1")
        page.locator(".tiles a").first.click()
        page.wait_for_url(f"**/{names[0]}")
        confirm(page, "Delete")
        page.go_back()
        page.get_by_role("heading", name="Not Found").wait_for()
        page.go_back()
        page.get_by_text("No picture meets these conditions.").wait_for()


def test_an_act_leads_back_to_where_it_began(scripted_page, client):
    """After an act, a person sees the part of the list where the pictures were."""
    page = scripted_page
    names = [store_one(client, seed, "place") for seed in range(200, 250, 2)]
    page.goto(f"{SIZE_XL}&host=one-place.test")
    page.locator(".more").scroll_into_view_if_needed()
    page.locator("ul.tiles").nth(1).wait_for()
    page.keyboard.press("End")
    page.wait_for_url("**after=*")
    place = page.url
    tiles(page).last.get_by_role("checkbox").check()
    confirm(page, "Delete")
    assert page.url == place
    tiles(page).last.get_by_role("link").click()
    page.wait_for_url(f"**/{names[1]}")
    confirm(page, "Delete")
    assert page.url == place
    assert tiles(page).count() == 3


def test_an_old_form_is_explained_on_a_page(browser, page_service, client):
    """A form whose session is over opens a page that says so, not a text on a dark ground."""
    name = store_one(client, 96, "old")
    with closing(browser.new_context(base_url=page_service.url)) as context:
        page = context.new_page()
        page.goto(f"/ui/images/{name}")
        context.clear_cookies()
        page.get_by_role("button", name="Delete…").click()
        page.wait_for_url("**/ui/confirm")
        assert "this form is too old" in page.locator("main").inner_text().lower()
        assert page.locator("dialog").count() == 0


def test_a_double_click_asks_once(scripted_page, client):
    """Two clicks open one dialog, and a click after Cancel opens another one."""
    name = store_one(client, 90, "double")
    scripted_page.goto(f"/ui/images/{name}")
    button = scripted_page.get_by_role("button", name="Delete…")
    for _ in range(2):
        with scripted_page.expect_response("**/ui/confirm"):
            button.dblclick()
        scripted_page.locator("dialog").wait_for()
        scripted_page.wait_for_load_state("networkidle")
        assert scripted_page.locator("dialog").count() == 1
        scripted_page.get_by_text("Cancel").click()
        scripted_page.locator("dialog").wait_for(state="detached")


def test_a_double_click_acts_once(scripted_page, client):
    """The second click on the button of the question sends nothing, so that the result is true."""
    name = store_one(client, 92, "double")
    scripted_page.goto(f"/ui/images/{name}")
    scripted_page.get_by_role("button", name="Delete…").click()
    # A deleted picture has no thumbnail any more.
    scripted_page.locator("#question img").evaluate("each => each.decode()")
    are_refused = scripted_page.locator("#question .danger").evaluate(
        """button => {
            const found = [];
            addEventListener("submit", event => found.push(event.defaultPrevented));
            button.click();
            button.click();
            return found;
        }"""
    )
    assert are_refused == [False, True]
    scripted_page.locator(".result").wait_for()
    assert scripted_page.locator(".result").inner_text() == "1 picture deleted."


def test_a_picture_is_blocked_and_allowed_again(page, how, client):
    """The reason is asked for and shown; a deleted picture stays blocked until it is allowed."""
    name = store_one(client, 2, how)
    page.goto(f"/ui/images/{name}")
    page.get_by_role("button", name="Block…").click()
    page.get_by_label("Why").fill("a <b>placeholder</b>")
    # A blocked picture has no thumbnail any more.
    page.locator("#question img").evaluate("each => each.decode()")
    page.locator("#question").get_by_role("button", name="Block").click()
    page.locator(".result").wait_for()
    assert "a <b>placeholder</b>" in page.locator(".note").inner_text()
    assert [each["content_hash"] for each in client.blocked()] == [name]
    client.delete(name)
    page.goto("/ui/blocked")
    page.get_by_role("link", name=name[:16]).click()
    page.get_by_role("heading", name="A blocked picture").wait_for()
    confirm(page, "Unblock")
    assert page.get_by_text("No picture is blocked.").is_visible()
    assert client.blocked() == []


def test_a_selection_is_deleted_and_blocked(page, how, client):
    """An act on several selected pictures asks once for all of them."""
    names = [store_one(client, seed, how) for seed in (4, 6, 8)]
    page.goto(f"/?host=one-{how}.test")
    for number in range(3):
        tiles(page).nth(number).get_by_role("checkbox").check()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("heading", name="Delete these 3 pictures?").wait_for()
    page.get_by_label("Also block").check()
    page.locator("#question").get_by_role("button", name="Delete").click()
    page.locator(".result").wait_for()
    assert page.locator(".result").inner_text() == "3 pictures deleted."
    assert f"host=one-{how}.test" in page.url
    blocked = {each["content_hash"] for each in client.blocked()}
    assert blocked >= set(names)
    for name in names:
        client.unblock(name)


def test_a_selection_is_compared_and_downloaded(page, stored):
    """Selected pictures become a zip, a manifest, or a comparison of two."""
    page.goto("/?host=alike.test")
    for number in range(2):
        tiles(page).nth(number).get_by_role("checkbox").check()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as zip").click()
    with ZipFile(BytesIO(waiting.value.path().read_bytes())) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name[:5] for name in names] == ["0001-", "0002-", "manif"]
        lines = archive.read("manifest.jsonl").decode().splitlines()
        hashes = [content_hash_of(archive.read(name)) for name in names[:2]]
    entries = [json.loads(line) for line in lines]
    assert [entry["content_hash"] for entry in entries] == hashes
    assert [entry["file"] for entry in entries] == names[:2]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Manifest").click()
    lines = waiting.value.path().read_text().splitlines()
    assert [json.loads(line)["content_hash"] for line in lines] == hashes
    page.get_by_role("button", name="Compare two").click()
    page.wait_for_url(f"**/ui/compare?a={hashes[0]}&b={hashes[1]}")


def test_many_pictures_are_selected_at_once(scripted_page):
    """Shift selects a range, and buttons select all pictures on the page, or none."""
    page = scripted_page
    page.goto("/?host=many.test")
    tiles(page).nth(1).get_by_role("checkbox").check()
    tiles(page).nth(4).get_by_role("checkbox").click(modifiers=["Shift"])
    chosen = page.locator(".acts .count")
    assert chosen.inner_text() == "4 selected"
    page.get_by_role("button", name="Select all here").click()
    assert chosen.inner_text() == f"{COUNT} selected"
    page.get_by_role("button", name="Select none").click()
    page.wait_for_function("!document.querySelector('.tiles :checked')")
    assert not page.locator(".acts").is_visible()


def test_the_state_page_adds_up(page, page_service):
    """The state page has the sums of the cache, and bars that lead to the pictures."""
    page.goto("/ui/state")
    page.get_by_role("heading", name="Growth by day").wait_for()
    with http_client(page_service.url) as http:
        stats = http.get("/stats").json()
    numbers = page.locator(".numbers dd").all_inner_texts()
    assert int(re.sub(r"\D", "", numbers[0])) >= stats["images"] - 4
    assert page.locator(".growth rect").count() == 1
    page.get_by_role("link", name="many.test").click()
    page.wait_for_url("**/?host=many.test")


def test_a_small_screen_shows_pictures(browser, page_service):
    """On a phone, neither the fields of the filters nor the buttons of acts hide the grid."""
    size = {"width": 320, "height": 640}
    with closing(browser.new_context(base_url=page_service.url, viewport=size)) as context:
        page = context.new_page()
        page.goto("/?host=many.test")
        assert tiles(page).first.bounding_box()["y"] < 320
        tiles(page).first.get_by_role("checkbox").check()
        assert page.locator(".acts").bounding_box()["height"] < 140


def test_no_page_is_wider_than_a_small_phone(browser, page_service, stored):
    """At 320 pixels nothing sticks out, and the cells of a table do not overlap."""
    paths = ["/", "/ui/state", "/ui/blocked", "/ui/acts", f"/ui/history?url={CLOCK}"]
    paths += [f"/ui/images/{stored['large']}", f"/ui/images/{'0' * 64}"]
    size = {"width": 320, "height": 640}
    with closing(browser.new_context(base_url=page_service.url, viewport=size)) as context:
        page = context.new_page()
        for path in paths:
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
            for each in page.locator("header :is(a, button, input):visible").all():
                box = each.bounding_box()
                assert box["x"] + box["width"] <= 320 - 10, path
            too_wide = page.locator("td").evaluate_all(
                "all => all.filter(each => each.scrollWidth > each.clientWidth).length"
            )
            assert too_wide == 0, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_an_accessibility_violation(browser, page_service, stored, scheme):
    """Axe finds no violation of WCAG 2.2 level A or AA on any page, light and dark."""
    axe = Axe()
    levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
    # In the dark, only the colours differ.
    only = {"type": "tag", "values": levels}
    if scheme == "dark":
        only = {"type": "rule", "values": ["color-contrast"]}
    compared = f"/ui/compare?a={stored['large']}&b={stored['small']}"
    paths = ["/", f"/ui/images/{stored['svg']}", compared, "/ui/state"]
    if scheme == "light":
        paths += [f"/ui/images/{stored['large']}", f"/ui/history?url={CLOCK}"]
        paths += [f"{compared}&view=difference", "/ui/blocked", "/ui/acts", "/docs"]
    found = []
    with open_page(browser, page_service.url, "script", color_scheme=scheme) as page:

        def check(what: str) -> None:
            result = axe.run(page, options={"runOnly": only})
            found.extend(
                f"{what}: {each['id']}: {each['nodes'][0]['html']}"
                for each in result.response["violations"]
            )

        for path in paths:
            page.goto(path)
            check(path)
        page.goto("/?host=many.test")
        tiles(page).first.get_by_role("checkbox").check()
        page.get_by_role("button", name="Delete…").click()
        page.locator("dialog").wait_for()
        check("the question")
    assert not found


@pytest.fixture(scope="module")
def token_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serve a cache with a token and one picture."""
    service = Service(tmp_path_factory.mktemp("token") / "service", "--token", TOKEN)
    service.start()
    with ImgCacheClient(service.url, token=TOKEN) as client:
        client.store("https://token.test/a.jpg", jpeg(9), "token")
    yield service
    service.stop()


def test_a_person_signs_in_and_out(browser, token_service, how):
    """The token in a form opens the page that was asked for; after signing out it is closed."""
    with open_page(browser, token_service.url, how) as page:
        page.goto("/?host=token.test")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/?host=token.test")
        picture = page.locator(".thumb").first
        assert picture.evaluate("each => each.decode().then(() => each.naturalWidth)") > 0
        page.locator(".tiles a").first.click()
        page.wait_for_url("**/ui/images/*")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        page.goto("/ui/state")
        page.get_by_label("Token").wait_for()


def test_back_shows_nothing_after_signing_out(browser, token_service):
    """The next person at a machine sees no picture of the one who has signed out."""
    with open_page(browser, token_service.url, "script") as page:
        page.goto("/")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.locator(".tiles").wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        page.go_back()
        page.get_by_label("Token").wait_for()


def test_a_person_signs_in_in_several_tabs(browser, token_service):
    """A form to sign in that another tab has made old is shown again, and then works."""
    # Not `open_page`: the browser writes the refused form to its console.
    with closing(browser.new_context(base_url=token_service.url)) as context:
        first, second = context.new_page(), context.new_page()
        first.goto("/ui/state")
        context.clear_cookies()
        second.goto("/?host=token.test")
        for page, there in ((first, "**/ui/state"), (second, "**/?host=token.test")):
            for is_old in (True, False):
                page.get_by_label("Token").fill(TOKEN)
                page.get_by_role("button", name="Sign in").click()
                if is_old:
                    page.get_by_text("This form was too old.").wait_for()
            page.wait_for_url(there)


def test_an_act_after_the_session_ended_leads_to_the_form(browser, token_service):
    """A person who has signed out in another tab gets the form, not a button that does nothing."""
    # Not `open_page`: the browser writes the refused request to its console.
    with closing(browser.new_context(base_url=token_service.url)) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.locator(".tiles").wait_for()
        context.clear_cookies()
        page.get_by_role("checkbox", name="Select a.jpg").check()
        page.get_by_role("button", name="Delete…").click()
        page.get_by_label("Token").wait_for()


@pytest.fixture(scope="module")
def read_only_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serve a cache with one picture, which can only be read."""
    service = Service(tmp_path_factory.mktemp("read") / "service")
    service.start()
    with ImgCacheClient(service.url) as client:
        client.store("https://read.test/a.jpg", jpeg(9), "read")
    service.stop()
    service.options = ("--read-only",)
    service.start()
    yield service
    service.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_to_sign_in_is_accessible(browser, token_service, scheme):
    """Axe finds no violation in the form to sign in, with and without a wrong token."""
    with closing(browser.new_context(color_scheme=scheme)) as context:
        page = context.new_page()
        page.goto(token_service.url)
        assert Axe().run(page).response["violations"] == []
        label, field = page.locator(".field"), page.get_by_label("Token")
        # The ring of the focus, 5 pixels, is below the words.
        assert field.bounding_box()["y"] - label.bounding_box()["y"] >= 19 + 5
        field.fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
        assert Axe().run(page).response["violations"] == []


def test_a_service_that_is_only_read_offers_no_act(browser, read_only_service, how):
    """With `--read-only` there is no button that changes anything; downloads go on."""
    with open_page(browser, read_only_service.url, how) as page:
        page.goto("/")
        tiles(page).first.get_by_role("checkbox").check()
        buttons = page.locator(".acts button:visible:not([data-all])").all_inner_texts()
        assert buttons == ["Compare two", "Download as zip", "Manifest", "Select none"]
        page.locator(".tiles a").first.click()
        page.wait_for_url("**/ui/images/*")
        assert page.get_by_text("…").count() == 0
        assert page.get_by_text("This service is only read.").is_visible()

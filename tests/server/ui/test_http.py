"""The page without a browser: headers, errors, forms, downloads and what it refuses."""

import json
import re
from html import unescape
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.server.bodies import PART_BYTES
from imgcache_scrapy.server.ui import assets
from imgcache_scrapy.server.ui.downloads import zip_of
from tests.support.full_caches import add_image_without_capture
from tests.support.pictures import jpeg, picture
from tests.support.service import Service, http_client
from tests.support.waiting import wait_until

PAGES = ["/", "/ui/state", "/ui/blocked", "/ui/acts"]


@pytest.fixture(scope="module")
def http(page_service):
    """Open an HTTP client of a service with some pictures."""
    with http_client(page_service.url) as http:
        for number in range(3):
            form = {"url": f"https://http.test/{number}.jpg", "client_name": "http"}
            files = {"file": jpeg(number)}
            http.post("/images", data=form, files=files).raise_for_status()
        yield http


def names(http, query="?host=http.test"):
    """Return the content hashes in the grid."""
    return re.findall(r'name="hash" value="([0-9a-f]{64})"', http.get(f"/{query}").text)


def form(http, *hashes, **fields):
    """Return the body of a form of the page."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', http.get("/").text)[1]
    return {"csrf_token": token, "hash": list(hashes), **fields}


@pytest.mark.parametrize("path", PAGES)
def test_pages_run_no_foreign_code(http, path):
    """Each page forbids scripts and styles in it, other hosts, frames, and guessing of types."""
    response = http.get(path)
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["referrer-policy"] == "same-origin"
    found = re.findall(r'(?:src|href|action)="([^"]+)"', response.text)
    assert found
    assert all(each.startswith(("/", "#")) and not each.startswith("//") for each in found)
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", response.text)


def test_script_and_style_are_small_and_kept(http):
    """The page loads at most 30 KB of script and style, which the browser keeps for a year."""
    paths = set(map(unescape, re.findall(r'"(/ui/static/[^"]+)"', http.get("/").text)))
    assert len(paths) == 3
    responses = [http.get(path) for path in paths]
    assert sum(len(each.content) for each in responses) <= 30_000
    assert all("immutable" in each.headers["cache-control"] for each in responses)
    assert {path.partition("?")[0] for path in paths} == {
        f"/ui/static/{each.name}" for each in Path(assets.__file__).with_name("static").iterdir()
    }
    unknown = [http.get(f"/ui/static/page.css{version}") for version in ("", "?v=", "?v=1")]
    assert [each.headers["cache-control"] for each in unknown] == ["no-cache"] * 3
    assert http.get("/ui/static/none.js").status_code == 404
    assert http.get("/ui/static/..%2fpages.py").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/?min_width=x", 422, "min_width"),
        ("/?size=huge", 422, "size"),
        ("/?after=no", 422, "after"),
        (f"/ui/images/{'0' * 64}", 404, "no image"),
        ("/ui/images/<b>", 422, "content_hash"),
        (f"/ui/images/{'0' * 64}?far=x", 422, "far: must be 0 or 1"),
        ("/ui/compare?a=1&b=2", 422, "a"),
        ("/ui/history?url=", 422, "url"),
        ("/ui/none", 404, "no such page"),
        ("/ui/images/", 404, "no such page"),
        ("/ui/confirm", 404, "no such page"),
    ],
)
def test_errors_are_pages(http, path, status, sentence):
    """A wrong address gets a page with the reason, which is escaped."""
    response = http.get(path)
    assert response.status_code == status
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert sentence in response.text
    assert 'rel="icon"' in response.text
    assert "<b>" not in response.text
    assert "unsafe" not in response.headers["content-security-policy"]


def test_errors_are_sentences(http):
    """The words of HTTP are not shown where they say nothing to a person."""
    text = http.get("/ui/none").text
    assert "<p>There is no such page: begin with the list of all pictures.</p>" in text
    text = http.get("/?min_width=x").text
    assert "<h1>Not understood</h1>\n<p>min_width: is not a whole number.</p>" in text


@pytest.mark.parametrize("path", ["/ui", "/ui/"])
def test_the_folder_of_the_pages_leads_to_the_grid(http, path):
    """A person who types the path of the pages without a name sees the grid."""
    response = http.get(path)
    assert response.status_code == 303
    assert response.headers["location"] == "/"


@pytest.mark.parametrize("path", [*PAGES, "/ui", "/ui/none", "/ui/static/page.css", "/docs"])
def test_head_is_answered_as_get(http, path):
    """A program that looks whether a page is there gets its headers without its body."""
    answers = [http.request(method, path) for method in ("HEAD", "GET")]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].headers.get("content-type") == answers[1].headers.get("content-type")
    assert answers[0].content == b""


def test_titles_tell_tabs_apart(http):
    """The title of a page names what it shows."""
    first, second = names(http)[:2]
    for path, title in (
        ("/?host=http.test&min_bytes=5", "host http.test, bytes from 5"),
        ("/ui/history?url=https://http.test/1.jpg", "History of https://http.test/1.jpg"),
        (f"/ui/compare?a={first}&b={second}", "upload and upload"),
    ):
        assert f"<title>{title} · imgcache</title>" in http.get(path).text


def test_the_end_of_the_list_is_no_empty_cache(http):
    """A person whose act removed the last pictures of a list finds the way to its beginning."""
    text = http.get("/?after=1_1").text
    assert 'There is no older picture. <a href="/">Back to the newest</a>' in text
    assert "The cache has no picture yet" not in text


def test_empty_fields_leave_the_address(http):
    """Fields without a value are not part of the address."""
    response = http.get("/?host=&client_name=http&min_width=")
    assert response.status_code == 303
    assert response.headers["location"] == "/?client_name=http"


def test_the_address_has_each_condition_once(http):
    """Of two values, only the one that counts stays in the address; each can be removed."""
    response = http.get("/?host=a.test&host=http.test")
    assert response.headers["location"] == "/?host=http.test"
    assert "Remove </span>damaged <bdi>1</bdi>" in http.get("/?damaged=1").text


def test_blocked_hosts_are_listed(http):
    """A host that a takedown has blocked is on the page of what is blocked, and in the acts."""
    fields = {"url": "https://taken.test/a.jpg", "client_name": "http"}
    http.post("/images", data=fields, files={"file": jpeg(70)}).raise_for_status()
    query = {"host": "taken.test", "block": "true"}
    http.delete("/captures", params={**query, "expect": "1"}).raise_for_status()
    assert re.search(r"<bdi>taken\.test</bdi>", http.get("/ui/blocked").text)
    newest = http.get("/ui/acts").text.partition("<tbody>")[2].partition("</tr>")[0]
    assert "<td>take down</td>" in newest
    assert "block <bdi>yes</bdi>" in newest


def test_a_comparison_says_why_a_picture_is_not_shown(http):
    """A blocked picture is called blocked, and there is no difference to look at."""
    first, second = names(http)[:2]
    http.post("/blocked", json={"content_hash": first}).raise_for_status()
    text = http.get(f"/ui/compare?a={first}&b={second}").text
    http.delete(f"/blocked/{first}").raise_for_status()
    assert "This picture is not shown, because it is blocked." in text
    assert "Difference" not in text
    assert "Difference" in http.get(f"/ui/compare?a={first}&b={second}").text


def test_a_use_leads_only_to_pictures_that_are_there(http):
    """A use in a bucket that has no capture of the picture has no link to an empty grid."""
    name = names(http)[0]
    for bucket in ("", "other"):
        page_url = f"https://http.test/page-{bucket}"
        use = {"content_hash": name, "url": "https://http.test/2.jpg", "page_url": page_url}
        http.post("/uses", json={"uses": [{**use, "bucket": bucket}]}).raise_for_status()
    text = http.get(f"/ui/images/{name}").text
    (linked,) = re.findall(r'<a href="(/\?page_url=[^"]+)">All its pictures', text)
    assert names(http, linked[1:]) == [name]


def test_a_picture_without_a_url_is_shown(page_service, http):
    """A rebuilt catalog may know no URL of a picture; its page shows it all the same."""
    name = add_image_without_capture(page_service.folder)
    text = http.get(f"/ui/images/{name}").text
    assert f'<img src="/serve/{name}"' in text
    assert "No capture of it is left." in text


def test_a_bucket_without_a_name_can_be_chosen(http):
    """`(none)` is the bucket without a name; an empty field is any bucket."""
    assert len(names(http, "?bucket=(none)&host=http.test")) == 3
    assert names(http, "?bucket=other") == []


def test_a_zip_is_read_in_parts(http):
    """A zip has the images, large ones too, and the manifest names those that are missing."""
    large = picture(1, 700)
    form_fields = {"url": "https://large.test/x.png", "client_name": "http"}
    http.post("/images", data=form_fields, files={"file": ("../../etc.txt", large)})
    wanted = [*names(http), content_hash_of(large), "0" * 64]
    response = http.post("/ui/zip", data=form(http, *wanted))
    assert response.headers["content-disposition"] == 'attachment; filename="pictures.zip"'
    with ZipFile(BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        found = {content_hash_of(archive.read(name)) for name in archive.namelist()[:-1]}
        assert archive.namelist()[-2] == "0004-etc.png"
        lines = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
    assert found == set(wanted[:-1])
    assert lines[-1] == {"content_hash": "0" * 64, "error": "the cache does not have it"}


def test_a_zip_says_which_image_is_damaged(page_service: Service, http):
    """An image whose bytes are gone is missing in the zip, and named in the manifest."""
    data = picture(77)
    fields = {"url": "https://gone.test/a.png", "client_name": "http"}
    http.post("/images", data=fields, files={"file": data})
    name = content_hash_of(data)
    (page_service.folder / "blobs" / name[:2] / name[2:]).unlink()
    response = http.post("/ui/zip", data=form(http, name))
    with ZipFile(BytesIO(response.content)) as archive:
        assert archive.namelist() == ["manifest.jsonl"]
        assert "error" in json.loads(archive.read("manifest.jsonl"))
    http.get(f"/images/{name}")
    text = http.get(f"/ui/images/{name}").text
    assert "Damaged: its bytes are missing" in text
    assert " download=" not in text
    assert names(http, "?state=damaged") == [name]
    assert " download=" in http.get(f"/ui/images/{names(http)[0]}").text


@pytest.mark.parametrize("path", ["/ui/confirm", "/ui/act", "/ui/zip", "/ui/manifest"])
def test_a_form_needs_its_token(http, path):
    """A form without the token of the page, or with another one, does nothing."""
    (first, *_) = names(http)
    for token in ({}, {"csrf_token": "x" * 43}):
        response = http.post(path, data={"hash": first, "act": "delete", **token})
        assert response.status_code == 401
        assert "open the page again" in response.text
    assert first in names(http)


@pytest.mark.parametrize(
    "fields",
    [
        {"act": "format", "hash": ["0" * 64]},
        {"act": "delete", "hash": []},
        {"act": "delete", "hash": ["../../etc"]},
        {"act": "delete", "hash": [f"{n:064x}" for n in range(1001)]},
    ],
)
def test_acts_refuse_what_they_do_not_know(http, fields):
    """An unknown act, no picture, a wrong hash and too many pictures are refused."""
    response = http.post("/ui/act", data=form(http) | fields)
    assert response.status_code == 422
    assert len(names(http)) >= 3


@pytest.mark.parametrize(
    "back",
    ["https://evil.test/", "//evil.test/", "/\\evil.test", "javascript:alert(1)", "/a\r\nX: y", ""],
)
def test_acts_lead_to_this_service_only(http, back):
    """After an act, the browser goes to a path of this service, wherever the form says."""
    response = http.post("/ui/act", data=form(http, "0" * 64, act="unblock", back=back))
    assert response.status_code == 303
    assert response.headers["location"] == "/?done=unblock.0.1"
    text = http.post("/ui/confirm", data=form(http, "0" * 64, act="unblock", back=back)).text
    assert "evil" not in text


def test_a_picture_that_somebody_deleted_is_blocked(http):
    """Who deletes and blocks a picture that is gone meanwhile finds it blocked."""
    name = f"{7:064x}"
    response = http.post("/ui/act", data=form(http, name, act="delete", block="1"))
    assert response.headers["location"] == "/?done=delete.0.1"
    assert name in [each["content_hash"] for each in http.get("/blocked").json()]
    http.delete(f"/blocked/{name}").raise_for_status()


def test_results_have_one_form(http):
    """Only what the page itself says about an act is shown, not any text in the address."""
    assert "2 pictures deleted. 1 was not there." in http.get("/?done=delete.2.1").text
    assert 'role="status"' not in http.get("/?done=Your+cache+has+a+virus").text


def test_a_body_that_is_no_form_is_refused(http):
    """Bytes that are not UTF-8, and forms with too many fields, are refused."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert http.post("/ui/act", content=b"\xff\xfe", headers=kind).status_code == 422
    assert http.post("/ui/act", content=b"a&" * 5000, headers=kind).status_code in {401, 422}
    assert http.post("/ui/act", content="a=1&" * 5000, headers=kind).status_code == 422


def test_hits_are_bytes_saved(http):
    """The state page has the hit rate and the bytes that lookups saved."""
    http.get("/images/lookup", params={"url": "https://http.test/0.jpg"}).raise_for_status()
    text = http.get("/ui/state").text
    assert re.search(r"<dt>Hit rate</dt><dd>[0-9.]+ %</dd>", text)
    saved = re.search(r"<dt>Bytes saved</dt><dd>([^<]+)</dd>", text)[1]
    assert saved != "0 B"
    assert "imgcache_saved_bytes_total" in http.get("/metrics").text


async def test_the_parts_of_a_zip_are_small(tmp_path):
    """A zip of large images is made in small parts, so that memory is bounded."""
    images = AsyncImageCache(lambda: ImageCache.in_folder(tmp_path / "cache"), ImageCache.close)
    names = []
    for number in range(2):
        data = bytes([number]) * 3_000_000
        entry = await images.store(f"https://zip.test/{number}", data, "zip")
        names.append(entry["content_hash"])
    parts = [part async for part in zip_of(images, names)]
    await images.aclose()
    assert max(map(len, parts)) <= PART_BYTES + 1000
    with ZipFile(BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None
        assert {content_hash_of(archive.read(name)) for name in archive.namelist()[:2]} == {*names}


def test_the_page_shows_a_cache_on_postgresql(shared_postgresql_service, site):
    """With two workers, PostgreSQL and an object store, all pages and acts work, too."""
    with http_client(shared_postgresql_service.url) as http:
        for number in range(2):
            fields = {"url": f"{site}/{number}.jpg", "client_name": "page"}
            http.post("/images", data=fields, files={"file": jpeg(number)}).raise_for_status()
        host = site.partition("//")[2]
        first, second = names(http, f"?host={host}")
        for path in (
            *PAGES,
            f"/ui/images/{first}",
            f"/ui/history?url={site}/1.jpg",
            f"/ui/compare?a={first}&b={second}",
            f"/thumbnails/{first}",
            f"/?url_contains={host}&state=not_decoded",
        ):
            assert http.get(path).status_code == 200, path
        wait_until(lambda: "Growth by day" in http.get("/ui/state").text, 0.1)
        with ZipFile(BytesIO(http.post("/ui/zip", data=form(http, first)).content)) as archive:
            assert content_hash_of(archive.read(archive.namelist()[0])) == first
        response = http.post("/ui/act", data=form(http, first, act="delete"))
        assert response.headers["location"] == "/?done=delete.1.0"
        assert names(http, f"?host={host}") == [second]

"""Services that only read their cache, and services whose pictures no other page may show."""

from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient, ReadOnlyError
from tests.support.commands import assert_failed, run_imgcache
from tests.support.pictures import picture
from tests.support.service import Service, http_client

URL = "http://a.test/kept.png"
DATA = picture(41)


@pytest.fixture(scope="module")
def read_only(tmp_path_factory):
    """Serve a cache with one image, by `imgcache serve --read-only`."""
    service = Service(tmp_path_factory.mktemp("read-only") / "service", "--read-only")
    with ImgCacheClient(str(service.folder)) as client:
        client.store(URL, DATA, "me")
    service.start()
    yield service
    service.stop()


def files_of(service):
    return {path for path in service.folder.rglob("*") if "catalog" not in path.name}


def test_a_read_only_service_refuses_every_change(read_only):
    """Stores, deletes, blocks and failures are refused as `read_only`; reads go on."""
    with ImgCacheClient(read_only.url) as client:
        entry = client.lookup(URL)
        for change in (
            lambda: client.store("http://a.test/new.png", picture(42), "me"),
            lambda: client.claim("http://a.test/new.png", entry["content_hash"], "me"),
            lambda: client.delete(entry["content_hash"]),
            lambda: client.delete_captures(url_contains="kept", expected=1),
            lambda: client.block(entry["content_hash"]),
            lambda: client.unblock(entry["content_hash"]),
        ):
            with pytest.raises(ReadOnlyError, match="--read-only"):
                change()
        assert client.get_bytes(entry["content_hash"]) == DATA
        assert client.search("kept") == [client.lookup(URL)]
        assert client.delete_captures(url_contains="kept", dry_run=True)["captures"] == 1
        assert client.health()["status"] == "ok"
        assert client.audit() == []


def test_thumbnails_are_made_and_not_kept(read_only):
    """A read-only service shows thumbnails, and writes none."""
    before = files_of(read_only)
    with ImgCacheClient(read_only.url) as client, http_client(read_only.url) as http:
        content_hash = client.lookup(URL)["content_hash"]
        for _ in range(2):
            answer = http.get(f"/thumbnails/{content_hash}")
            assert answer.headers["content-type"] == "image/webp"
    assert files_of(read_only) == before


def test_the_page_of_a_read_only_service_has_no_acts(read_only):
    """The page offers no act, and refuses the form of one."""
    with ImgCacheClient(read_only.url) as client, http_client(read_only.url) as http:
        content_hash = client.lookup(URL)["content_hash"]
        for path in ("/", f"/ui/images/{content_hash}"):
            page = http.get(path)
            assert page.status_code == 200
            assert 'value="delete"' not in page.text
            assert "only read" in page.text
        form = {"act": "delete", "hash": content_hash}
        for path in ("/ui/confirm", "/ui/act"):
            assert http.post(path, data=form).status_code in {401, 403}
        assert client.lookup(URL) is not None


def test_a_read_only_service_creates_no_cache(tmp_path):
    """`--read-only` on a folder without a cache says so, and leaves the folder as it is."""
    assert_failed(run_imgcache(tmp_path, "serve", "--read-only"), "there is no cache")
    assert not list(tmp_path.rglob("*.sqlite3"))


def test_no_embedding(tmp_path):
    """With `--no-embedding`, no page of another site can show a picture or probe for one; a person
    can open a link to it."""
    service = Service(tmp_path / "service", "--no-embedding")
    service.start()
    try:
        with http_client(service.url) as http:
            form = {"url": f"http://{uuid4().hex}.example/", "client_name": "me"}
            answer = http.post("/images", data=form, files={"file": ("f", DATA)})
            path = f"/serve/{answer.json()['content_hash']}"
            own = http.get(path, headers={"Sec-Fetch-Site": "same-origin"})
            assert own.status_code == 200
            assert own.headers["cross-origin-resource-policy"] == "same-origin"
            for known in (path, f"/serve/{'0' * 64}"):
                for site in ("cross-site", "same-site"):
                    foreign = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
                    assert http.get(known, headers=foreign).status_code == 403
            link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
            document = {**link, "Sec-Fetch-Dest": "document"}
            assert http.get(path, headers=document).status_code == 200
            assert http.get(path, headers={**link, "Sec-Fetch-Dest": "iframe"}).status_code == 403
    finally:
        service.stop()

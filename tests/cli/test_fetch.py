"""`imgcache fetch`."""

import json
import os
from collections.abc import Iterator

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.cli.fetch import file_name
from imgcache_scrapy.cli.output import replace_file
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.keys import cache_key
from tests.support.commands import assert_failed
from tests.support.confinement import WITHOUT_POWERS, allow_writing, forbid_writing
from tests.support.originals import Original, status
from tests.support.pictures import jpeg, picture
from tests.support.projects import Project
from tests.support.site import Site


@pytest.fixture
def web() -> Iterator[Site]:
    """Return a site without answers."""
    site = Site()
    yield site
    site.close()


def test_images_are_fetched_into_a_folder(run, tmp_path, web):
    """The same URL gives the same file, which is replaced; a failure does not stop the others."""
    first, second = jpeg(1), jpeg(2)
    web.answers |= {"/a b.jpg": first, "/a%20b.jpg": Original(first), "/page": b"<!doctype html>"}
    web.answers["/a%20b.jpg"] = original = Original(first)
    urls = [f"{web.url}/a b.jpg", f"{web.url}/none.jpg", f"{web.url}/page", f"{web.url}/a b.jpg#x"]
    done = run("fetch", *urls, "-o", "pictures")
    assert done.returncode == 1
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    (path,) = {line[0] for line in lines}
    assert {line[1] for line in lines} == {"downloaded", "cached"}
    assert [each.name for each in (tmp_path / "pictures").iterdir()] == [path.partition("/")[2]]
    assert (tmp_path / path).read_bytes() == first
    assert (tmp_path / path).stat().st_mode & 0o777 == 0o666 & ~umask()
    errors = done.stderr.decode().splitlines()
    assert errors[0] == f"Cache: {tmp_path / 'imgcache'}"
    assert errors[1] == f"imgcache: {web.url}/none.jpg: the site answered 404"
    assert "HTML page" in errors[2]
    original.body = second
    header = ["--header", "Referer: http://r.example/", "--client", "me"]
    done = run("fetch", urls[0], "-o", "pictures", "--max-age", "0", "--json", *header)
    assert done.returncode == 0, done.stderr
    (found,) = map(json.loads, done.stdout.splitlines())
    assert (found["status"], found["path"], found["changed"]) == ("downloaded", path, True)
    assert (found["client_name"], found["url"]) == ("me", urls[0])
    assert (tmp_path / path).read_bytes() == second
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert web.headers["/a%20b.jpg"][-1]["Referer"] == "http://r.example/"


def test_threads_that_write_files_leave_the_umask_alone(tmp_path, monkeypatch):
    """The mask is one for all threads: who changes it gives the files of others wrong rights."""
    monkeypatch.setattr(os, "umask", None)
    replace_file(tmp_path / "a.jpg", b"a")
    assert (tmp_path / "a.jpg").read_bytes() == b"a"


def test_without_a_folder_hashes_are_printed(run, tmp_path, web, stopped_service):
    """The cache may be a service: this process fetches, the service keeps."""
    web.answers["/a"] = picture()
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    where = ["--cache", stopped_service.url, "--token", "secret"]
    for expected in ("downloaded", "cached"):
        done = run("fetch", f"{web.url}/a", *where)
        assert done.stdout.decode() == f"{content_hash_of(picture())}\t{expected}\n"
    assert not (tmp_path / "imgcache").exists()
    with ImgCacheClient(stopped_service.url, token="secret") as client:
        assert client.lookup(f"{web.url}/a")["client_name"] == "imgcache"
    done = run("fetch", f"{web.url}/none", "a.jpg", *where, "--json")
    assert done.returncode == 1
    failed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["reason"], each["http_status"]) for each in failed] == [
        ("http_404", 404),
        ("invalid_request", None),
    ]
    assert_failed(run("fetch", f"{web.url}/a", "--header", "nonsense", *where), "Name: value")


class FetchingProject(Project):
    """A Scrapy project in which images are fetched with different settings."""

    def fetch(self, url, settings="", *words):
        """Return what `imgcache fetch --json` prints about a URL, and the errors."""
        self.settings = settings
        done = self.run("fetch", url, "--json", *words)
        found = json.loads(done.stdout)
        assert done.returncode == (found["status"] == "failed"), done.stderr
        return found, done.stderr.decode()


def test_the_settings_of_a_project_hold(tmp_path, web):
    """What holds in the crawls of a project holds for `fetch`: ages, mode, failures and sizes."""
    project = FetchingProject(tmp_path / "project")
    web.answers["/a.jpg"] = original = Original(jpeg(1))
    web.answers["/b.jpg"] = jpeg(2)
    url, missing = f"{web.url}/a.jpg", f"{web.url}/none.jpg"
    assert project.fetch(url)[0]["status"] == "downloaded"
    rows = [
        ("", (), 1),
        ("IMGCACHE_MAX_AGE = {'127.0.0.1': 0}", (), 2),
        ("IMGCACHE_MAX_AGE = 0", ("--max-age", "3600"), 2),
        ("IMGCACHE_MODE = 'refresh'", (), 3),
        ("IMGCACHE_MODE = 'offline'\nIMGCACHE_MAX_AGE = 0", (), 3),
    ]
    for settings, words, requests in rows:
        found, _ = project.fetch(url, settings, *words)
        assert (found["status"], original.requests) == ("cached", requests), settings
    original.trouble = status(410)
    gone = "IMGCACHE_MAX_AGE = 0\nIMGCACHE_ON_GONE = 'stale'"
    assert project.fetch(url, gone)[0]["stale"] is True
    assert project.fetch(url, "IMGCACHE_MAX_AGE = 0")[0]["reason"] == "http_410"
    rows = [
        ("IMGCACHE_REMEMBER_FAILURES = False", "http_404", 1),
        ("IMGCACHE_REMEMBER_FAILURES = {'http_404': 3600}", "http_404", 2),
        ("", "known_http_404", 2),
        ("IMGCACHE_RETRY_FAILED = True", "http_404", 3),
        ("IMGCACHE_REMEMBER_FAILURES = False", "http_404", 4),
    ]
    for settings, reason, requests in rows:
        found, _ = project.fetch(missing, settings)
        assert (found["reason"], web.asked["/none.jpg"]) == (reason, requests), settings
    new = f"{web.url}/b.jpg"
    assert project.fetch(new, "IMGCACHE_MODE = 'offline'")[0]["reason"] == "offline"
    assert not web.asked["/b.jpg"]
    assert project.fetch(new, "IMGCACHE_MAX_IMAGE_BYTES = 100")[0]["reason"] == "too_large"
    found, errors = project.fetch(new, "IMGCACHE_MAX_BYTES = 1")
    assert found["status"] == "downloaded"
    assert "need more than the 1 bytes" in errors


def test_the_headers_of_a_project_are_sent(tmp_path, web):
    """A site sees the same program as in a crawl, unless a header is given by hand."""
    project = FetchingProject(tmp_path / "project")
    web.answers["/a.jpg"] = jpeg(1)
    url = f"{web.url}/a.jpg"
    settings = (
        "USER_AGENT = 'shop (+https://shop.example)'\n"
        "DEFAULT_REQUEST_HEADERS = {'accept-language': 'fi', 'Accept-Encoding': 'br', 'X': None}\n"
    )
    project.fetch(url, settings)
    project.fetch(url, settings, "--max-age", "0", "--header", "user-agent: me")
    names = ("User-Agent", "Accept-Language", "Accept-Encoding", "X")
    sent = [
        {name.lower(): value for name, value in headers.items()}
        for headers in web.headers["/a.jpg"]
    ]
    assert [[each.get(name.lower()) for name in names] for each in sent] == [
        ["shop (+https://shop.example)", "fi", "gzip, deflate", None],
        ["me", "fi", "gzip, deflate", None],
    ]


def test_a_cache_that_can_only_be_read(run, tmp_path, web):
    """Its images come, also if the site confirms them; a new one is an error."""
    web.answers["/a.jpg"], web.answers["/same.jpg"] = Original(jpeg(1)), jpeg(2)
    web.answers["/new.jpg"] = jpeg(3)
    urls = [f"{web.url}/{name}.jpg" for name in ("a", "same", "new", "none")]
    assert run("fetch", *urls[:2]).returncode == 0
    forbid_writing(tmp_path / "imgcache")
    try:
        for words in ((), ("--max-age", "0")):
            done = run("fetch", *urls, "-o", "to", *words, "--json", env={WITHOUT_POWERS: "1"})
            assert done.returncode == 1
            found = [json.loads(line) for line in done.stdout.splitlines()]
            assert [each["status"] for each in found] == ["cached", "cached", "failed", "failed"]
            assert [each.get("reason") for each in found[2:]] == ["read_only", "http_404"]
        assert len(list((tmp_path / "to").iterdir())) == 2
    finally:
        allow_writing(tmp_path / "imgcache")
    assert run("fetch", *urls[:3]).returncode == 0


def test_names_of_files():
    """Each row is a URL, the type of its image, and the start and the end of the file's name."""
    rows = [
        ("http://h.example/a.jpg?w=1", "image/webp", "a-", ".jpg"),
        ("http://h.example/a", "image/png", "a-", ".png"),
        ("http://h.example/", "image/png", "image-", ".png"),
        ("http://h.example/photo.php", "image/jpeg", "photo.php-", ".jpg"),
        ("http://h.example/..%2F..%2Fetc.png", "image/png", "etc-", ".png"),
        ("http://h.example/.htaccess", "text/plain", "htaccess-", ".bin"),
        ("http://h.example/" + "ü" * 200 + ".gif", "image/gif", "ü" * 60 + "-", ".gif"),
        ("data:image/png;base64,iVBORw0KGgo=", "image/png", "image-", ".png"),
    ]
    names = [file_name(url, cache_key, kind) for url, kind, _, _ in rows]
    for name, (_, _, start, end) in zip(names, rows, strict=True):
        assert name.startswith(start)
        assert name.endswith(end)
        assert len(name.encode()) < 200
        assert "/" not in name
    assert len(set(names)) == len(names)
    one, two = (f"https://h.example/a.jpg?{query}" for query in ("a=1&b=2", "b=2&a=1"))
    assert file_name(one, cache_key, "image/png") == file_name(two, cache_key, "image/png")


def umask():
    """Return the mask of the permissions of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""`imgcache fetch`."""

import json
import os
from collections.abc import Iterator

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.cli.fetch import file_name
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.keys import cache_key
from tests.support.commands import assert_failed
from tests.support.originals import Original
from tests.support.pictures import jpeg, picture
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


def test_without_a_folder_hashes_are_printed(run, tmp_path, web, stopped_service):
    """The cache may be a service: this process fetches, the service keeps."""
    web.answers["/a"] = picture()
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    where = ["--cache", stopped_service.url, "--token", "secret"]
    for status in ("downloaded", "cached"):
        done = run("fetch", f"{web.url}/a", *where)
        assert done.stdout.decode() == f"{content_hash_of(picture())}\t{status}\n"
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

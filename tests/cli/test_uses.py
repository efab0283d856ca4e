"""`imgcache uses`, and the filters of `ls` by pages and jobs."""

import json

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import assert_failed
from tests.support.pictures import picture

PAGE = "http://shop.example/1"


@pytest.fixture
def used(tmp_path):
    """Return the folder of a cache with two images, of which one is used, and its hash."""
    with ImgCacheClient(str(tmp_path / "used")) as client:
        one, _ = (client.store(f"http://h.example/{n}.png", picture(n), "me") for n in (1, 2))
        use = {"content_hash": one["content_hash"], "url": one["url"], "page_url": PAGE}
        client.record_uses([{**use, "item": "sku-1", "job": "j1", "alt": "\x1b[31mred"}])
    return tmp_path / "used", one["content_hash"]


def test_uses_of_an_image_and_of_a_page(run, used):
    """As a table without control characters, or as JSON with one object a line."""
    folder, name = used
    with ImgCacheClient(str(folder)) as client:
        expected = client.uses(name)
    for asked in (name, f"{PAGE}#top"):
        done = run("uses", asked, folder, "--json")
        assert [json.loads(line) for line in done.stdout.splitlines()] == expected
        table = run("uses", asked, folder).stdout
        assert b"sku-1" in table
        assert b"\x1b" not in table
    for unknown in ("0" * 64, f"{PAGE}2"):
        done = run("uses", unknown, "--cache", folder)
        assert (done.returncode, done.stdout) == (1, b"")
        assert unknown.encode() in done.stderr
    assert_failed(run("uses", "", folder), "must not be empty")


def test_a_long_list_is_printed_page_by_page(run, used):
    """A picture may have any number of uses; `--limit` prints the newest ones."""
    folder, name = used
    with ImgCacheClient(str(folder)) as client:
        (use,) = client.uses(name)
        client.record_uses({**use, "position": number + 1} for number in range(1200))
    for options, count in (([], 1201), (["--limit", "1100"], 1100)):
        lines = run("uses", name, folder, "--json", *options).stdout.splitlines()
        places = [json.loads(line)["position"] for line in lines]
        assert places == [*range(1200, 0, -1), None][:count]


def test_captures_are_listed_and_removed_by_page_and_job(run, used):
    """The filters of `ls` are those of `rm`, too."""
    folder, name = used
    for options in (["--page", PAGE], ["--job", "j1"]):
        (line,) = run("ls", folder, *options).stdout.splitlines()
        assert name.encode() in line
        assert run("ls", folder, *options, "--count").stdout == b"1\n"
    assert run("ls", folder, "--page", f"{PAGE}2").stdout == b""
    done = run("rm", folder, "--page", PAGE, "--yes", "--json")
    assert json.loads(done.stdout)["images"] == 1
    assert run("ls", folder, "--count").stdout == b"1\n"
    assert run("uses", PAGE, folder).returncode == 1

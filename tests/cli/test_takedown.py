"""`imgcache rm` and `imgcache audit`, and `unblock` for hosts and URLs."""

import json
import subprocess
from datetime import UTC, datetime

import pytest

from imgcache_scrapy import BlockedError, ImgCacheClient
from imgcache_scrapy.client.address import cache_name
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.client.takedown import actor
from tests.support.commands import IMGCACHE, assert_failed, clean_environment
from tests.support.pictures import jpeg
from tests.support.projects import Project
from tests.support.records import filled

DAY = datetime(2026, 1, 30, tzinfo=UTC)


@pytest.fixture
def client(tmp_path):
    """Open a cache in the current folder with four images of two hosts."""
    with ImgCacheClient(str(tmp_path / "imgcache")) as client:
        for number, host in enumerate(("a", "a", "a", "b")):
            url = f"http://{host}.example/{number}.jpg"
            client.store(url, jpeg(number), "me", DAY.replace(day=number + 1))
        yield client


def lines(done):
    """Return the lines of a command that succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


def left(client):
    """Return the numbers of the images that are left."""
    return sorted(int(entry["url"][17]) for entry in client.list())


def test_a_dry_run_only_counts(run, client):
    """It prints what would be deleted, and nothing is."""
    (line,) = lines(run("rm", "--host", "a.example", "--dry-run"))
    size = sum(len(jpeg(number)) for number in range(3))
    assert line == f"would delete 3 captures, and with them 3 images ({size:,} bytes)"
    (line,) = lines(run("rm", "imgcache", "--before", "2026-01-02", "--dry-run", "--json"))
    size = len(jpeg(0))
    assert json.loads(line) == {"captures": 1, "images": 1, "bytes": size, "spooled": 0}
    assert_failed(run("rm", "--before", "2027", "--dry-run"), "not '2027'")
    assert left(client) == [0, 1, 2, 3]


def test_it_asks_before_it_deletes(run, client, tmp_path):
    """Without an answer, nothing is deleted; `y` deletes, and `--yes` does not ask."""
    done = run("rm", "--url-contains", "/1.jpg")
    assert done.returncode == 1
    assert b"Delete 1 captures" in done.stderr
    assert left(client) == [0, 1, 2, 3]
    done = subprocess.run(
        [IMGCACHE, "rm", "--url-contains", "/1.jpg"],
        input=b"y\n",
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"deleted 1 captures")
    assert left(client) == [0, 2, 3]
    lines(run("rm", "--yes", "--url", "http://a.example/0.jpg#part"))
    assert left(client) == [2, 3]


def test_without_a_filter_it_deletes_nothing(run, client):
    """`--all` deletes everything; no filter and an empty one are one sentence."""
    assert_failed(run("rm", "--yes"), "at least one filter")
    assert_failed(run("rm", "--yes", "--host", ""), "host is empty")
    assert_failed(run("rm", "--yes", "--all", "--host", "a.example"), "not both")
    assert left(client) == [0, 1, 2, 3]
    lines(run("rm", "--yes", "--all"))
    assert left(client) == []


def test_a_blocked_host_is_listed_and_unblocked(run, client):
    """`rm --block` blocks it, `blocked` lists it, `unblock` lifts it, `audit` tells all."""
    lines(run("rm", "--yes", "--host", "a.example", "--block"))
    lines(run("rm", "--yes", "--url", "http://b.example/3.jpg", "--block"))
    for url in ("http://a.example/new.jpg", "http://b.example/3.jpg"):
        with pytest.raises(BlockedError):
            client.store(url, jpeg(9), "me")
    assert [json.loads(line) for line in lines(run("blocked", "--json"))] == client.blocked()
    assert b"a.example" in run("blocked").stdout
    words = ("--host", "a.example", "--url", "http://b.example/3.jpg")
    lines(run("unblock", *words))
    done = run("unblock", *words)
    assert (done.returncode, done.stderr.count(b"not blocked")) == (1, 2)
    assert_failed(run("unblock"), "name an image")
    assert client.store("http://a.example/new.jpg", jpeg(9), "me")
    acts = [json.loads(line) for line in lines(run("audit", "--json"))]
    assert acts == client.audit()
    assert [each["act"] for each in acts] == ["unblock", "unblock", "take_down", "take_down"]
    assert {each["actor"] for each in acts} == {actor()}
    table = run("audit", "imgcache").stdout.decode()
    assert "take_down" in table
    assert "a.example" in table


def test_what_waits_in_the_spool_is_deleted_too(run, client, tmp_path):
    """Records of this cache that meet the filters go, also refused ones; the others stay."""
    spool = Spool(tmp_path / "spool")
    here = cache_name(str(tmp_path / "imgcache"))
    mine = filled(spool, 3, cache=here)
    other = filled(spool, 1, cache="http://other.example")
    name = next(name for name in spool.names() if spool.read(name) == mine[0])
    spool.lock(name, here).refuse("no reason")
    words = ("rm", "--folder", "spool", "--host", "h.example", "--json")
    assert json.loads(lines(run(*words, "--dry-run"))[0])["spooled"] == 3
    (line,) = lines(run("rm", "--folder", "spool", "--url", mine[1].url, "--yes"))
    assert line.endswith("and 1 images in the spool")
    assert json.loads(lines(run(*words, "--yes"))[0])["spooled"] == 2
    assert [each.record for each in spool.listed()] == other
    assert not list((tmp_path / "spool" / "refused").iterdir())


def test_the_spool_of_the_project_is_emptied(tmp_path):
    """Without `--folder`, `rm` removes what waits for the cache of the project alone."""
    project = Project(tmp_path / "project")
    spool = Spool(project.folder / ".scrapy" / "imgcache-spool")
    here = cache_name(str(project.folder / ".scrapy" / "imgcache"))
    filled(spool, 2, cache=here)
    other = filled(spool, 1, cache="http://other.example")
    with ImgCacheClient(here) as client:
        client.store("http://h.example/0.gif", jpeg(0), "me")
    words = ("rm", "--host", "h.example", "--json")
    assert json.loads(lines(project.run(*words, "--dry-run"))[0])["spooled"] == 2
    assert json.loads(lines(project.run(*words, "--yes"))[0])["spooled"] == 2
    assert [each.record for each in spool.listed()] == other


def test_a_service_takes_down(run, shared_service, site):
    """The command works through a service, which counts again before it deletes."""
    with ImgCacheClient(shared_service.url, bucket=site) as client:
        client.store("http://h.example/a.jpg", jpeg(77), "me")
        words = ("rm", shared_service.url, "--bucket", site, "--json")
        assert json.loads(lines(run(*words, "--yes"))[0])["captures"] == 1
        assert client.list() == []
        (act,) = client.audit(limit=1)
    assert (act["filter"], act["actor"]) == ({"bucket": site}, actor())

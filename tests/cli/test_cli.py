"""The commands as a user runs them: real processes, their exit codes and what they write."""

import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import blob_key, content_hash_of

IMGCACHE = str(Path(sys.executable).with_name("imgcache"))
URL = "http://h.example/a b.png"


@pytest.fixture
def run(tmp_path):
    """Run `imgcache …` in an empty folder, without settings in the environment."""

    def run(*words, env=None, **options):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("IMGCACHE_")}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(
            [IMGCACHE, *map(str, words)],
            cwd=tmp_path,
            env={**clean, "COLUMNS": "200", **(env or {})},
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=60,
            **options,
        )

    return run


@pytest.fixture(scope="module")
def cache(tmp_path_factory, photos):
    """Give a folder with a cache of two images, one of them in a bucket; to be read only."""
    folder = tmp_path_factory.mktemp("cli") / "ü cache"
    with ImgCacheClient(str(folder)) as client:
        client.store(URL, photos["cat.png"], "me")
        client.store("http://h.example/in-bucket", photos["sunset.jpg"], "me", bucket="b")
    return folder


def assert_failed(done, *words):
    """Expect exit code 1 and one sentence that has these words."""
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode == 1, lines
    assert len(lines) == 1, "\n".join(lines)
    assert lines[0].startswith("imgcache: ")
    for word in words:
        assert word in lines[0]


def children_of(pid):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append((process / "cmdline").read_bytes())
    return found


# get


def test_get_writes_the_bytes_to_standard_output(run, cache, photos):
    """By URL, in another spelling, or by hash: exactly the bytes, and nothing else."""
    for name in ("http://h.example/a%20b.png", content_hash_of(photos["cat.png"])):
        done = run("get", name, cache)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == photos["cat.png"]


def test_get_finds_a_url_in_any_bucket(run, cache, photos):
    """A URL is looked up in all buckets, and its bytes are read from the right one."""
    done = run("get", "http://h.example/in-bucket", cache)
    assert done.stdout == photos["sunset.jpg"]


def test_get_writes_a_file(run, cache, photos, tmp_path):
    """With -o the bytes go there, and standard output stays empty."""
    done = run("get", URL, "-o", "cat.png", cache)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "cat.png").read_bytes() == photos["cat.png"]


def test_get_asks_a_service(run, shared_service, photos):
    """The cache may be a service, named as an argument or in the environment."""
    url, data = "http://cli.example/get", photos["dandelion.jpg"]
    with ImgCacheClient(shared_service.url) as client:
        client.store(url, data, "me")
    assert run("get", url, shared_service.url).stdout == data
    assert run("get", url, env={"IMGCACHE_URL": shared_service.url}).stdout == data


def test_get_of_an_unknown_image_fails(run, cache, tmp_path):
    """An unknown URL or hash is told by its name, and no file is made."""
    assert_failed(run("get", "http://h.example/other", cache), "http://h.example/other")
    assert_failed(run("get", "0" * 64, "-o", "file", cache), "0" * 64)
    assert not (tmp_path / "file").exists()


def test_get_where_there_is_no_cache_fails_and_makes_none(run, tmp_path):
    """A wrong folder is told, not created."""
    assert_failed(run("get", URL), "no cache", "imgcache")
    assert_failed(run("get", URL, "wrong"), "no cache", "wrong")
    assert_failed(run("stats", "wrong"), "no cache", "wrong")
    assert list(tmp_path.iterdir()) == []


def test_get_refuses_a_terminal(run, cache):
    """A picture would garble the screen: the message names the option."""
    ours, its = pty.openpty()
    try:
        assert_failed(run("get", URL, cache, stdout=its), "-o")
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(its)


def test_get_to_a_place_that_cannot_be_fails(run, cache, tmp_path):
    """What the system says about the output file is the sentence."""
    assert_failed(run("get", URL, "-o", tmp_path / "no" / "such" / "folder", cache), "folder")


def test_get_of_damaged_bytes_fails(run, cache, photos, tmp_path):
    """Bytes that rotted are not handed out, and no file is made."""
    shutil.copytree(cache, tmp_path / "imgcache")
    name = content_hash_of(photos["cat.png"])
    (tmp_path / "imgcache" / "blobs" / name[:2] / name[2:]).write_bytes(b"rotten")
    assert_failed(run("get", URL, "-o", "file"), "damaged")
    assert not (tmp_path / "file").exists()


# stats


def test_stats_count_a_folder(run, cache, photos):
    """A table tells the images, captures and bytes of a cache."""
    done = run("stats", cache)
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    size = len(photos["cat.png"]) + len(photos["sunset.jpg"])
    for what, count in {"images": 2, "captures": 2, "bytes": size, "damaged": 0}.items():
        (line,) = [line for line in text.splitlines() if what in line]
        assert f"{count:,}" in line


def test_stats_count_a_service(run, shared_service):
    """The same table comes from a service."""
    done = run("stats", shared_service.url)
    assert done.returncode == 0
    assert b"captures" in done.stdout


# verify and gc


@pytest.fixture
def worn(cache, photos, tmp_path):
    """Give a copy of the cache, one image altered, with an old orphan and a foreign file."""
    folder = shutil.copytree(cache, tmp_path / "worn")
    blob_path(folder, photos["cat.png"]).write_bytes(b"x" * 10_000_000)
    orphan = blob_path(folder, b"orphan")
    orphan.parent.mkdir(exist_ok=True)
    for path in (orphan, folder / "blobs" / "README"):
        path.write_bytes(b"orphan")
        os.utime(path, (0, 0))
    return folder


def blob_path(folder, data):
    return folder / "blobs" / blob_key(content_hash_of(data))


def test_verify_is_content_with_a_sound_cache(run, cache):
    """Exit code 0, one line, and no progress where there is no terminal."""
    done = run("verify", cache)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"2 images\n", b"")


def test_verify_tells_what_it_found(run, worn, photos):
    """Exit code 1, with a line for each finding and a sum; it says so each time."""
    for _ in range(2):
        done = run("verify", worn)
        assert (done.returncode, done.stderr) == (1, b"")
        assert done.stdout.decode().splitlines() == [
            f"altered {content_hash_of(photos['cat.png'])}",
            f"orphaned {blob_key(content_hash_of(b'orphan'))}",
            "2 images, 1 altered, 1 orphaned",
        ]
    assert_failed(run("get", URL, worn), URL)


def test_verify_removes_orphans_where_it_may(run, worn, photos):
    """With --repair they are gone, and only the image is left to be fetched again."""
    orphan = blob_key(content_hash_of(b"orphan"))
    done = run("verify", worn, "--repair", "--json")
    assert (done.returncode, done.stderr) == (1, b"")
    found = json.loads(done.stdout)
    assert (found["orphaned"], found["removed"]) == ([orphan], [orphan])
    assert not (worn / "blobs" / orphan).exists()
    with ImgCacheClient(str(worn)) as client:
        client.store(URL, photos["cat.png"], "me")
    assert run("verify", worn).returncode == 0


def test_verify_writes_json(run, worn, photos):
    """A program gets every kind of finding, also those that there are none of."""
    done = run("verify", "--json", worn)
    assert json.loads(done.stdout) == {
        "images": 2,
        "missing": [],
        "truncated": [],
        "altered": [content_hash_of(photos["cat.png"])],
        "orphaned": [blob_key(content_hash_of(b"orphan"))],
        "healed": [],
        "removed": [],
    }


def test_verify_shows_its_progress_on_a_terminal(run, cache):
    """A bar on the screen, while standard output stays as it is."""
    ours, its = pty.openpty()
    try:
        done = run("verify", cache, stderr=its)
        assert done.stdout == b"2 images\n"
        assert b"100%" in os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(its)


def test_gc_removes_what_is_old_enough(run, worn):
    """It names each file and sums up the bytes; younger and foreign files stay."""
    orphan = blob_path(worn, b"orphan")
    now = time.time()
    os.utime(orphan, (now - 1800, now - 1800))
    assert run("gc", worn).stdout == b"0 files, 0 bytes removed\n"
    done = run("gc", worn, "--older-than", "20")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        blob_key(content_hash_of(b"orphan")),
        "1 files, 6 bytes removed",
    ]
    assert not orphan.exists()
    assert (worn / "blobs" / "README").exists()


@pytest.mark.parametrize("words", [["gc"], ["verify", "--repair"]], ids=["gc", "verify"])
def test_no_blob_is_removed_for_a_catalog_that_knows_none(run, worn, words):
    """With the catalog of another cache, or a lost one, all blobs would be orphans."""
    for path in worn.glob("catalog*"):
        path.unlink()
    for path in worn.glob("blobs/*/*"):
        os.utime(path, (0, 0))
    before = sorted(worn.glob("blobs/*/*"))
    assert_failed(run(*words, worn), "catalog", "no image")
    assert sorted(worn.glob("blobs/*/*")) == before


@pytest.mark.parametrize("command", ["verify", "gc"])
def test_upkeep_is_done_where_the_cache_is(run, command):
    """A service's address and a folder without a cache are one sentence each; nothing is made."""
    assert_failed(run(command, "http://127.0.0.1:9"), "http://127.0.0.1:9", "folder")
    assert_failed(run(command, "wrong"), "no cache", "wrong")


# Errors


def test_a_service_that_is_not_there_is_told(run):
    """A refused connection and a wrong kind of address are one sentence each."""
    assert_failed(run("stats", "http://127.0.0.1:9"), "reached")
    assert_failed(run("stats", "ftp://h.example/"), "ftp://h.example/")


def test_a_wrong_option_explains_the_usage(run):
    """What the command line does not know is a usage error, and nothing is made."""
    for words in (["serve", "--port", "70000"], ["get"], ["paint"]):
        done = run(*words)
        assert done.returncode == 2
        assert b"Usage" in done.stderr
        assert b"Traceback" not in done.stderr


def test_help_names_every_command(run):
    """A newcomer sees what there is."""
    done = run("--help")
    assert done.returncode == 0
    for command in (b"serve", b"stats", b"get", b"verify", b"gc"):
        assert command in done.stdout


def newer_catalog(folder):
    """Make a cache that a later version wrote."""
    with ImgCacheClient(str(folder)) as client:
        client.health()
        client.stats()
    catalog = sqlite3.connect(folder / "catalog.sqlite3")
    with catalog:
        catalog.execute("UPDATE imgcache_schema SET number = 999")
    catalog.close()


def test_a_catalog_of_a_later_version_is_refused(run, tmp_path):
    """Every command says that this version is too old for the cache."""
    newer_catalog(tmp_path / "imgcache")
    assert_failed(run("serve", "--port", "0"), "999")
    assert_failed(run("stats"), "999")


@pytest.mark.parametrize(
    "options",
    [
        ["--database", "nonsense"],
        ["--database", "nosuchdatabase://h/x"],
        ["--database", "sqlite:////no/such/folder/c.sqlite3"],
        ["--blobs", "nonsense"],
        ["--blobs", "ftp://h.example/x"],
    ],
    ids=lambda options: options[1],
)
def test_a_storage_that_cannot_be_opened_is_told(run, options):
    """Every address that leads nowhere is one sentence, no traceback."""
    assert_failed(run("serve", "--port", "0", *options))


# serve


def test_serve_keeps_its_cache_in_the_working_folder(service):
    """Told nothing else, it makes `./imgcache` with a catalog and blobs."""
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert sorted(path.name for path in service.folder.glob("*")) >= ["blobs", "catalog.sqlite3"]
    assert sum(path.is_file() for path in service.folder.glob("blobs/*/*")) == 1


def test_serve_ends_on_a_signal_and_its_cache_is_there_again(service):
    """SIGTERM ends it in order; the next one over the folder finds what was stored."""
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert service.stop() in {0, -signal.SIGTERM}
    with ImgCacheClient(str(service.folder)) as client:
        assert client.lookup(URL)["file_size_bytes"] == 5
    service.start()
    with ImgCacheClient(service.url) as client:
        assert client.lookup(URL)["file_size_bytes"] == 5


def test_serve_takes_its_storage_from_the_options(stopped_service, tmp_path):
    """With a database and blobs named, nothing is made in the working folder."""
    service = stopped_service
    (tmp_path / "data").mkdir()
    database, blobs = tmp_path / "data" / "c.sqlite3", tmp_path / "data" / "ü b"
    service.options = ("--database", f"sqlite:///{database}", "--blobs", blobs.as_uri())
    service.start()
    with ImgCacheClient(service.url) as client:
        client.store(URL, b"bytes", "me")
    assert database.exists()
    assert sum(path.is_file() for path in blobs.glob("*/*")) == 1
    assert [path.name for path in service.home.iterdir()] == ["serve.log"]


def test_serve_with_workers_answers_from_all_of_them(stopped_service):
    """Two processes share the cache: what one stored the other one finds."""
    service = stopped_service
    service.options = ("--workers", "2")
    service.start()
    workers = [c for c in children_of(service.process.pid) if b"spawn_main" in c]
    assert len(workers) == 2
    # A connection for each request, so that the kernel hands them to either process.
    with httpx.Client(
        base_url=service.url, trust_env=False, headers={"Connection": "close"}
    ) as http:
        for number in range(30):
            url = f"http://h.example/{number}"
            form = {"url": url, "client_name": "me"}
            http.post("/images", data=form, files={"file": ("a", url.encode())}).raise_for_status()
            answer = http.get("/images/lookup", params={"url": url})
            assert answer.json()["file_size_bytes"] == len(url)
    service.stop()
    assert "Traceback" not in service.log


def test_serve_on_a_port_that_is_taken_fails(run, shared_service):
    """The second service on a port ends at once and says which address it wanted."""
    done = run("serve", "--port", shared_service.port)
    assert done.returncode != 0
    assert str(shared_service.port) in done.stderr.decode()
    assert b"Traceback" not in done.stderr

"""`imgcache import` of folders and manifests."""

import csv
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.cli.transfer.importing import Import, import_images
from imgcache_scrapy.core.entry import content_hash_of
from tests.support.commands import assert_failed
from tests.support.pictures import jpeg, picture
from tests.support.projects import Project

URL = "http://h.example/a.png"


def counts(done):
    """Return the counts that an import printed with --json, and its problems."""
    *problems, last = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return last, {each["file"]: each["reason"] for each in problems}


def numbers(*, files=0, stored=0, duplicate=0, known=0, other=0, bad=0):
    """Return the counts of an import."""
    return {
        "files": files,
        "stored": stored,
        "duplicate": duplicate,
        "known": known,
        "other": other,
        "bad": bad,
    }


@pytest.fixture
def store(tmp_path):
    """Return an empty folder for pictures."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def write(folder, name, data):
    """Write a file, and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_jsonl(path, rows):
    """Write rows as lines of JSON, and return the path."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def entries(cache, **filters):
    """Return the captures of a cache."""
    with ImgCacheClient(str(cache)) as client:
        return client.list(**filters)


def test_a_folder_is_imported_once(run, store):
    """A dry run counts exactly; the URL and the time are those of the file; twice is once."""
    first = write(store, "a b.png", picture(1))
    os.utime(first, (1_700_000_000, 1_700_000_000))
    write(store, "deep/copy.png", picture(1))
    write(store, "deep/other.jpg", jpeg(2))
    write(store, ".hidden", b"x")
    dry, _ = counts(run("import", store, "--cache", "new", "--dry-run", "--json"))
    assert dry == numbers(files=3, stored=2, duplicate=1)
    assert not (store.parent / "new").exists()
    done = run("import", store, "--cache", "new", "--client", "me", "--bucket", "b")
    assert done.returncode == 0
    assert done.stdout == b"3 files, 2 stored, 1 recorded as duplicates, 0 known\n"
    found = {entry["url"]: entry for entry in entries(store.parent / "new")}
    assert set(found) == {path.as_uri() for path in store.rglob("*.*g")}
    entry = found[first.as_uri()]
    assert entry["lookup_time"] == datetime.fromtimestamp(1_700_000_000, UTC).isoformat()
    assert (entry["client_name"], entry["bucket"]) == ("me", "b")
    assert entry["original_filename"] == "a b.png"
    assert "converted" not in entry
    again = run("import", store, "--cache", "new", "--bucket", "b", "--json")
    assert counts(again)[0] == numbers(files=3, known=3)
    assert len(entries(store.parent / "new")) == 3


def test_bad_files_are_told_and_skipped(run, store):
    """The good ones are imported; the exit code is 1; links out of the folder are not followed."""
    outside = write(store.parent, "outside.png", picture(9))
    write(store, "good.png", picture(1))
    write(store, "cut.jpg", jpeg(1, (640, 480))[:-400])
    write(store, "empty.png", b"")
    write(store, "page.png", b"<html><body>no</body></html>")
    (store / "link.png").symlink_to(outside)
    (store / "inner.png").symlink_to("good.png")
    (store / "broken.png").symlink_to("nothing.png")
    os.mkfifo(store / "pipe.png")
    done = run("import", store, "--cache", "new", "--json")
    assert done.returncode == 1
    found, problems = counts(done)
    assert found == numbers(files=8, stored=1, duplicate=1, bad=6)
    assert "cut off" in problems["cut.jpg"]
    assert "no content" in problems["empty.png"]
    assert "HTML" in problems["page.png"]
    assert "out of the folder" in problems["link.png"]
    assert "no such file" in problems["broken.png"]
    assert "regular file" in problems["pipe.png"]
    told = run("import", store, "--cache", "new").stderr.decode()
    assert "pipe.png: it is not a regular file" in told


def test_the_cache_in_the_folder_is_left_out(run, store):
    """The blobs of the cache itself are no pictures of the folder."""
    write(store, "a.png", picture(1))
    for expected in (numbers(files=1, stored=1), numbers(files=1, known=1)):
        assert counts(run("import", store, "--cache", store / "cache", "--json"))[0] == expected


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_a_manifest_gives_the_urls(run, store, kind):
    """Each format has the same result; further columns are allowed."""
    for number in range(3):
        write(store, f"{number}.png", picture(number))
    facts = [
        {"url": f"http://h.example/{n}.png?b=1&a=2", "alt": "ü", "lookup_time": f"2025-01-0{n + 1}"}
        for n in range(3)
    ]
    manifest = store.parent / f"manifest.{kind}"
    if kind == "json":
        manifest.write_text(json.dumps({f"{n}.png": each for n, each in enumerate(facts)}))
    else:
        rows = [{"file_name": f"{n}.png", **each} for n, each in enumerate(facts)]
        write_jsonl(manifest, rows)
        if kind == "csv":
            with manifest.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
    options = ("import", store, "--manifest", manifest, "--cache", "new", "--json")
    assert counts(run(*options))[0] == numbers(files=3, stored=3)
    assert counts(run(*options))[0] == numbers(files=3, known=3)
    found = entries(store.parent / "new")
    assert [entry["url"] for entry in found] == [each["url"] for each in reversed(facts)]
    assert found[0]["lookup_time"] == "2025-01-03T00:00:00+00:00"


def test_the_columns_are_options(run, store):
    """A manifest may have other names; a row without a file or a good URL is told."""
    write(store, "1.png", picture(1))
    rows = [
        {"f": "1.png", "u": URL, "t": "2025-01-01"},
        {"f": "1.png", "u": "relative.png"},
        {"f": "1.png", "u": URL, "t": "yesterday"},
        {"u": URL},
        ["no row"],
    ]
    manifest = write_jsonl(store.parent / "m.jsonl", rows)
    manifest.write_text(f"{manifest.read_text()}no JSON\n")
    done = run(
        *("import", store, "--manifest", manifest, "--cache", "new", "--json"),
        *("--file-column", "f", "--url-column", "u", "--time-column", "t"),
    )
    found, problems = counts(done)
    assert (done.returncode, found) == (1, numbers(files=6, stored=1, bad=5))
    assert any("line 6 is not JSON" in reason for reason in problems.values())
    assert [entry["url"] for entry in entries(store.parent / "new")] == [URL]


def test_a_column_that_is_missing_is_told(run, store):
    """A name that is mistyped must not give a picture the URL of its file."""
    write(store, "1.png", picture(1))
    manifest = store.parent / "m.csv"
    manifest.write_text(f"file,url\n1.png,{URL}\n")
    given = ("import", store, "--manifest", manifest, "--cache", "new", "--json")
    done = run(*given, "--url-column", "ulr")
    found, problems = counts(done)
    assert (done.returncode, found) == (1, numbers(files=1, bad=1))
    assert problems == {"1.png": "it has no column 'ulr'"}
    _, problems = counts(run(*given, "--file-column", "flie"))
    assert problems == {"m.csv, line 2": "it names no file in its column flie"}
    assert_failed(run(*given[:-1], "--time-column", "tmie"), "no column 'tmie'")
    assert not (store.parent / "new").exists()
    assert run(*given).returncode == 0
    manifest.write_text(f"file,link\n1.png,{URL}\n")
    assert_failed(run(*given[:-1], "--cache", "other"), "no column 'url'", "--url-column")
    assert not (store.parent / "other").exists()


@pytest.mark.parametrize(
    ("feed", "option", "expected"),
    [
        ([{"images": [{"url": URL, "path": "1.png"}]}], "--field=imgs", "in its field 'imgs'"),
        ([{"image_urls": [URL]}], "--items=", "has a result: a result has"),
        ([], "--items=", "has a result: a result has"),
        ([], "--manifest=", "has no rows"),
    ],
)
def test_a_list_that_names_no_file_is_refused(run, store, feed, option, expected):
    """A wrong list, or a field that is mistyped, must not look like a finished import."""
    write(store, "1.png", picture(1))
    path = write_jsonl(store.parent / "list.jsonl", feed)
    lists = [f"{option}{path}"] if option.endswith("=") else ["--items", path, option]
    assert_failed(run("import", store, *lists, "--cache", "new"), expected)
    assert not (store.parent / "new").exists()


def test_options_of_another_list_are_refused(run, store):
    """Without a manifest there are no columns, and without a feed no field."""
    write(store, "1.png", picture(1))
    for option in ("--url-column", "--file-column", "--time-column"):
        assert_failed(run("import", store, option, "u", "--cache", "new"), "needs --manifest")
    assert_failed(run("import", store, "--field", "images", "--cache", "new"), "needs --items")


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.png", "/etc/hostname", "link.png", "folder/../../outside.png", "pipe.png"),
        *("folder", ".", "a\0b.png", "x" * 5000, "missing.png", "linked/outside.png", "\udcff.png"),
    ],
)
def test_a_hostile_path_reads_nothing(run, store, name):
    """Only a regular file inside of the folder counts."""
    outside = write(store.parent, "outside.png", picture(9))
    (store / "folder").mkdir()
    (store / "link.png").symlink_to(outside)
    (store / "linked").symlink_to(store.parent)
    os.mkfifo(store / "pipe.png")
    feed = write_jsonl(store.parent / "feed.jsonl", [{"images": [{"url": URL, "path": name}]}])
    done = run("import", store, "--items", feed, "--cache", "new", "--json")
    assert (done.returncode, counts(done)[0]) == (1, numbers(files=1, bad=1))
    assert not (store.parent / "new").exists()


def test_a_path_through_the_folder_counts(run, store):
    """An absolute path into the folder, and one with dots that stays inside, are good."""
    write(store, "a/1.png", picture(1))
    write(store, "2.png", picture(2))
    manifest = {"a/../2.png": f"{URL}?2", str(store / "a/1.png"): URL}
    (store / "manifest.json").write_text(json.dumps(manifest))
    done = run("import", store, "--manifest", store / "manifest.json", "--cache", "new", "--json")
    assert counts(done)[0] == numbers(files=2, stored=2)


def test_the_captures_of_a_url_keep_their_order(run, store):
    """A picture that came back after another one has two captures; repeating adds none."""
    old, new = write(store, "old.png", picture(1)), write(store, "new.png", picture(2))
    rows = [
        {"file": new.name, "url": URL, "lookup_time": "2025-02-01"},
        {"file": old.name, "url": URL, "lookup_time": "2025-03-01"},
        {"file": old.name, "url": URL, "lookup_time": "2025-01-01"},
    ]
    manifest = write_jsonl(store.parent / "m.jsonl", rows)
    options = ("import", store, "--manifest", manifest, "--cache", "new", "--json")
    dry, _ = counts(run(*options, "--dry-run"))
    assert dry == counts(run(*options))[0] == numbers(files=3, stored=2, duplicate=1)
    again, _ = counts(run(*options))
    assert again == counts(run(*options, "--dry-run"))[0] == numbers(files=3, known=3)
    with ImgCacheClient(str(store.parent / "new")) as client:
        hashes = [entry["content_hash"] for entry in client.history(URL)]
    assert hashes == [content_hash_of(picture(seed)) for seed in (1, 2, 1)]


def test_an_older_picture_does_not_replace_a_newer_one(run, store):
    """The newest capture of a URL stays that of the crawl, also if it is imported again."""
    path = write(store, "old.png", picture(1))
    os.utime(path, (0, 0))
    manifest = write_jsonl(store.parent / "m.jsonl", [{"file": "old.png", "url": URL}])
    with ImgCacheClient(str(store.parent / "new")) as client:
        newest = client.store(URL, picture(2), "crawl")["content_hash"]
        for expected in (numbers(files=1, stored=1), numbers(files=1, known=1)):
            done = run("import", store, "--manifest", manifest, "--cache", "new", "--json")
            assert counts(done)[0] == expected
        assert client.lookup(URL)["content_hash"] == newest
        assert len(client.history(URL)) == 2


def test_spellings_of_one_key_are_one_url(run, store):
    """Two URLs with the same cache key and picture are one capture, in a dry run, too."""
    write(store, "a.png", picture(1))
    rows = [{"file": "a.png", "url": f"{URL}?{query}"} for query in ("a=1&b=2", "b=2&a=1")]
    manifest = write_jsonl(store.parent / "m.jsonl", rows)
    options = ("import", store, "--manifest", manifest, "--cache", "new", "--json")
    dry, _ = counts(run(*options, "--dry-run"))
    assert dry == counts(run(*options))[0] == numbers(files=2, stored=1, known=1)


def test_blocked_pictures_are_told(run, store):
    """A blocked picture is not imported, in a dry run, too; the others are."""
    for seed in range(3):
        write(store, f"{seed}.png", picture(seed))
    with ImgCacheClient(str(store.parent / "new")) as client:
        client.block(file_bytes=picture(1))
    for option in ("--dry-run", "--json"):
        done = run("import", store, "--cache", "new", "--json", option)
        assert counts(done)[0] == numbers(files=3, stored=2, bad=1)
        assert "blocked" in counts(done)[1]["1.png"]


def test_pictures_of_a_blocked_host_are_told(run, store):
    """A host that was taken down and blocked stays away, also by an import; a dry run knows it."""
    for seed in range(2):
        write(store, f"{seed}.png", picture(seed))
    rows = [{"file": f"{n}.png", "url": f"http://h{n}.example/a.png"} for n in range(2)]
    manifest = write_jsonl(store.parent / "m.jsonl", rows)
    with ImgCacheClient(str(store.parent / "new")) as client:
        client.store("http://h1.example/b.png", picture(5), "me")
        client.delete_captures(host="h1.example", block=True)
    for option in ("--dry-run", "--json"):
        done = run("import", store, "--manifest", manifest, "--cache", "new", "--json", option)
        assert counts(done)[0] == numbers(files=2, stored=1, bad=1)
        assert "h1.example" in counts(done)[1]["1.png"]


def test_into_a_service(run, store, shared_service, site):
    """A service gets the same captures through the client; repeating sends nothing twice."""
    rows = []
    for seed in range(70):
        write(store, f"{seed}.jpg", jpeg(seed, (640, 480), quality=95) if seed < 3 else jpeg(seed))
        rows.append({"file": f"{seed}.jpg", "url": f"{site}/{seed}.jpg", "converted": seed < 3})
    manifest = write_jsonl(store.parent / "m.jsonl", rows)
    options = ("import", store, "--manifest", manifest, "--cache", shared_service.url, "--json")
    options += ("--bucket", site)
    assert counts(run(*options))[0] == numbers(files=70, stored=70)
    assert counts(run(*options))[0] == numbers(files=70, known=70)
    with ImgCacheClient(shared_service.url, bucket=site) as client:
        found = client.list()
    assert len(found) == 70
    assert {each["url"] for each in found if each.get("converted")} == {
        row["url"] for row in rows if row["converted"]
    }


def test_the_function_calls_back(store):
    """`import_images` does the same as the command, and tells its progress."""
    for seed in range(70):
        write(store, f"{seed}.png", picture(seed))
    totals, steps = [], []
    what = Import(Path(store), on_total=totals.append, on_progress=steps.append)
    found = import_images(str(store.parent / "cache"), what)
    assert found == numbers(files=70, stored=70)
    assert totals == [70]
    assert sum(steps) == 70


def test_wrong_arguments_are_one_sentence(run, store):
    """A missing folder, a list of no known format, two lists, a cache that cannot be reached."""
    write(store, "a.png", picture(1))
    assert_failed(run("import", "nowhere", "--cache", "new"), "no folder")
    assert_failed(run("import", store, "--items", "a.xml", "--cache", "new"), "format")
    assert_failed(run("import", store, "--items", "a.json", "--cache", "new"), "cannot be read")
    both = ("--items", "a.json", "--manifest", "a.json")
    assert_failed(run("import", store, *both, "--cache", "new"), "not both")
    assert_failed(run("import", store, "--cache", "http://127.0.0.1:9"), "reached")


def test_the_size_limits_of_a_project_hold(tmp_path, store):
    """A file over IMGCACHE_MAX_IMAGE_BYTES is skipped, and IMGCACHE_MAX_BYTES is told of."""
    write(store, "small.png", picture(1, side=8))
    write(store, "large.png", picture(2, side=64))
    project = Project(tmp_path / "project")
    project.settings = "IMGCACHE_MAX_IMAGE_BYTES = 1000\nIMGCACHE_MAX_BYTES = 1\n"
    done = project.run("import", store, "--json")
    assert counts(done) == (
        numbers(files=2, stored=1, bad=1),
        {"large.png": "the image is larger than the limit"},
    )
    assert b"need more than the 1 bytes" in done.stderr

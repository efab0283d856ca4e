"""Imports, exports and copies that are killed and repeated lose no image, and have none twice."""

import json
import os
from random import Random
from threading import Event, Thread

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from tests.cli.transfer.test_export import captures_of
from tests.cli.transfer.test_import import counts, numbers, write
from tests.support.commands import Command
from tests.support.full_caches import fill, rows_of, shown
from tests.support.pictures import picture
from tests.support.programs import assert_recovers, blob_files
from tests.support.waiting import wait_until

SIZES = [(100, 2), pytest.param(4000, 20, marks=pytest.mark.endurance)]
LARGE = pytest.param(100_000, 20, marks=pytest.mark.endurance)


def kill_at(command, count, goal):
    """Kill a command when a count reaches a goal; return whether it was still running."""
    wait_until(lambda: count() >= goal or not command._process.is_alive())
    was_alive = command._process.is_alive()
    command.kill()
    command.result()
    return was_alive


def count_blobs(folder):
    """Count the files of a cache's blobs; faster than to name them."""
    return sum(len(os.listdir(each)) for each in folder.glob("blobs/??"))  # noqa: PTH208


@pytest.mark.parametrize(("images", "kills"), [*SIZES, LARGE])
def test_a_killed_import(run, tmp_path, images, kills):
    """After each kill the cache is sound; in the end, it has each picture once."""
    rows = {}
    for seed in range(images):
        write(tmp_path / "store", f"{seed}.png", picture(seed, 8))
        rows[f"{seed}.png"] = {"url": f"http://h.example/{seed}.png"}
    (tmp_path / "m.json").write_text(json.dumps(rows))
    options = ("import", "store", "--manifest", "m.json", "--cache", "cache", "--json")
    goals = sorted(Random(images).sample(range(1, images), kills))
    was_alive = [
        kill_at(Command(tmp_path, *options), lambda: count_blobs(tmp_path / "cache"), goal)
        for goal in goals
    ]
    assert any(was_alive)
    dry, _ = counts(run(*options, "--dry-run"))
    done, _ = counts(run(*options))
    assert dry == done
    assert done["files"] == done["stored"] + done["duplicate"] + done["known"] == images
    assert counts(run(*options))[0] == numbers(files=images, known=images)
    assert_recovers(tmp_path / "cache")
    urls = [json.loads(each)[0] for each in captures_of(str(tmp_path / "cache"))]
    assert sorted(urls) == sorted(row["url"] for row in rows.values())
    assert len(blob_files(tmp_path / "cache")) == images


@pytest.mark.parametrize("kind", ["files", "webdataset"])
@pytest.mark.parametrize(("images", "kills"), SIZES)
def test_a_killed_export(run, tmp_path, images, kills, kind):
    """No file is incomplete after a kill; in the end, the folder has each picture once."""
    for seed in range(images):
        write(tmp_path / "store", f"{seed}.png", picture(seed, 8))
    run("import", "store", "--cache", "cache")
    out = tmp_path / "out"
    options = ("export", "out", "--cache", "cache", "--format", kind, "--json")
    options += ("--shard-bytes", "20000")

    def done_files():
        return [path for path in out.rglob("[!.]*") if path.is_file()]

    last = len(Random(0).sample(range(images), kills))
    goals = sorted(Random(images).sample(range(1, max(images // 20, last + 1)), last))
    for goal in goals:
        kill_at(Command(tmp_path, *options), lambda: len(done_files()), goal)
        for path in done_files() if kind == "files" else ():
            if path.suffix == ".png":
                assert path.stem.rpartition("-")[2] == content_hash_of(path.read_bytes())[:8]
    found, _ = counts(run(*options))
    assert found["written"] + found["kept"] == found["images"] == images
    assert counts(run(*options))[0]["kept"] == images
    fresh = run("export", "fresh", *options[2:])
    assert counts(fresh)[0]["written"] == images
    assert {
        str(path.relative_to(tmp_path / "fresh")): path.read_bytes()
        for path in (tmp_path / "fresh").rglob("*")
        if path.is_file()
    } == {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("images", "kills"), [(60, 2), pytest.param(2000, 10, marks=pytest.mark.endurance)]
)
def test_a_killed_copy(run, tmp_path, images, kills):
    """While crawls store, it is killed and repeated; afterwards, the copy shows the same."""
    source, copy, is_over = tmp_path / "cache", tmp_path / "copy", Event()
    fill(source, images)

    def crawl():
        with ImgCacheClient(str(source)) as client:
            for number in range(10 * images):
                if is_over.wait(0.01):
                    break
                seed = number % (2 * images)
                client.store(f"http://c.example/{seed % images}", picture(seed, 4), "crawl")

    crawler = Thread(target=crawl)
    crawler.start()
    try:
        was_alive = [
            kill_at(Command(tmp_path, "copy", source, copy), lambda: len(blob_files(copy)), goal)
            for goal in sorted(Random(images).sample(range(1, images), kills))
        ]
        run("copy", source, copy)
    finally:
        is_over.set()
        crawler.join()
    assert any(was_alive)
    done, _ = counts(run("copy", source, copy, "--json"))
    assert done["copied"] + done["renewed"] + done["known"] == done["captures"]
    assert counts(run("copy", source, copy, "--json"))[0]["known"] == done["captures"]
    assert_recovers(copy)
    assert shown(copy) == shown(source)
    assert rows_of(copy) == rows_of(source)

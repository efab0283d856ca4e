"""IMGCACHE_PATH in real crawls: each item has its own file, and each picture its own path."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.pictures import jpeg
from tests.support.site import respond

KINDS = {
    "images": ("ImgCacheImagesPipeline", "IMAGES_STORE", "image_urls"),
    "files": ("ImgCacheFilesPipeline", "FILES_STORE", "file_urls"),
}


def named(kind, template, **more):
    """Return the settings of a drop-in with a template."""
    pipeline, store, _ = KINDS[kind]
    return {
        "ITEM_PIPELINES": {f"imgcache_scrapy.{pipeline}": 1},
        store: "files",
        "IMGCACHE_PATH": template,
        "IMGCACHE_FAILURES_FIELD": "failures",
        "IMGCACHE_PATHS_FIELD": "paths",
        **more,
    }


def item(kind, urls, **fields):
    """Return an item with these URLs."""
    return {**fields, KINDS[kind][2]: urls}


def by_sku(done):
    """Return the paths and statuses of each item."""
    return {
        item["sku"]: [
            (one["path"], one["status"]) for one in item.get("images") or item.get("files", [])
        ]
        for item in done.items
    }


def written(tmp_path: Path) -> dict[str, float]:
    """Return the times of all files of the store, by path."""
    folder = tmp_path / "files"
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_item_has_its_own_file_of_a_picture(kind, site, crawl, tmp_path):
    """Two items show one picture: it is fetched once and written twice, and again if deleted."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    urls = [f"{site.url}/a.jpg", f"{site.url}/b.jpg"]
    items = [item(kind, urls, sku="5", category="x"), item(kind, urls[:1], sku="6", category="y")]
    settings = named(kind, "{item[category]}/{item[sku]}-{index}.{ext}")
    paths = ["x/5-1.jpg", "x/5-2.jpg", "y/6-1.jpg"]

    first = crawl(items, settings)
    assert first.fates == {"stored": 2}
    before = written(tmp_path)
    assert sorted(before) == paths
    assert {one["sku"]: one["paths"] for one in first.items} == {"5": paths[:2], "6": paths[2:]}

    second = crawl(items, settings)
    assert written(tmp_path) == before
    assert {status for found in by_sku(second).values() for _, status in found} == {"uptodate"}
    assert "imgcache/lookup" not in second.stats

    shutil.rmtree(tmp_path / "files")
    third = crawl(items, settings)
    assert sorted(written(tmp_path)) == paths
    assert third.fates == {"hit": 2}
    assert site.images_asked().total() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_picture_of_a_path_gets_a_number(kind, site, crawl, tmp_path):
    """In one item and in two, in the order of the items, and the same in every later crawl."""

    def slow(handler):
        time.sleep(0.3)
        respond(handler, jpeg(1))

    site.answers |= {"/a.jpg": slow, "/b.jpg": jpeg(2), "/c.jpg": jpeg(3), "/d.jpg": jpeg(4)}
    a, b, c, d = (f"{site.url}{path}" for path in site.answers)
    items = [
        item(kind, [a, b], sku="5", title="Lamp"),
        item(kind, [c], sku="6", title="lamp"),
    ]
    settings = named(kind, "{item[title]}.{ext}")
    expected = {"5": ["Lamp.jpg", "Lamp-2.jpg"], "6": ["lamp-3.jpg"]}

    first = crawl(items, settings)
    assert {one["sku"]: one["paths"] for one in first.items} == expected
    before = written(tmp_path)

    fourth = item(kind, [d], sku="7", title="Lamp")
    second = crawl([fourth, *reversed(items)], settings)
    assert {one["sku"]: one["paths"] for one in second.items} == {**expected, "7": ["Lamp-4.jpg"]}
    assert before.items() <= written(tmp_path).items()
    assert by_sku(second)["5"] == [("Lamp.jpg", "uptodate"), ("Lamp-2.jpg", "uptodate")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_field_fails_with_its_name(kind, site, crawl, tmp_path):
    """The picture of such an item is `failed/hook`, is not fetched, and is told in one line."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    items = [
        item(kind, [f"{site.url}/b.jpg", "bad url", f"{site.url}/a.jpg"], sku=None),
        item(kind, [f"{site.url}/a.jpg"], sku="5"),
    ]
    done = crawl(items, named(kind, "{item[sku]}-{index}.{ext}"))
    assert sorted(written(tmp_path)) == ["5-1.jpg"]
    assert done.fates == {"stored": 1, "failed": 2}
    assert done.stats["imgcache/failed/hook"] == 1
    (failed,) = (one["failures"] for one in done.items if one["sku"] is None)
    assert [failure["reason"] for failure in failed] == ["hook", "bad_url", "hook"]
    assert "the item has no value in its field 'sku'" in done.log
    assert "Traceback" not in done.log
    assert site.images_asked() == {"/a.jpg": 1}


def test_a_picture_with_new_urls_keeps_its_file(site, crawl, tmp_path):
    """The same bytes under a new URL have the same path, and other bytes do not replace them."""
    site.answers |= {f"/{n}.jpg": jpeg(1) for n in range(3)}
    site.answers["/other.jpg"] = jpeg(2)
    settings = named("files", "{item[sku]}.{ext}")
    for name, path in [("0", "5.jpg"), ("1", "5.jpg"), ("other", "5-2.jpg"), ("2", "5.jpg")]:
        done = crawl([item("files", [f"{site.url}/{name}.jpg"], sku="5")], settings)
        assert done.items[0]["paths"] == [path]
        assert (tmp_path / "files" / path).read_bytes() == site.answers[f"/{name}.jpg"]
    assert sorted(written(tmp_path)) == ["5-2.jpg", "5.jpg"]


def test_a_new_signature_changes_no_name(site, crawl, tmp_path):
    """A signed URL is up to date on the second crawl, because names go by the cache key."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = named("files", "{item[sku]}.{ext}")
    for status in ("downloaded", "uptodate"):
        query = f"X-Amz-Credential=AKIA&X-Amz-Signature={status}"
        done = crawl([item("files", [f"{site.url}/a.jpg?{query}"], sku="5")], settings)
        assert by_sku(done) == {"5": [("5.jpg", status)]}
    assert site.images_asked().total() == 1


def test_the_extension_is_that_of_the_bytes(site, crawl, tmp_path, photos):
    """The URL does not decide; a file that the cache does not take has its header's extension."""
    png = next(data for name, data in photos.items() if name.endswith(".png"))

    def pdf(handler):
        respond(handler, b"%PDF-1.7 and so on", content_type="application/pdf")

    site.answers |= {"/a.jpg": png, "/b": jpeg(1), "/c.php": pdf, "/d.zip": b"PK\3\4 or not"}
    items = [item("files", [site.url + path for path in site.answers], sku="5")]
    settings = named("files", "{item[sku]}-{index}.{ext}")
    first = crawl(items, settings)
    assert first.items[0]["paths"] == ["5-1.png", "5-2.jpg", "5-3.pdf", "5-4.jpg"]
    second = crawl(items, settings)
    assert {status for _, status in by_sku(second)["5"]} == {"uptodate"}
    assert site.images_asked().total() == 4


def test_a_file_outside_of_the_cache_is_fetched_once(site, crawl, tmp_path):
    """Two items have a PDF, a broken URL and a picture that bypasses the cache."""

    def pdf(handler):
        respond(handler, b"%PDF-1.7 and so on", content_type="application/pdf")

    site.answers["/a.pdf"] = pdf
    urls = [f"{site.url}/a.pdf", f"{site.url}/missing.jpg"]
    items = [item("files", urls, sku=sku) for sku in "567"]
    done = crawl(items, named("files", "{item[sku]}.{ext}"))
    assert sorted(written(tmp_path)) == ["5.pdf", "6.pdf", "7.pdf"]
    assert [len(one["failures"]) for one in done.items] == [1, 1, 1]
    assert site.images_asked() == {"/a.pdf": 1, "/missing.jpg": 1}
    assert done.fates == {"rejected": 1, "failed": 1}


def test_a_cache_that_is_down_changes_no_name(site, crawl, tmp_path):
    """A picture of two items waits in the spool, is fetched once, and is up to date afterwards."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [item("images", [f"{site.url}/a.jpg"], sku=sku) for sku in "56"]
    settings = named("images", "{item[sku]}.{ext}", IMGCACHE_URL="http://127.0.0.1:9")
    first, second = crawl(items, settings), crawl(items, settings)
    assert sorted(written(tmp_path)) == ["5.jpg", "6.jpg"]
    assert (first.fates, second.fates) == ({"spooled": 1}, {"hit": 1})
    assert site.images_asked().total() == 1


def test_a_picture_that_changes_replaces_its_file(site, crawl, tmp_path):
    """With IMGCACHE_MODE refresh, a crawl asks once for two items, and both files are new."""
    items = [item("files", [f"{site.url}/a.jpg"], sku=sku) for sku in "56"]
    settings = named("files", "{item[sku]}.{ext}", IMGCACHE_MODE="refresh")
    for seed in (1, 2):
        site.answers["/a.jpg"] = jpeg(seed)
        crawl(items, settings)
        assert sorted(written(tmp_path)) == ["5.jpg", "6.jpg"]
        assert {(tmp_path / "files" / path).read_bytes() for path in written(tmp_path)} == {
            jpeg(seed)
        }
        assert site.images_asked().total() == seed


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_an_item_leaves_the_store(kind, site, crawl, tmp_path):
    """Values of strangers name files below the store, also where they are the same afterwards."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(6)}
    values = ["../../x", "/etc/x", "..\\x", "C:x", "\0", "Grüße 🎉" * 40]
    items = [
        item(kind, [f"{site.url}/{n}.jpg"], sku=value, folder="..")
        for n, value in enumerate(values)
    ]
    done = crawl(items, named(kind, "{item[folder]}/{item[sku]}.{ext}"))
    assert len(done.items) == len(values)
    assert all(one["paths"] and not one["failures"] for one in done.items)
    assert {path.name for path in tmp_path.iterdir()} >= {"files"}
    (folder,) = (tmp_path / "files").iterdir()
    assert folder.name == "_"
    names = {path.name for path in folder.iterdir()}
    assert names > {"Cx.jpg", "_.jpg", "etcx.jpg", "x-2.jpg", "x.jpg"}
    assert all(len(name.encode()) <= 120 for name in names)
    assert not (tmp_path / "x.jpg").exists()


def test_thumbnails_have_the_names_of_their_pictures(site, crawl, tmp_path):
    """Each picture has its own thumbnails, and no picture's path is a thumbnail's."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    items = [
        item("images", [f"{site.url}/a.jpg", f"{site.url}/b.jpg"], folder="Thumbs"),
        item("images", [f"{site.url}/a.jpg"], folder="x"),
    ]
    sizes = {"small": [20, 20], "big": [40, 40]}
    done = crawl(items, named("images", "{item[folder]}/small/1.{ext}", IMAGES_THUMBS=sizes))
    pictures = ["Thumbs_/small/1.jpg", "Thumbs_/small/1-2.jpg", "x/small/1.jpg"]
    assert sorted(path for one in done.items for path in one["paths"]) == sorted(pictures)
    thumbs = [f"thumbs/{size}/{path}" for size in sizes for path in pictures]
    assert sorted(written(tmp_path)) == sorted([*pictures, *thumbs])


def test_two_drop_ins_may_share_a_store(site, crawl, tmp_path):
    """The original bytes and the JPEG of a picture are two files."""
    site.answers["/a.jpg"] = jpeg(1)
    url = f"{site.url}/a.jpg"
    settings = named("files", "{item[sku]}.{ext}") | named("images", "{item[sku]}.{ext}")
    settings["ITEM_PIPELINES"] = {
        "imgcache_scrapy.ImgCacheFilesPipeline": 1,
        "imgcache_scrapy.ImgCacheImagesPipeline": 2,
    }
    items = [{"sku": "5", "file_urls": [url], "image_urls": [url]}]
    for _ in range(2):
        (done,) = crawl(items, settings).items
        assert [done[name][0]["path"] for name in ("files", "images")] == ["5.jpg", "5-2.jpg"]
        assert (tmp_path / "files" / "5.jpg").read_bytes() == jpeg(1)
    assert site.images_asked().total() == 1


@pytest.mark.parametrize(
    ("kind", "pipeline"),
    [("images", "NamedImages"), ("files", "NamedFiles"), ("files", "SecondBaseFiles")],
)
def test_an_own_file_path_is_preferred(kind, pipeline, site, crawl):
    """IMGCACHE_PATH is not used if a class of the project names files, and one line says so."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = named(kind, "{item[sku]}.{ext}")
    settings["ITEM_PIPELINES"] = {f"custom.{pipeline}": 1}
    done = crawl([item(kind, [f"{site.url}/a.jpg"], name="own")], settings)
    assert done.items[0]["paths"][0].startswith("own/a.jpg")
    assert ".file_path names files, not IMGCACHE_PATH" in done.log


def test_a_subclass_may_extend_other_hooks(site, crawl, tmp_path):
    """A pipeline with own requests and an own `item_completed` has the paths of the template."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    settings = named("images", "{item[sku]}-{index}.{ext}")
    settings["ITEM_PIPELINES"] = {"custom.ReversedImages": 1}
    urls = [f"{site.url}/a.jpg", f"{site.url}/b.jpg"]
    done = crawl([item("images", urls, sku="5")], settings)
    assert done.items == [
        {"sku": "5", "failures": [], "paths": ["5-1.jpg", "5-2.jpg"], "urls": urls[::-1]}
    ]


def test_a_broken_index_costs_no_picture(site, crawl, tmp_path):
    """The crawl warns once, and the files have the names of this crawl alone."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    (tmp_path / ".scrapy").mkdir()
    (tmp_path / ".scrapy" / "imgcache-paths.sqlite3").write_bytes(b"no database " * 100)
    (tmp_path / "scrapy.cfg").touch()
    items = [item("files", [f"{site.url}/a.jpg", f"{site.url}/b.jpg"], sku="5")]
    for _ in range(2):
        done = crawl(items, named("files", "{item[sku]}.{ext}"))
        assert done.items[0]["paths"] == ["5.jpg", "5-2.jpg"]
        (warning,) = done.warnings
        assert "names of files cannot be remembered" in warning
    assert site.images_asked().total() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_switched_off_drop_in_names_files_as_scrapy(kind, site, crawl):
    """With IMGCACHE_ENABLED False, none of these settings has an effect."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = named(kind, "{item[sku]}.{ext}", IMGCACHE_ENABLED=False, IMGCACHE_DROP_EMPTY=True)
    items = [item(kind, [f"{site.url}/a.jpg"], sku="5"), item(kind, [], sku="6")]
    done = crawl(items, settings)
    assert len(done.items) == 2
    assert all(path.startswith("full/") for path, _ in by_sku(done)["5"])
    assert not any("paths" in one for one in done.items)


@pytest.fixture
def ftp_store(tmp_path):
    """Serve the folder `files` by FTP, and return the address of the store."""
    folder = tmp_path / "files"
    # Scrapy's store fails if two files create one folder at the same time.
    (folder / "x").mkdir(parents=True)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-u",
        "-m",
        "pyftpdlib",
        "-i",
        "127.0.0.1",
        "-p",
        "0",
    ]
    command += ["-w", "-d", str(folder), "-u", "crawler", "-P", "secret"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        port = next(
            filter(None, (re.search(r"127\.0\.0\.1:(\d+)", line) for line in server.stderr))
        )
        yield f"ftp://crawler:secret@127.0.0.1:{port[1]}/"
        server.kill()


def test_a_remote_store_has_the_same_names(site, crawl, tmp_path, ftp_store):
    """Scrapy's own stores need no folder of this machine."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    items = [item("files", [f"{site.url}/a.jpg", f"{site.url}/b.jpg"], sku="5")]
    login = {"FTP_USER": "crawler", "FTP_PASSWORD": "secret"}
    settings = named("files", "x/{item[sku]}.{ext}", FILES_STORE=ftp_store, **login)
    first, second = crawl(items, settings), crawl(items, settings)
    assert by_sku(first)["5"] == [("x/5.jpg", "downloaded"), ("x/5-2.jpg", "downloaded")]
    assert by_sku(second)["5"] == [("x/5.jpg", "uptodate"), ("x/5-2.jpg", "uptodate")]
    assert (tmp_path / "files" / "x" / "5-2.jpg").read_bytes() == jpeg(2)


@pytest.mark.parametrize("kind", KINDS)
def test_files_in_an_object_store(crawl, site, object_store, kind):
    """In a bucket, each item has its own file, and the second crawl finds it there."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    env = object_store.environment
    settings = named(kind, "{item[sku]}-{index}.{ext}") | {
        KINDS[kind][1]: object_store.new_bucket() + "/",
        "AWS_ENDPOINT_URL": env["AWS_ENDPOINT"],
        "AWS_REGION_NAME": env["AWS_REGION"],
        "AWS_ACCESS_KEY_ID": env["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": env["AWS_SECRET_ACCESS_KEY"],
    }
    urls = [f"{site.url}/a.jpg", f"{site.url}/b.jpg"]
    items = [item(kind, urls, sku=sku) for sku in ("one", "two")]
    for _ in range(2):
        done = crawl(items, settings)
        paths = sorted(path for each in done.items for path in each["paths"])
        assert paths == ["one-1.jpg", "one-2.jpg", "two-1.jpg", "two-2.jpg"], done.log
    assert done.fates == {"hit": 2}
    assert site.images_asked().total() == 2

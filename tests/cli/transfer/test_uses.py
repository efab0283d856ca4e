"""The uses of images in imports and exports: pages, items and texts go along."""

import json
import tarfile

import pyarrow.parquet as pq
import pytest

from imgcache_scrapy import ImgCacheClient
from tests.cli.transfer.test_import import write_jsonl
from tests.support.pictures import picture

PAGE = "http://shop.example/1"


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """Return the folder of a cache with 60 images, of which some are used; for reading only."""
    folder = tmp_path_factory.mktemp("used") / "cache"
    with ImgCacheClient(str(folder)) as client:
        entries = [
            client.store(
                f"http://h.example/{n}.png?b=1&a=2", picture(n), "me", bucket="b" * (n % 2)
            )
            for n in range(60)
        ]
        client.store("http://other.example/0.png", picture(0), "me")
        named = [{name: each[name] for name in ("content_hash", "url", "bucket")}
                 for each in entries]  # fmt: skip
        more = {"alt": "Blue ü", "item": "sku", "meta": {"n": 1}, "used_at": "2026-01-02T00:00:00Z"}
        client.record_uses(
            [
                {**named[0], "page_url": f"{PAGE}/old", "caption": "old", "job": "j1"},
                {**named[0], "page_url": PAGE, "spider": "s", "position": 3, **more},
                {
                    **named[0],
                    "url": "http://other.example/0.png",
                    "page_url": "http://hidden.test/",
                },
                {**named[59], "caption": "last"},
            ]
        )
    return folder


def uses_in(address, **filters):
    """Return the uses in a cache, without the order in which they were recorded."""
    with ImgCacheClient(str(address)) as client:
        found = client.list_uses(**filters)
    return sorted((json.dumps(each) for each in found), key=str)


def facts_in(folder, kind):
    """Return the facts of an export, by the URL of the picture."""
    if kind == "parquet":
        rows = pq.read_table(folder / "data-000000.parquet").to_pylist()
    elif kind == "webdataset":
        with tarfile.open(folder / "data-000000.tar") as tar:
            names = [name for name in tar.getnames() if name.endswith(".json")]
            rows = [json.load(tar.extractfile(name)) for name in names]
    else:
        (manifest,) = folder.glob("*.jsonl")
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    return {row["url"]: row for row in rows}


@pytest.mark.parametrize("kind", ["files", "imagefolder", "webdataset", "parquet"])
def test_an_export_has_pages_and_texts(run, used, tmp_path, kind):
    """Every picture has the same fields; those of uses of other URLs are left out."""
    options = ("--cache", used, "--format", kind, "--host", "h.example")
    assert run("export", "out", *options).returncode == 0
    facts = facts_in(tmp_path / "out", kind)
    row = facts["http://h.example/0.png?b=1&a=2"]
    assert (row["page_url"], row["alt"], row["caption"]) == (PAGE, "Blue ü", "old")
    uses = json.loads(row["uses"])
    assert [each["page_url"] for each in uses] == [PAGE, f"{PAGE}/old"]
    assert uses[0]["meta"] == {"n": 1}
    other = facts["http://h.example/2.png?b=1&a=2"]
    assert [other[name] for name in ("page_url", "alt", "caption", "uses")] == ["", "", "", "[]"]
    assert len(facts) == 60


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_import_of_an_export_has_the_same_uses(run, used, tmp_path, repeats):
    """Also their times; repeating it adds none."""
    run("export", "out", "--cache", used)
    for _ in range(repeats):
        done = run("import", "out", "--manifest", "out/manifest.jsonl", "--cache", "copy")
        assert done.returncode == 0
    assert uses_in(tmp_path / "copy") == uses_in(used)


def test_an_export_of_a_service_has_uses(run, shared_service, site, tmp_path):
    """They are read for many pictures at a time."""
    with ImgCacheClient(shared_service.url, bucket=site) as client:
        for n in range(60):
            entry = client.store(f"{site}/{n}.png", picture(n + 100), "me")
            use = {"content_hash": entry["content_hash"], "url": entry["url"], "position": n + 1}
            client.record_uses([use])
    run("export", "out", "--cache", shared_service.url, "--bucket", site)
    facts = facts_in(tmp_path / "out", "files")
    assert [json.loads(facts[f"{site}/{n}.png"]["uses"])[0]["position"] for n in range(60)] == [
        *range(1, 61)
    ]


@pytest.mark.parametrize("filters", [{"--page": "http://shop.example/1"}, {"--job": "j1"}])
def test_an_export_of_a_page_has_its_uses_only(run, shared_service, site, tmp_path, filters):
    """A picture that other pages use, too, has the texts of the page that was asked for."""
    places = [("/1", "one", "j1"), ("/2", "two", "j2")]
    with ImgCacheClient(shared_service.url, bucket=site) as client:
        entry = client.store(f"{site}/a.png", picture(500), "me")
        named = {name: entry[name] for name in ("content_hash", "url")}
        for path, alt, job in places:
            page = f"http://shop.example{path}"
            client.record_uses([{**named, "page_url": page, "alt": alt, "job": job}])
    options = [word for pair in filters.items() for word in pair]
    run("export", "out", "--cache", shared_service.url, "--bucket", site, *options)
    row = facts_in(tmp_path / "out", "files")[f"{site}/a.png"]
    assert (row["page_url"], row["alt"]) == ("http://shop.example/1", "one")
    assert [use["job"] for use in json.loads(row["uses"])] == ["j1"]


def test_feeds_say_where_pictures_were_used(run, tmp_path):
    """Each item that shows a picture is a use of it; an item that says nothing is none."""
    (tmp_path / "store").mkdir()
    for n in range(2):
        (tmp_path / f"store/{n}.png").write_bytes(picture(n))
    results = [{"url": f"http://h.example/{n}.png", "path": f"{n}.png"} for n in range(2)]
    items = [
        {"images": results, "url": f"{PAGE}#a", "sku": 7, "alt": ["zero", "one"]},
        {"images": results[:1], "page_url": f"{PAGE}/2", "caption": "c\0" + "x" * 9999},
        {"images": results, "name": "none"},
    ]
    write_jsonl(tmp_path / "items.jsonl", items)
    done = run("import", "store", "--items", "items.jsonl", "--cache", "copy", "--dry-run")
    assert done.returncode == 0
    done = run("import", "store", "--items", "items.jsonl", "--cache", "copy")
    assert done.returncode == 0
    found = sorted(map(json.loads, uses_in(tmp_path / "copy")), key=lambda each: each["url"])
    shown = {(use["page_url"], use["item"], use["position"], use["alt"]) for use in found}
    assert shown == {(PAGE, "7", 1, "zero"), (PAGE, "7", 2, "one"), (f"{PAGE}/2", None, 1, None)}
    assert {len(use["caption"] or "") for use in found} == {0, 999}


def test_manifests_may_have_texts(run, tmp_path):
    """Columns with the names of a use are one; a value that is not valid costs no picture."""
    (tmp_path / "in").mkdir()
    for n in range(3):
        (tmp_path / f"in/{n}.png").write_bytes(picture(n))
    rows = {
        "0.png": {"url": "http://h.example/0", "alt": "Zero", "page_url": PAGE, "position": "4"},
        "1.png": {"url": "http://h.example/1", "alt": "One", "position": "x"},
        "2.png": {"url": "http://h.example/2", "uses": [{"url": "http://h.example/2", "alt": 5}]},
    }
    (tmp_path / "list.json").write_text(json.dumps(rows))
    done = run("import", "in", "--manifest", "list.json", "--cache", "copy")
    assert done.returncode == 0
    uses = map(json.loads, uses_in(tmp_path / "copy"))
    shown = {(use["url"][-1], use["alt"], use["page_url"], use["position"]) for use in uses}
    assert shown == {("0", "Zero", PAGE, 4), ("1", "One", None, None)}

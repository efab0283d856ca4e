"""Hooks of drop-ins, compared with the same hooks of Scrapy's pipelines, in a table of rows."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support.crawling import run_crawl
from tests.support.hook_rows import ROWS
from tests.support.pictures import encoded, jpeg, noise
from tests.support.site import Site, redirect, respond

SUPPORT = "tests.support"
# The keys that only results of our pipelines have.
OUR_KEYS = {
    "content_hash",
    "key",
    "content_type",
    "file_size_bytes",
    "width",
    "height",
    "perceptual_hash",
    "original_filename",
    "client_name",
    "bucket",
    "lookup_time",
    "created_at",
    "reason",
}
# The owner of the classes in each crawl. In the last crawl, every image is in the cache.
CRAWLS = {"stock": "stock", "cold": "ours", "warm": "ours"}
SITE_FAILURE = ["scrapy.pipelines.media", "ERROR", True]


def answers(name):
    """Return the answer of the site for a file."""
    return {
        "/a.jpg": jpeg(1),
        "/b.jpg": jpeg(2),
        "/b.png": encoded(noise(20, 20, "RGBA"), "PNG"),
        "/c.gif": encoded(noise(20, 20, "L").convert("P"), "GIF"),
        "/a.pdf": b"%PDF-1.7 and so on",
        "/html.jpg": b"<!doctype html><title>x</title>",
        "/cut.jpg": jpeg(3, size=(200, 200))[:400],
        "/a.ppm": b"P6 2 2 255 " + bytes(range(12)),
        "/a.svg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        "/500.jpg": lambda handler: respond(handler, b"sorry", status=500),
        "/empty.jpg": lambda handler: respond(handler, b""),
        "/go.jpg": redirect("/a.jpg"),
    }.get(name)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return the events of all rows in a crawl with Scrapy's classes, and in two with ours."""
    site, folder = Site(), tmp_path_factory.mktemp("hooks")
    items = []
    for row, made in ROWS.items():
        for name in made.names or ():
            site.answers[f"/{row}/{name}"] = answers(f"/{name.partition('?')[0]}")
        paths = [n if ":" in n else f"{site.url}/{row}/{n}" for n in made.names or ()]
        items.append({"row": row, "urls": None if made.names is None else paths})
    site.answers["/a.jpg"] = jpeg(1)
    site.answers = {path: answer for path, answer in site.answers.items() if answer}
    by_crawl = {
        label: events(folder, site, items, label=label, owner=owner)
        for label, owner in CRAWLS.items()
    }
    site.close()
    return by_crawl


def events(folder, site, items, *, label, owner):
    """Run a crawl, and return the recorded events of each row."""
    rows = {f"{SUPPORT}.hook_rows.{owner}_{row}": n for n, row in enumerate(ROWS, 1)}
    ends = {f"{SUPPORT}.hook_recorder.First": 0, f"{SUPPORT}.hook_recorder.Last": 999}
    settings = {
        "ITEM_PIPELINES": rows | ends,
        "FILES_STORE": f"{label}-files",
        "IMAGES_STORE": f"{label}-images",
        "RETRY_ENABLED": False,
        "HOOK_EVENTS": str(folder / f"{label}.json"),
        "IMGCACHE_FAILURES_FIELD": "failures",
    }
    for row, made in ROWS.items():
        prefix = f"{owner}_{row}".upper()
        settings |= {f"{prefix}_{name}": value for name, value in made.settings.items()}
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = run_crawl(folder, site, items, settings, environment=path)
    assert done.returncode == 0, done.log
    by_row = {row: {"hooks": {}, "log": [], "item": None, "reasons": None} for row in ROWS}
    for row, where, event in json.loads((folder / f"{label}.json").read_text()):
        if where == "log":
            by_row[row]["log"].append(event)
        elif where in ("item", "reasons"):
            by_row[row][where] = event
        else:
            by_row[row]["hooks"].setdefault(where, []).append(event)
    return by_row


def comparable(value, *, is_warm):
    """Remove what is different in results of our pipelines."""
    if isinstance(value, dict):
        return {
            key: "downloaded"
            if is_warm and (key, each) == ("status", "cached")
            else comparable(each, is_warm=is_warm)
            for key, each in value.items()
            if key not in OUR_KEYS
        }
    if isinstance(value, list):
        return [comparable(each, is_warm=is_warm) for each in value]
    return value


@pytest.mark.parametrize("label", ["cold", "warm"])
@pytest.mark.parametrize("row", ROWS)
def test_hooks_see_the_same_as_in_scrapy(recorded, row, label):
    """Calls, threads, arguments, errors, results, items and log levels must be the same."""
    stock = comparable(recorded["stock"][row], is_warm=False)
    ours = comparable(recorded[label][row], is_warm=label == "warm")
    assert ours["hooks"] == stock["hooks"]
    assert ours["item"] == stock["item"]
    # The warm crawl does not ask the site for what was missing in the cold one.
    known = [
        reason.replace("http_404", "known_http_404") if label == "warm" else reason
        for reason in ROWS[row].reasons
    ]
    assert (ours["reasons"] or []) == known
    expected = [each for each in stock["log"] if not (ROWS[row].quiet and each == SITE_FAILURE)]
    assert Counter(map(str, ours["log"])) == Counter(map(str, expected))


def test_the_table_is_long_enough():
    """The table has at least 40 rows."""
    assert len(ROWS) >= 40

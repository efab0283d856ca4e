"""The example project, crawled as a user crawls it."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.forking import run_python, start
from tests.support.waiting import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "example_project"


@pytest.fixture
def project(tmp_path):
    """Return a function that runs a spider in a copy of the example project."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "project", ignore=shutil.ignore_patterns(".*"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def crawl(spider):
        words = ["crawl", spider, "-O", "items.json", "-s", f"SITE_PORT={port}"]
        out, err = (tmp_path / name for name in ("out", "err"))
        err.unlink(missing_ok=True)
        process = start(
            run_python,
            "import sys; sys.path[0] = ''; from scrapy.cmdline import execute; execute()",
            words,
            folder=folder,
            environment=dict(os.environ),
            out=out,
            err=err,
        )
        process.join(PATIENCE)
        return subprocess.CompletedProcess(words, process.exitcode, stderr=err.read_text())

    crawl.folder, crawl.port = folder, port
    return crawl


def requests_by_kind(log):
    """Return the number of requests that the site counted, by the kind of URL."""
    (line,) = re.findall(r"Picture site: \d+ requests: (.*)", log)
    return {kind: int(count) for kind, count in re.findall(r"(\S+) (\d+)", line)}


def test_the_second_crawl_fetches_only_what_changes(project):
    """Only the HTML page is requested again, no signed URL and no missing picture."""
    first, second = project("shop"), project("shop")
    assert first.returncode == second.returncode == 0
    assert requests_by_kind(first.stderr)["signed"] == 14
    assert requests_by_kind(second.stderr) == {"blocked": 1, "page": 1}
    assert "84 hit" in second.stderr
    assert "0 stored, 0 duplicate, 1 rejected, 1 failed" in second.stderr
    items = json.loads((project.folder / "items.json").read_text())
    assert sum(len(item["images"]) for item in items) == 84


def test_the_middleware_serves_scrapys_own_pipeline(project):
    """The second crawl also requests only what changes."""
    project("middleware")
    second = project("middleware")
    assert requests_by_kind(second.stderr) == {"blocked": 1, "page": 1}


def test_a_spider_can_call_the_client(project):
    """The spider finds look-alikes of each photograph without fetching an image."""
    project("shop")
    done = project("client")
    assert requests_by_kind(done.stderr) == {"page": 2}
    items = json.loads((project.folder / "items.json").read_text())
    photos = [item for item in items if "photo" in item]
    assert len(photos) == 14
    assert all(any("/recompressed/" in url for url in item["alike"]) for item in photos)
    assert len([item for item in items if item.get("resized")]) == 3


def test_a_port_in_use_is_reported_in_one_sentence(project):
    """The sentence says what to do, and there is no traceback."""
    with socket.create_server(("127.0.0.1", project.port)):
        done = project("shop")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == (
        f"Port {project.port} is in use: stop the program that uses it, or choose another one with "
        "-s SITE_PORT=NUMBER"
    )
    assert "Traceback" not in done.stderr


def test_a_picture_that_changes_is_noticed(project):
    """The second crawl gets the new picture, and a 304 for the one that is the same."""
    project("changing")
    second = project("changing")
    assert requests_by_kind(second.stderr) == {"changing": 1, "webcam": 2}
    assert "1 stored, 0 duplicate, 1 revalidated" in second.stderr
    (item,) = json.loads((project.folder / "items.json").read_text())
    changed, same = item["images"]
    assert changed["changed"] is True
    assert changed["previous_content_hash"] != changed["content_hash"]
    assert changed["distance"] > 4
    assert same["status"] == "cached"
    assert "changed" not in same

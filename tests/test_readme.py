"""The README documents everything public, and its examples run."""

import dataclasses
import re
from contextlib import closing
from pathlib import Path

import pytest

import imgcache_scrapy
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.core import ALL_PRESETS
from imgcache_scrapy.core.admission import MESSAGES
from imgcache_scrapy.plugin.settings import Settings
from tests.support.readme import BLOCKS, JOBS, README
from tests.support.site import Site


@pytest.mark.parametrize("block", BLOCKS)
def test_each_example_runs(block, photos, tmp_path, monkeypatch):
    """Each Python block runs unchanged in a folder with a photograph and a list of URLs."""
    monkeypatch.chdir(tmp_path)
    site = Site()
    site.answers["/sunset.jpg"] = photos["sunset.jpg"]
    (tmp_path / "urls.txt").write_text(f"{site.url}/sunset.jpg\n{site.url}/none.jpg\n")
    (tmp_path / "photo.jpg").write_bytes(photos["sunset.jpg"])
    with closing(site):
        exec(compile(block, "README.md", "exec"), {})
    if "fetch(" in block:
        assert site.asked["/sunset.jpg"] == 1


@pytest.mark.parametrize("block", [block for block in BLOCKS if "# settings.py" in block])
def test_the_settings_in_examples_load(block):
    """Each component that an example names can be imported, and each setting is valid."""
    from scrapy.settings import BaseSettings
    from scrapy.utils.misc import load_object

    settings = {}
    exec(block, settings)
    for name in ("ADDONS", "ITEM_PIPELINES", "DOWNLOADER_MIDDLEWARES"):
        for path in settings.get(name, {}):
            assert load_object(path)
    assert Settings.from_settings(BaseSettings(settings))


def test_each_job_of_the_cookbook_has_a_test():
    """Each row of the table has one to five lines, which a test in `tests/cookbook` runs."""
    texts = (path.read_text() for path in (Path(__file__).parent / "cookbook").glob("*.py"))
    tested = [question for text in texts for question in re.findall(r'@does\("(.*)"\)', text)]
    assert sorted(tested) == sorted(JOBS)
    for job in JOBS.values():
        assert 1 <= len(job.lines) <= 5, job


def required_names():
    """Yield the names that the README must contain."""
    yield from (f"IMGCACHE_{field.name.upper()}" for field in dataclasses.fields(Settings))
    yield from (name for name in dir(AsyncImgCacheClient) if not name.startswith("_"))
    yield from imgcache_scrapy.__all__
    yield from MESSAGES
    yield from ALL_PRESETS
    commands = (
        "serve",
        "stats",
        "ls",
        "get",
        "fetch",
        "verify",
        "gc",
        "prune",
        "spool list",
        "spool replay",
    )
    commands += ("prune", "upgrade", "backup", "rebuild", "key", "history", "block")
    commands += ("unblock", "blocked", "suggest-blocked", "failures", "import", "export")
    commands += ("rm", "audit", "copy", "uses", "ui")
    yield from (f"imgcache {command}" for command in commands)


@pytest.mark.parametrize("name", sorted(set(required_names()) - {"Entry"}))
def test_the_readme_contains(name):
    """The README contains every setting, method, public name, reason and command."""
    assert re.search(rf"\b{name}\b", README)


def test_the_readme_contains_every_stat():
    """Each stat in the source is in the README."""
    source = "".join(
        path.read_text() for path in Path(imgcache_scrapy.__file__).parent.rglob("*.py")
    )
    counted = set(re.findall(r'(?:\binc|_count)\(f?"([a-z_/]+)', source))
    assert counted >= {"lookup", "bytes_stored", "replayed", "error/"}
    for stat in counted:
        assert f"imgcache/{stat.rstrip('/')}" in README

"""Scrapy's own tests of its media pipelines, run with our pipelines instead."""

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest
import scrapy
from platformdirs import user_cache_path

from tests.support.forking import start
from tests.support.swapped_scrapy import run
from tests.support.waiting import PATIENCE

FILES = [f"tests/test_pipeline_{name}.py" for name in ("media", "files", "images", "crawl")]
# The only tests that do not pass, with the reason of each.
REASONS = {
    "test_wait_if_request_is_downloading": (
        "the engine is a mock whose download returns None; a real one returns a Response"
    ),
    "test_files_pipeline_raises_notconfigured_when_files_store_invalid": (
        "a pipeline that cannot work stops the crawl with a ConfigurationError: Scrapy would "
        "switch it off, and items would leave without their files"
    ),
    "test_download_media_redirected_default_failure": (
        "redirects are followed unless a setting forbids it"
    ),
}


@pytest.fixture
def source(tmp_path):
    """Return the folder of the installed version's tests, from its source distribution."""
    cache = user_cache_path("imgcache-scrapy-tests", ensure_exists=True)
    name = f"scrapy-{scrapy.__version__}"
    archive = cache / f"{name}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", f"scrapy=={scrapy.__version__}"]
        command += ["--no-deps", "--no-binary", "scrapy", "--dest", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(
                f"Scrapy's tests cannot be downloaded, so put {archive.name} from PyPI into "
                f"{cache}: {done.stderr.strip().splitlines()[-1]}"
            )
        shutil.move(tmp_path / archive.name, archive)
    with tarfile.open(archive) as tar:
        # Scrapy itself is left out, because the installed version is tested.
        wanted = [
            member
            for member in tar.getmembers()
            if member.name.startswith(f"{name}/tests/") or member.name.count("/") == 1
        ]
        tar.extractall(tmp_path, wanted, filter="data")
    return tmp_path / name


def test_scrapys_own_tests_pass(source, tmp_path):
    """Only the tests in REASONS fail; tests of Google's storage need a library and are skipped."""
    report, log = tmp_path / "outcomes.json", tmp_path / "log"
    # With pytest's own variables, Scrapy's conftest would run as a worker of this pytest.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    process = start(
        run,
        *(str(source), str(report), FILES),
        folder=source,
        environment=clean | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        out=log,
    )
    process.join(4 * PATIENCE)
    process.kill()
    process.join()
    outcomes = json.loads(report.read_text())
    failed = {test for test, outcome in outcomes.items() if outcome == "failed"}
    expected = {test for test in outcomes if name_of(test) in REASONS}
    assert len(outcomes) > 100, log.read_text()
    assert failed == expected, log.read_text()
    skipped = [test for test, outcome in outcomes.items() if outcome == "skipped"]
    assert all("TestGCSFilesStore" in test for test in skipped), skipped


def name_of(test):
    """Return the name of a test's function."""
    return test.rpartition("::")[2].partition("[")[0]

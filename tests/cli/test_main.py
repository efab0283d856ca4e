"""The command line itself: help, version, wrong options and errors."""

import json
import sqlite3
import subprocess
import sys
from importlib.metadata import version

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import assert_failed, clean_environment
from tests.support.waiting import PATIENCE


def test_an_unreachable_service_is_reported(run):
    """A refused connection and an invalid address give one sentence each."""
    assert_failed(run("stats", "http://127.0.0.1:9"), "reached")
    assert_failed(run("stats", "ftp://h.example/"), "ftp://h.example/")


def test_a_file_in_place_of_a_folder_is_one_sentence(run, tmp_path):
    """The sentence names the file, and has no number of an error."""
    file = tmp_path / "file"
    file.touch()
    done = run("fetch", "http://h.example/1.png", "-o", file, "--cache", tmp_path / "cache")
    assert_failed(done, f"{file} cannot be used: a file is in its place")
    assert b"Errno" not in done.stderr


def test_a_wrong_option_is_a_usage_error(run):
    """An unknown command or option value is a usage error."""
    for words in (["serve", "--port", "70000"], ["get"], ["paint"]):
        done = run(*words)
        assert done.returncode == 2
        assert b"Usage" in done.stderr
        assert b"Traceback" not in done.stderr


def test_help_names_every_command(run):
    """The help lists the commands."""
    done = run("--help")
    assert done.returncode == 0
    for command in (b"serve", b"stats", b"get", b"verify", b"gc"):
        assert command in done.stdout


def create_newer_catalog(folder):
    """Create a cache that a later version wrote."""
    with ImgCacheClient(str(folder)) as client:
        client.store("http://h.example/a", b"a", "me")
    catalog = sqlite3.connect(folder / "catalog.sqlite3")
    with catalog:
        catalog.execute("UPDATE imgcache_schema SET number = 999")
    catalog.close()


def test_a_catalog_of_a_later_version_is_refused(run, tmp_path):
    """Each command reports that this version is too old for the cache."""
    create_newer_catalog(tmp_path / "imgcache")
    assert_failed(run("serve", "--port", "0"), "999")
    assert_failed(run("stats"), "999")


def test_the_version_is_that_of_the_installed_package(run):
    """`--version` prints the version, and nothing else, to standard output."""
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"imgcache-scrapy {version('imgcache-scrapy')}\n"


def test_the_package_runs_as_a_module(run, tmp_path):
    """`python -m imgcache_scrapy` has the commands, results and exit codes of `imgcache`."""
    for words in (["--version"], ["stats"]):
        module = subprocess.run(
            [sys.executable, "-m", "imgcache_scrapy", *words],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        script = run(*words)
        assert (module.returncode, module.stdout, module.stderr) == (
            script.returncode,
            script.stdout,
            script.stderr,
        )


# What a command imports

LOADED = """
import json, sys
from imgcache_scrapy.cli.main import main
try:
    main()
finally:
    loaded = sorted({name.split(".")[0] for name in sys.modules})
    open("loaded.json", "w").write(json.dumps(loaded))
"""
ENGINE = {"sqlalchemy", "PIL", "numpy", "obstore", "alembic"}
SERVER = {"fastapi", "starlette", "uvicorn", "prometheus_client"}


def modules_imported_by(folder, *words):
    """Run a command, and return the top-level modules that it imported."""
    subprocess.run(
        [sys.executable, "-c", LOADED, *map(str, words)],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=PATIENCE,
    )
    return set(json.loads((folder / "loaded.json").read_text()))


@pytest.mark.parametrize("words", [["stats"], ["get", "http://h.example/other"]])
def test_a_command_for_a_service_does_not_import_the_engine(tmp_path, shared_service, words):
    """It imports neither the engine's libraries, nor the web framework, nor Scrapy."""
    loaded = modules_imported_by(tmp_path, *words, shared_service.url)
    assert "httpx" in loaded
    assert not loaded & (ENGINE | SERVER | {"scrapy"})


def test_a_command_in_a_project_with_a_service_does_not_import_the_engine(tmp_path, shared_service):
    """It imports Scrapy for the settings, and no library of the engine."""
    (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = shop\n")
    (tmp_path / "shop.py").write_text(f"IMGCACHE_URL = {shared_service.url!r}\n")
    loaded = modules_imported_by(tmp_path, "stats")
    assert {"httpx", "scrapy"} <= loaded
    assert not loaded & (ENGINE | SERVER)


def test_a_command_for_a_folder_does_not_import_the_server(tmp_path, cache):
    """It imports neither the web framework nor Scrapy."""
    loaded = modules_imported_by(tmp_path, "stats", cache)
    assert "sqlalchemy" in loaded
    assert not loaded & (SERVER | {"scrapy"})

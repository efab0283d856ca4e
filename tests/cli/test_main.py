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


def test_the_version_is_that_of_the_installed_package(run):
    """`--version` writes it, alone, to standard output."""
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"imgcache-scrapy {version('imgcache-scrapy')}\n"


def test_the_package_is_run_as_a_module(run, tmp_path):
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


# What a command loads

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


def loaded_by(folder, *words):
    """Run a command, and return the top-level modules that it loaded."""
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
def test_a_command_that_talks_to_a_service_loads_no_cache(tmp_path, shared_service, words):
    """Neither the catalog's libraries nor Pillow, nor the web framework, nor Scrapy."""
    loaded = loaded_by(tmp_path, *words, shared_service.url)
    assert "httpx" in loaded
    assert not loaded & (ENGINE | SERVER | {"scrapy"})


def test_a_command_in_a_project_with_a_service_loads_no_cache(tmp_path, shared_service):
    """Scrapy is loaded for the settings, and nothing of the cache itself."""
    (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = shop\n")
    (tmp_path / "shop.py").write_text(f"IMGCACHE_URL = {shared_service.url!r}\n")
    loaded = loaded_by(tmp_path, "stats")
    assert {"httpx", "scrapy"} <= loaded
    assert not loaded & (ENGINE | SERVER)


def test_a_command_that_reads_a_folder_loads_no_server(tmp_path, cache):
    """An embedded cache is read without the web framework and without Scrapy."""
    loaded = loaded_by(tmp_path, "stats", cache)
    assert "sqlalchemy" in loaded
    assert not loaded & (SERVER | {"scrapy"})

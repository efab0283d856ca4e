"""The command line itself: help, version, wrong options and errors."""

import sqlite3

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import assert_failed


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

"""The name of a cache: the same for every spelling of its address, and without secrets."""

import os
from pathlib import Path

import pytest

from imgcache_scrapy.client.address import cache_name, folder_of
from imgcache_scrapy.client.record import Record
from imgcache_scrapy.core.errors import ConfigurationError
from tests.support.records import record_of


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (
            ["http://h.example", "HTTP://me:secret@H.example:80/", "http://h.example/?token=x"],
            "http://h.example",
        ),
        (["https://h.example:443/a/", "https://h.example/a"], "https://h.example/a"),
        (["http://[::1]:8010", "http://me@[::1]:8010/"], "http://[::1]:8010"),
        (["/srv/cache", "file:///srv/cache", "/srv/x/../cache/"], "/srv/cache"),
        ([os.fsdecode(b"/srv/\xff"), "file:///srv/%FF"], "/srv/\\xff"),
    ],
)
def test_every_spelling_has_the_same_name(monkeypatch, spellings, name):
    """A service is named by its address, an embedded cache by its folder."""
    monkeypatch.delenv("IMGCACHE_DATABASE_URL", raising=False)
    monkeypatch.delenv("IMGCACHE_BLOBS_URL", raising=False)
    assert {cache_name(spelling) for spelling in spellings} == {name}


def test_the_name_of_any_folder_can_be_written():
    """Else what is spooled for it would be no record."""
    names = [
        cache_name(os.fsdecode(b"/srv/" + folder)) for folder in (b"\xff", b"\xfe", b"\xc3\xa4")
    ]
    assert names == ["/srv/\\xff", "/srv/\\xfe", "/srv/\xe4"]
    for name in names:
        record = record_of(1, cache=name)
        assert Record.unpacked(record.packed()) == record


def test_variables_name_another_cache(monkeypatch):
    """Its catalog and its blobs are what it is; their passwords are not."""
    monkeypatch.setenv(
        "IMGCACHE_DATABASE_URL", "postgresql+psycopg://me:secret@db/c?password=x&a=1"
    )
    monkeypatch.delenv("IMGCACHE_BLOBS_URL", raising=False)
    assert cache_name("/srv/cache") == "postgresql+psycopg://db/c?a=1 /srv/cache"
    monkeypatch.setenv("IMGCACHE_BLOBS_URL", "s3://key:secret@bucket/prefix")
    assert cache_name("/srv/cache") == "postgresql+psycopg://db/c?a=1 s3://bucket/prefix"
    assert cache_name("http://h.example") == "http://h.example"


@pytest.mark.parametrize("address", ["localhost:8010", "10.0.0.5:8010/", "cache_1:8010"])
def test_a_service_without_its_scheme_is_no_folder(address):
    """Else a crawl would make a cache in a folder of this name."""
    with pytest.raises(ConfigurationError, match=f"use http://{address} for a service"):
        folder_of(address)
    assert folder_of(f"./{address}") == Path.cwd() / address
    assert folder_of(f"file:///{address}") == Path("/", address)
    assert folder_of(f"http://{address}") is None


def test_a_wrong_address_shows_no_password():
    """The message has the rest of it."""
    with pytest.raises(ConfigurationError, match=r"h\.example") as raised:
        cache_name("http://me:secret@h.example:port")
    assert "secret" not in str(raised.value)

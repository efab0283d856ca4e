"""The upgrade from schema 4: nothing is lost, and takedowns work at once."""

from contextlib import closing

import pytest

from imgcache_scrapy.core.audit import Counts
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import BlockedError, ConfigurationError
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from imgcache_scrapy.engine.takedown import TakeDown
from tests.support import schema_4
from tests.support.schema_1 import connected


def test_an_upgrade_from_schema_4_changes_no_rows(database_url, blobs_url, tmp_path):
    """Keys, hosts, failures and blocked images stay; the new lists are empty, and work."""
    schema_4.make(database_url, 30, tmp_path / "blobs")
    before = schema_4.rows(database_url)
    assert [len(rows) for rows in before.values()] == [30] * 4
    with pytest.raises(ConfigurationError, match="schema 4"):
        ImageCache(database_url, blobs_url, upgrade=False)
    with closing(ImageCache(database_url, blobs_url)) as cache:
        assert schema_4.rows(database_url) == before
        with connected(database_url) as connection:
            (number,) = next(iter(connection.execute("SELECT number FROM imgcache_schema")))
        assert number == SCHEMA
        assert len(cache.catalog.failures_page().entries) == 30
        assert len(cache.catalog.blocked_page().entries) == 30
        assert cache.catalog.count_unfilled() == 0
        key = "http://h1.example/1.gif?a=2&b=1"
        assert cache.catalog.lookup_many([key])[key]["url"] == schema_4.url_of(1)
        assert cache.catalog.audit_page().entries == []
        assert cache.catalog.uses_page().entries == []
        assert cache.catalog.blocked_sources_page().entries == []
        size = sum(len(b"GIF89a %d" % n) for n in range(1, 30, 3))
        selection = Selection.of({"host": "h1.example"})
        assert TakeDown(selection, block=True).run(cache) == Counts(10, 10, size)
        assert cache.get_image(content_hash_of(b"GIF89a 2"))[0] == b"GIF89a 2"
        with pytest.raises(BlockedError):
            cache.store(schema_4.url_of(1), b"GIF89a 1", "me")

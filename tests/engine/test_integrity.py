"""The check of a catalog, what removes files only after it, and a catalog that is taken away."""

import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.engine.cache import ImageCache, StoreRequest
from imgcache_scrapy.engine.upkeep import Upkeep
from tests.support.programs import catalog_of, upkeep_of

PAGE = 4096


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the folder of a cache whose catalog has at least 29 pages of every kind."""
    folder = tmp_path_factory.mktemp("sound") / "cache"
    with closing(ImageCache.in_folder(folder)) as cache:
        for first in range(0, 1100, 100):
            stores = [
                StoreRequest.of(f"http://a.test/{n}.jpg", b"image %d" % (n % 40), "me")
                for n in range(first, first + 100)
            ]
            cache.store_many(stores)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """Return a copy of the cache."""
    return shutil.copytree(sound, tmp_path / "cache")


def findings(folder):
    """Return what the check finds, or the error with which the catalog does not open."""
    try:
        with upkeep_of(folder) as upkeep:
            return upkeep.cache.catalog.damage()
    except (UnavailableError, ConfigurationError) as error:
        return [str(error)]


def test_a_sound_catalog_has_no_findings(folder):
    """There is no false alarm."""
    assert findings(folder) == []


def test_each_overwritten_page_is_found(folder):
    """Each of 29 pages of a catalog is overwritten in turn, and each time the check finds it."""
    catalog = folder / "catalog.sqlite3"
    data = catalog.read_bytes()
    noise = random.Random(1).randbytes(PAGE)
    for page in range(1, 30):
        start = (page - 1) * PAGE
        catalog.write_bytes(data[:start] + noise + data[start + PAGE :])
        for log in folder.glob("catalog.sqlite3-*"):
            log.unlink()
        found = findings(folder)
        assert found, page
        assert all("\n" not in line for line in found)


def test_rows_that_do_not_fit_together_are_found(folder):
    """A URL that does not fit its digest, and a capture without image, are damage, too."""
    with catalog_of(folder) as database:
        database.execute("UPDATE capture SET url = 'http://a.test/other' WHERE id = 7")
        database.execute("DELETE FROM image WHERE rowid = 3")
    found = findings(folder)
    assert "the URL of capture 7 is damaged" in found
    assert "a capture has no image" in found


@pytest.mark.parametrize("change", ["damage", "owner"])
def test_nothing_is_removed_unless_the_catalog_is_whole_and_theirs(folder, change):
    """A damaged catalog, and one of other blobs, would make orphans of sound images."""
    with upkeep_of(folder) as upkeep:
        if change == "damage":
            with catalog_of(folder) as database:
                database.execute("UPDATE capture SET url = 'http://a.test/other' WHERE id = 7")
        else:
            (folder / "blobs" / "cache_id").write_text("0" * 32)
        with pytest.raises(ConfigurationError, match="nothing is removed"):
            upkeep.check_whole()


def test_a_sound_cache_may_be_cleaned(folder):
    """The check before a removal passes."""
    with closing(ImageCache.in_folder(folder)) as cache:
        Upkeep(cache).check_whole()


def take_away(folder, how):
    """Take a catalog away from a process that has it open."""
    catalog = folder / "catalog.sqlite3"
    if how == "removed":
        shutil.rmtree(folder)
    elif how == "replaced":
        with (
            closing(sqlite3.connect(catalog)) as source,
            closing(sqlite3.connect(folder / "copy")) as copy,
        ):
            source.backup(copy)
        (folder / "copy").replace(catalog)
    else:
        folder.rename(folder.with_name("elsewhere"))
        folder.mkdir()


@pytest.mark.parametrize("how", ["removed", "replaced", "moved"])
def test_a_catalog_that_is_taken_away_takes_no_stores(folder, how):
    """A store into a removed file would be lost; the error says to start again."""
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store("http://a.test/before", b"before", "me")
        take_away(folder, how)
        for _ in range(2):
            with pytest.raises(UnavailableError, match=r"removed or replaced.*start"):
                cache.store("http://a.test/after", b"after", "me")
        with pytest.raises(UnavailableError, match="removed or replaced"):
            cache.check()
        with pytest.raises(UnavailableError, match="removed or replaced"):
            cache.delete_orphan("0" * 64)


def test_a_catalog_that_comes_back_takes_stores_again(folder):
    """A folder that was moved away for a moment is the same catalog."""
    with closing(ImageCache.in_folder(folder)) as cache:
        folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(UnavailableError, match="removed or replaced"):
            cache.store("http://a.test/after", b"after", "me")
        folder.with_name("elsewhere").rename(folder)
        assert cache.store("http://a.test/after", b"after", "me")["created"]

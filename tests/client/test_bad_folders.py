"""A crawl's client and a cache that cannot store some of its images."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest

from imgcache_scrapy import (
    AsyncImgCacheClient,
    ImgCacheClient,
    ProtocolError,
    StoreFailedError,
    UnavailableError,
)
from imgcache_scrapy.client import breaker
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.image_url import ImageUrl
from tests.support.bad_folders import block, images_of_folder, one_image_per_folder, unblock
from tests.support.waiting import PATIENCE

CACHE = "the cache"


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch):
    monkeypatch.setattr(breaker, "PROBE_SECONDS", 3600)


@asynccontextmanager
async def crawl_of(folder, counted):
    """Open the client of a crawl with an embedded cache."""
    client = AsyncImgCacheClient(str(folder / "cache"), PATIENCE)
    crawl = ResilientClient(
        client.transport,
        folder / "spool",
        cache_name=CACHE,
        count=counted.append,
        log=lambda *_: None,
    )
    yield crawl
    await crawl.aclose()
    await client.aclose()


@pytest.mark.parametrize("bad", [1, 8])
async def test_a_spool_gets_past_images_that_cannot_be_stored(tmp_path, bad):
    """Of 256 images some cannot be stored: they wait, and the others are stored, also by replay."""
    found = one_image_per_folder()
    bad_folders = sorted(found)[5::32][:bad]
    (tmp_path / "cache" / "blobs").mkdir(parents=True)
    block(tmp_path / "cache", bad_folders)
    counted = []
    async with crawl_of(tmp_path, counted) as crawl:
        stores = (
            crawl.store(ImageUrl.of(f"http://a.test/{n}"), data, "me") for n, data in found.items()
        )
        stored = await asyncio.gather(*stores)
        assert sum(each.is_spooled for each in stored) == bad
    waiting = {each.record.data for each in Spool(tmp_path / "spool").listed()}
    assert waiting == {found[name] for name in bad_folders}
    assert counted == ["error/store_failed"] * 2 * bad

    for data in images_of_folder("00", 30):  # They wait behind those that cannot be stored.
        record = next(Spool(tmp_path / "spool").listed()).record
        Spool(tmp_path / "spool").put(record._replace(url=f"http://a.test/{data!r}", data=data))
    counted.clear()
    async with crawl_of(tmp_path, counted) as crawl:
        await crawl.replay()
        assert counted.count("replayed") == 30
        keys = [f"http://a.test/{name}" for name in found]
        asked = [ImageUrl.of(key) for key in keys]
        assert len((await crawl.lookup_many(asked)).entries) == 256
        unblock(tmp_path / "cache", bad_folders)
    assert list(Spool(tmp_path / "spool").listed()) == []
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        assert len(client.lookup_many(keys)) == 256


def test_a_service_says_that_only_one_image_fails(service):
    """A client of a service gets the error of the one image, and stores another one."""
    bad, good = images_of_folder("00", 1)[0], images_of_folder("01", 1)[0]
    with ImgCacheClient(service.url) as client:
        client.health()
        block(service.folder, ["00"])
        with pytest.raises(StoreFailedError, match="for this image"):
            client.store("http://a.test/bad", bad, "me")
        assert client.store("http://a.test/good", good, "me")["created"]


async def test_a_capture_that_cannot_be_recorded_fails_alone(service):
    """Of 16 images that a service knows and that are claimed together, only this one fails."""
    data = b"GIF89a" + bytes(2**16)
    async with AsyncImgCacheClient(service.url) as client:
        await client.store("http://a.test/", data, "me")
        with closing(sqlite3.connect(service.folder / "catalog.sqlite3")) as catalog:
            catalog.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON capture WHEN new.url LIKE '%/bad' "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        names = [*range(10), "bad", *range(10, 15)]
        stores = (client.store(f"http://a.test/{name}", data, "me") for name in names)
        stored = await asyncio.gather(*stores, return_exceptions=True)
    failed = {
        name: each for name, each in zip(names, stored, strict=True) if not isinstance(each, dict)
    }
    assert list(map(type, failed.values())) == [UnavailableError]
    assert list(failed) == ["bad"]


async def test_a_damaged_row_costs_no_other_image(service):
    """Of 16 images that are looked up together, one with a wrong content type is left out."""
    urls = [f"http://a.test/{number}" for number in range(16)]
    async with AsyncImgCacheClient(service.url) as client:
        await asyncio.gather(*(client.store(url, url.encode(), "me") for url in urls))
        with closing(sqlite3.connect(service.folder / "catalog.sqlite3")) as catalog, catalog:
            damage = "UPDATE image SET content_type = '?' WHERE content_hash = ?"
            catalog.execute(damage, [content_hash_of(urls[5].encode())])
        assert (await client.lookup_many(urls)).keys() == set(urls) - {urls[5]}
        with pytest.raises(ProtocolError, match="content_type"):
            await client.lookup_many([urls[5]])

"""Caches that have something in each list, and everything that they show."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgcache_scrapy import ImgCacheClient, NotFoundError
from imgcache_scrapy.core.audit import Deed
from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.core.failures import SeenFailure
from imgcache_scrapy.core.filters import GROUPS
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.store_request import StoreRequest
from tests.support.pictures import jpeg, picture
from tests.support.programs import catalog_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIES = "http://ties.example/a.png"
VARYING = "http://vary.example/a.png"
LISTS = ("image", "capture", "failure", "blocked", "blocked_source", "audit", "image_use")


def fill(folder: Path, images: int = 10) -> None:
    """Create a cache with histories, ties, buckets, marks, failures, blocks and an audit list.

    Args:
        folder: the folder of the cache.
        images: the number of pictures beside the special ones.
    """
    with ImgCacheClient(str(folder)) as client:
        for seed in range(images):
            bucket = "b" if seed % 3 == 0 else ""
            client.store(f"http://h{seed % 4}.example/{seed}.png", picture(seed), "me", NOON,
                         bucket=bucket)  # fmt: skip
        for seed in (100, 101, 100):
            client.store(TIES, picture(seed), "me", NOON, headers={"ETag": f'"{seed}"'})
        for seed, accept in ((110, "image/avif"), (111, "image/png")):
            client.store(VARYING, picture(seed), "me", headers={"Vary": "Accept"}, accept=accept)
        client.store("http://k.example/a", jpeg(1), "you", key="http://k.example/", filename="ü")
        client.store(
            "http://m.example/a.jpg",
            jpeg(2),
            "you",
            headers={"Imgcache-Converted": "yes"},
            final_url="http://m.example/f.jpg",
        )
        client.store("http://m.example/a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "you")
        client.store("http://gone.example/a.png", picture(120), "me")
        client.delete_captures(host="gone.example", block=True)
        client.block(content_hash_of(picture(0)), reason="a placeholder")
        client.block("f" * 64)
        client.record_uses(
            {
                "content_hash": each["content_hash"],
                "url": each["url"],
                "bucket": each["bucket"],
                "page_url": f"http://pages.example/{number % 3}",
                "position": 1,
                "job": "j",
                "alt": "Ü",
                "meta": {"ü": [1.5, None]},
            }
            for number, each in enumerate(client.list())
        )
    with closing(ImageCache.in_folder(folder)) as cache:
        # One batch, whose captures have the same creation time.
        cache.store_many(
            [
                StoreRequest.of(f"{TIES}?batch", picture(seed), "me", lookup_time=NOON)
                for seed in (130, 131, 130, 131, 130)
            ]
        )
        cache.catalog.remember_failures(
            [SeenFailure(ImageUrl.of(f"http://h.example/{n}"), "http_404", 404, 999) for n in "ab"],
            "b",
        )
        cache.catalog.block_source(Source("url", "http://u.example/"), "ugly")
        with cache.catalog.exclusive([]) as transaction:
            transaction.record_deed(Deed("x", "block", {}))


def add_image_without_capture(folder: Path) -> str:
    """Delete the captures of an image, as a rebuilt catalog lacks them; return its hash."""
    name = content_hash_of(picture(140))
    with ImgCacheClient(str(folder)) as client:
        client.store("http://lost.example/a.png", picture(140), "me")
    with catalog_of(folder) as catalog:
        catalog.execute("DELETE FROM capture WHERE content_hash = ?", (name,))
    return name


def damage(folder: Path, data: bytes) -> str:
    """Change the bytes of an image in the folder of a cache; return its hash."""
    name = content_hash_of(data)
    (folder / "blobs" / blob_key(name)).write_bytes(b"damaged")
    return name


def shown(address: str | Path, token: str | None = None) -> dict[str, Any]:
    """Return everything that a cache shows."""
    with ImgCacheClient(str(address), token=token) as client:
        listed = client.list()
        urls = {entry["url"]: entry["key"] for entry in listed}
        names = sorted({entry["content_hash"] for entry in listed})
        return {
            "list": listed,
            "lookup": {url: client.lookup(url, key=key) for url, key in urls.items()},
            "history": {url: client.history(url, key=key) for url, key in urls.items()},
            "captures": {name: client.captures(name) for name in names},
            "bytes": {name: _bytes_of(client, name) for name in names},
            "blocked": client.blocked(),
            "failures": client.failures(),
            "audit": client.audit(),
            "uses": client.list_uses(),
            "buckets": client.buckets(),
            "stats": [client.stats(), *(client.stats(by) for by in GROUPS)],
            "search": client.search(".example/"),
            "similar": client.similar("0" * 16, 64),
        }


def _bytes_of(client: ImgCacheClient, name: str) -> bytes | None:
    try:
        return client.get_bytes(name)
    except NotFoundError:
        return None


def rows_of(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of a catalog in their order, without the numbers of captures and acts."""
    found = {}
    with catalog_of(folder) as catalog:
        for name in LISTS:
            rows = catalog.execute(f"SELECT * FROM {name} ORDER BY 1")
            first = 1 if name in {"capture", "audit", "image_use"} else 0
            found[name] = [row[first:] for row in rows]
    return found


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

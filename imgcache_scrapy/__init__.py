"""One image cache in front of Scrapy's downloads.

This docstring is the map of the code for its maintainers; `tests/test_map.py` checks its names.

Parts
-----
Each part is a folder, and its `__init__` says what must hold in it.

    plugin/   the Scrapy side: pipelines, middleware, add-on; only this part imports Scrapy
    client/   the clients, the only door to a cache: over HTTP, or to an engine in this process;
              circuit breaker and spool
    engine/   the cache itself, synchronous: catalog/ (tables), blobs/ (bytes), decoding/ (pictures)
    server/   the REST API over an engine, and its page
    cli/      the command `imgcache`
    core/     what every part uses: entries, errors, limits, checks, URLs, keys, formats

Rule: plugin → client → engine → core; server → engine; cli → client, engine, server, and inside of
functions plugin. Every part may import core. `tests/test_architecture.py` checks it.

    spider ────┐
    pipelines ─┼─ flow ── client ──┬─ http ────── server (uvicorn, N processes) ─┐
    middleware ┘ (one per crawl)   └─ embedded ──────────────────────────────────┴─ engine

Journeys of an image
--------------------
A hit, embedded, in `ImgCachePipeline`:

    plugin/media.py:CachedMediaPipeline.process_item       Scrapy: one request for each URL
    plugin/media.py:CachedMediaPipeline._process_request   Scrapy: each URL once in a crawl
    plugin/source.py:ImageSource.result                    instead of Scrapy's download
    plugin/source.py:ImageSource._find_or_fetch            the lock of the key
    plugin/flow.py:Flow.find                               lookup, and bytes if they are needed
    plugin/lookups.py:Lookups.find                         what the cache knows of the URL
    core/concurrency.py:Batcher.ask                        lookups of one moment go together
    client/resilience.py:ResilientClient.lookup_many       within the circuit breaker
    engine/async_cache.py:AsyncImageCache.lookup_many      in a thread, within the limits
    engine/lookup.py:lookup_many                           the blob of each hit is there
    engine/catalog/catalog.py:Catalog.lookup_many          one query
    plugin/pipeline.py:CacheOnlySource.deliver             the entry becomes a result
    plugin/tally.py:Tally.count                            the fate is counted

A miss goes on after `Flow.find`:

    plugin/reservation.py:Reservation.acquire_slot         memory for the body, before the download
    plugin/fetch.py:Fetch.run                              asks the site, as for a stale hit
    plugin/source.py:ImageSource._fetch                    Scrapy downloads it
    plugin/flow.py:Flow.keep                               may the cache keep it?
    client/admission.py:Admission.refusal                  is it an image, and whole?
    core/admission.py:refusal                              is it an image? by its first bytes
    core/completeness.py:is_in_doubt                       is it whole? by its structure
    engine/decoding/frames.py:FrameDecoder.is_cut          in doubt, a child decodes every frame
    plugin/outcome.py:refusal_error                        the reason if it is refused
    client/resilience.py:ResilientClient.store             within the circuit breaker
    engine/async_cache.py:AsyncImageCache.store            stores of one moment go together
    engine/storing.py:store_many                           decode, blobs, rows
    engine/decoding/decoders.py:Decoders.decode_quick      size and perceptual hash, by a child
    engine/blobs/files.py:FileBlobs.put_many               durable bytes
    engine/catalog/transaction.py:WriteTransaction.record  durable rows

A stale hit goes on after `Flow.find`, too: the site is asked whether the image has changed.

    core/freshness.py:FreshnessRules.must_ask              is the capture too old?
    plugin/fetch.py:Fetch.run                              asks, and asks again if it must
    plugin/conditional.py:add_validators                   If-None-Match, If-Modified-Since
    plugin/fetch.py:Fetch.outcome                          304, the same bytes, others, or trouble
    plugin/fetch.py:Fetch._renew                           a 304: the capture is renewed
    plugin/fetch.py:Fetch.fallback                         trouble: the stale image is delivered

A hit over a service leaves the first journey after `ResilientClient.lookup_many`:

    client/http.py:HttpTransport.lookup_many               POST /images/lookup
    server/origins.py:OriginMiddleware.__call__            no page of another site sent it
    server/tokens.py:TokenMiddleware.__call__              the token
    server/guard.py:BodyLimitMiddleware.__call__           bounds on the body
    server/lookups.py:add_lookups                          the route
    engine/async_cache.py:AsyncImageCache.lookup_many      as above
    client/answers.py:entries_by_key                       the answer is checked

An outage, the spool, and the replay:

    client/breaker.py:Breaker.call                         three failures open it: no calls
    client/resilience.py:ResilientClient.store             the cache does not take the image
    client/spool.py:Spool.put                              so a file keeps it
    client/spool_index.py:SpoolIndex.find                  until then, its URL is a hit
    client/breaker.py:Breaker._probe_until_closed          every 5 s: does the cache work again?
    client/resilience.py:ResilientClient.replay            then, and at both ends of each crawl
    client/replay.py:replay                                a record is stored, then removed

The use of an image by an item, if `IMGCACHE_PROVENANCE` is set:

    plugin/item_results.py:ItemResults.found               the requests of the item, with results
    plugin/uses.py:UseNotes.note                           what the fields of the item say
    client/use_recorder.py:UseRecorder.add                 batches, beside the crawl
    engine/async_uses.py:AsyncImageUses.record_uses        in a thread
    engine/catalog/image_uses.py:ImageUses.record_uses     a new row, or the last one renewed

Decisions
---------
- Lookups and stores are batched without a timer: what arrives while a call runs goes together in
  the next one. One thread hop and one query serve many images.
- The memory slot is taken before the download and released after every outcome: media downloads
  bypass CONCURRENT_REQUESTS, and bodies would pile up.
- A picture is refused as cut off only if its structure leaves a doubt and a decoder then finds an
  error: what Content-Length and framing say decides nothing.
- Decoding runs in child programs with limits on memory and time: a picture that kills its decoder
  costs only its own size and hash, and the event loop keeps the interpreter lock. No store waits
  for a slow picture: it is decoded later.
- Nothing of a process outlives a fork: SQLite takes the locks of its parent for its own.
- A client of a service sends the hash of a large image first, as a claim, and its bytes only if the
  service does not have them. One claim is also enough where a site says that nothing has changed.
- A client checks each answer against the question, and bounds its size before it reads it.
- The engine is synchronous, once. Threads wait for it in `engine/async_cache.py`; the blocking
  client is derived from the awaited one in `client/blocking.py`. A method is written once per
  layer that adds something: catalog, async cache, transport, HTTP transport, route, client.
- SQLAlchemy Core, one schema for SQLite (WAL, `synchronous=FULL`, `BEGIN IMMEDIATE`) and
  PostgreSQL; Alembic upgrades it. A URL is indexed by a digest of its key, because PostgreSQL
  refuses index rows over 2,704 bytes.
- Files are written by ourselves, because obstore never syncs them; object stores by obstore.
- Thumbnails are made when they are first asked for, by children of low priority, and kept beside
  the blobs in 256 folders, each with its part of the bound: no table, and only one folder is listed
  to find the oldest.
- A session of a browser is a cookie, signed with a key that is derived from the token: no table,
  and all processes agree.
- Similarity is multi-index hashing in SQL: exact, and no index to rebuild.
- The same use in the next job renews its row, so that daily crawls add no rows. The same use is
  one of the same image, bucket, key, page, item, spider and place.
- A pipeline that cannot work stops the crawl with one sentence, because items would leave without
  images. The middleware switches itself off, which costs no image.

Invariants
----------
1. A blob is durable before its row, a row before the answer; a row is gone before its blob.
2. A blob's name is the hash of its bytes, and every reader checks it. A damaged image is a miss
   until the next store repairs it. In an outage of the storage no image is marked as damaged.
3. Known bytes under a new key record the URL; under the same key they renew its newest capture.
4. Bytes come back exactly as they came in.
5. Trouble with the cache never costs an item an image, and never stops a crawl. What is wrong for
   good and known at the start, a refused token or host name, stops it there with one sentence.
6. What is reported as stored is stored, before the item leaves the pipeline.
7. Similarity only suggests; bytes decide identity.
8. The event loop never waits for Pillow, a database or a disk.
9. Memory is bounded, however long the crawl.
10. No decision is in a file that does I/O if a pure function can hold it.
11. Every later version opens the catalog of every released version, and loses nothing.

Glossary
--------
    image      distinct bytes, named by their content hash
    capture    one observation: this URL gave this image then
    entry      what travels: an image seen through one capture
    cache key  what `lookup` compares; computed from the URL, which itself is never altered
    blob       the bytes of an image in the storage
    catalog    the tables of images and captures
    bucket     a name space of captures; blobs are shared between buckets
    fate       what became of a URL in a crawl: hit, stored, duplicate, revalidated,
               spooled, rejected, failed
    use        an image in an item on a page: which spider and job saw it there, and where
    spool      a folder of images, each of which waits until its cache takes it
    transport  how a client calls a cache: HTTP, or an engine in this process
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcache_scrapy.client.client import AsyncImgCacheClient, ImgCacheClient
    from imgcache_scrapy.core.entry import Entry
    from imgcache_scrapy.core.errors import (
        BlockedError,
        ConfigurationError,
        CountChangedError,
        FetchError,
        HostError,
        ImgCacheError,
        InvalidRequestError,
        NotFoundError,
        ProtocolError,
        ReadOnlyError,
        StoreFailedError,
        TooLargeError,
        UnauthorizedError,
        UnavailableError,
    )
    from imgcache_scrapy.plugin.addon import Addon
    from imgcache_scrapy.plugin.drop_ins import ImgCacheFilesPipeline, ImgCacheImagesPipeline
    from imgcache_scrapy.plugin.middleware import ImgCacheMiddleware
    from imgcache_scrapy.plugin.pipeline import ImgCachePipeline
    from imgcache_scrapy.plugin.session import get_client

__all__ = [
    "Addon",
    "AsyncImgCacheClient",
    "BlockedError",
    "ConfigurationError",
    "CountChangedError",
    "Entry",
    "FetchError",
    "HostError",
    "ImgCacheClient",
    "ImgCacheError",
    "ImgCacheFilesPipeline",
    "ImgCacheImagesPipeline",
    "ImgCacheMiddleware",
    "ImgCachePipeline",
    "InvalidRequestError",
    "NotFoundError",
    "ProtocolError",
    "ReadOnlyError",
    "StoreFailedError",
    "TooLargeError",
    "UnauthorizedError",
    "UnavailableError",
    "get_client",
]

_HOMES = {
    "plugin.addon": ["Addon"],
    "client.client": ["AsyncImgCacheClient", "ImgCacheClient"],
    "plugin.session": ["get_client"],
    "core.entry": ["Entry"],
    "core.errors": [name for name in __all__ if name.endswith("Error")],
    "plugin.middleware": ["ImgCacheMiddleware"],
    "plugin.pipeline": ["ImgCachePipeline"],
    "plugin.drop_ins": ["ImgCacheFilesPipeline", "ImgCacheImagesPipeline"],
}


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first asked for, so that importing is cheap."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

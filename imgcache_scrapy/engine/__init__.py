"""The cache itself: it stores each image once, with all URLs that led to it, and finds look-alikes.

`cache.py` has the rules, `async_cache.py` makes them callable from an event loop, `threads.py` has
the threads for that, `pairing.py` checks that the catalog and the blobs belong together, and
`upkeep.py` checks and cleans a cache.
`late_decoding.py` decodes the pictures for which no store waited.
`lookup.py` looks whether the blobs of hits are there, and `lost.py` finds those that are lost.
`copying.py` copies a cache, with the bytes that `carrying.py` brings.
The tables are in `catalog/`, the bytes in `blobs/`, and `decoding/` reads the pictures.

These invariants must always hold. The order of the steps in `cache.py` follows from them:

1. A blob is durable before its row is committed, and the row is durable before the call returns.
   When an image is deleted, its row is removed before its blob. Nobody writes a blob while
   somebody else deletes it. A crash leaves at most orphans, which `upkeep.py` finds and removes.
2. The name of a blob is the hash of its bytes, and every reader checks it. A reader that finds a
   bad blob marks the image as damaged. A damaged image is a miss everywhere, and the next store of
   its bytes repairs it. A reader first checks that the storage works: in an outage every blob
   seems bad, and none is marked.
3. A store of known bytes under a new URL records the new URL. A store of known bytes under the
   same URL renews its newest capture. A claim does the same without the bytes; whether their blob
   is there is looked up inside of the write transaction. No capture is newer than the cache's
   clock.
4. The bytes that are returned are exactly the bytes that were stored.
5. Look-alikes are only suggestions. Two images are the same only if their bytes are equal.
6. A catalog works only with the blobs of its own cache. Every later version can open the catalog,
   and loses nothing of it.
"""

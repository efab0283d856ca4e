"""The blobs: the bytes of every image under its content hash, in a folder or an object store.

`store.py` is the contract, `files.py` and `objects.py` implement it, `opening.py` chooses one by
its URL. A blob is durable when `put` returns, is never seen half written, and may be written again
at any time; its name is the hash of its bytes, which the reader checks. Nothing here knows of
captures, URLs or the catalog.
"""

"""The blobs: the bytes of each image under its content hash, in a folder or an object store.

`store.py` has the protocol of all blob stores, `files.py` and `objects.py` implement it,
`opening.py` chooses one of them by its URL, `regular_files.py` expects anything in place of a file,
and `states.py` says what is wrong with a blob. What must hold: a blob is durable when `put`
returns. A blob that cannot be written costs no other one. Nobody can read a blob that is only
partly written. A blob may be written again at any time. Its name is the hash of its bytes; the
caller that reads it checks the hash. Nothing in this folder knows captures, URLs of images, or the
catalog.
"""

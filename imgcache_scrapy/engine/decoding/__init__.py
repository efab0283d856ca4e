"""Decoding: child processes find the size and the perceptual hash of each picture.

`decoder.py` runs in the process of the cache and sends pictures over pipes to `child.py`, the
program of the child processes; `decoders.py` has the children of a cache. `signatures.py` tells
what needs no child, because it is not in a decoded format. `limits.py` has the limits of a child,
`messages.py` the format of the messages, `orientation.py` turns a picture, and `phash.py` computes
the hash. `one_picture.py` is for a picture that a client compares. Another child decodes every
frame of a picture that may be cut off, for `client/admission.py`. `thumbnails.py` has children of
its own, which make thumbnails by `shrinking.py`. What must hold: a hostile or broken picture loses
at most its own size and hash. It does not stop the crawl, hold the interpreter lock, or prevent the
decoding of other pictures.
The process of the cache imports neither Pillow nor NumPy. A picture that cannot be decoded gets the
reason, a `DecodeError`. A picture that takes long, or that was not decoded for another reason, gets
none: it counts as not decoded yet, and `late_decoding.py` in the folder above tries it again.
"""

"""Decoding: the size and the perceptual hash of a picture, found by a program of its own.

`decoder.py` runs in the cache's process and sends pictures to `child.py`, the program, over pipes;
`messages.py` is what they say to each other, `phash.py` computes the hash. Whatever a picture is
made of, it must cost no more than its own size and hash: not the crawl, not the interpreter lock,
not another picture's turn. The cache's process imports neither Pillow nor NumPy. A picture that
cannot be decoded has the reason, a `DecodeError`; where something else was in the way it has none,
and is just not decoded yet.
"""

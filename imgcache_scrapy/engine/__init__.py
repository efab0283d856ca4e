"""The cache itself: images by content, every URL that led to them, and their look-alikes.

What must hold, whatever happens (the order of the steps in `cache.py` follows from it):

1. A blob is durable before its row, the row is durable before the answer; a row is gone before
   its blob. Putting and unlinking one blob exclude each other. A crash leaves at worst orphans,
   which `upkeep.py` finds and removes.
2. A blob's name is the hash of its bytes, checked by whoever reads them. A reader that meets a
   bad blob marks the image damaged; a damaged image is a miss everywhere, and the next store of
   its bytes heals it.
3. Storing known bytes under a new URL records the new URL; under the same URL it renews the
   newest capture.
4. Bytes come back exactly as they came in.
5. Look-alikes are only suggested; bytes decide identity.
6. A catalog works with the blobs of its own cache alone (`pairing.py`), and each later version
   opens it without losing anything.
"""

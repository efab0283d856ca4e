"""The limits of the API, each defined once: client, engine and service obey the same ones."""

HASH_PATTERN = r"^[0-9a-f]{64}$"
"""A content hash: BLAKE2b-256, 64 hex digits."""
PERCEPTUAL_HASH_BITS = 64
PERCEPTUAL_HASH_PATTERN = r"^[0-9a-f]{16}$"
"""A perceptual hash: 64 bits, 16 hex digits."""

MAX_IMAGE_BYTES = 100 * 2**20
"""Larger images are refused."""
MAX_URL_BYTES = 64 * 2**10
"""Longer URLs are refused."""
MAX_FILENAME = 255
"""Characters of a file name, as in most file systems; longer ones are cut."""
MAX_TEXT = 4096
"""Characters of a client's name, of a bucket, of a part of a URL; longer ones are refused."""
MAX_LIMIT = 2**31 - 1
"""The largest `limit` of a list."""
MAX_BATCH_URLS = 1000
"""URLs in one call of `lookup_many`."""
MAX_BATCH_BYTES = 2**22
"""Bytes of JSON in one request: while they are read, no other request is answered."""

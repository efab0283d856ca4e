"""BoundedBody: collects the parts of a body, decompresses them, and stays within a limit."""

import zlib

from imgcache_scrapy.core.errors import ProtocolError, TooLargeError

# zlib recognises the headers of gzip and zlib by itself; some servers send neither of them.
_ANY_HEADER = 32 + zlib.MAX_WBITS
_NO_HEADER = -zlib.MAX_WBITS
_ZLIB_METHOD = 8
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})


class BoundedBody:
    """Collects a body.

    Args:
        encoding: the header Content-Encoding of the response; empty for none.
        max_bytes: the size of the largest body, decompressed.

    Raises:
        ProtocolError: the encoding is not known.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in _ENCODINGS | {"", "identity"}:
            raise ProtocolError(f"the encoding {self._encoding!r:.40} of the content is not known")
        self._is_compressed = self._encoding in _ENCODINGS
        self._decompressor: zlib._Decompress | None = None
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        """Add the next part of the body, as it was received.

        Raises:
            TooLargeError: the body is larger than the limit.
            ProtocolError: the part cannot be decompressed.
        """
        if self._is_compressed and part:
            part = self._decompress(part)
        self._size += len(part)
        if self._size > self._max_bytes:
            raise TooLargeError(f"the content is larger than {self._max_bytes} bytes")
        self._parts.append(part)

    @property
    def is_whole(self) -> bool:
        """Whether the compressed data have their end; True for a body that is not compressed."""
        return self._decompressor is None or self._decompressor.eof

    def joined(self) -> bytes:
        """Return the whole body."""
        return b"".join(self._parts)

    def _decompress(self, part: bytes) -> bytes:
        if self._decompressor is None:
            is_raw = self._encoding == "deflate" and part[0] & 15 != _ZLIB_METHOD
            self._decompressor = zlib.decompressobj(_NO_HEADER if is_raw else _ANY_HEADER)
        try:
            # One byte more than allowed shows that the body is too large.
            return self._decompressor.decompress(part, self._max_bytes - self._size + 1)
        except zlib.error as error:
            raise ProtocolError("the content cannot be decompressed") from error

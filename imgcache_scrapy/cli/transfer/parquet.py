"""Parquet: tables with the bytes of each image and its facts, as Hugging Face datasets has them."""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imgcache_scrapy.cli.transfer.pictures import Picture
from imgcache_scrapy.cli.transfer.shards import file_name

_NUMBERS = ("file_size_bytes", "width", "height")
_TEXTS = (
    *("file_name", "url", "content_hash", "content_type", "perceptual_hash"),
    *("original_filename", "client_name", "bucket", "lookup_time", "captures"),
    *("page_url", "alt", "caption", "uses"),
)
_FEATURES = {
    "image": {"_type": "Image"},
    **{name: {"dtype": "string", "_type": "Value"} for name in _TEXTS},
    **{name: {"dtype": "int64", "_type": "Value"} for name in _NUMBERS},
}
_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.int64()) for name in _NUMBERS),
    ]
)
_DIGEST = b"imgcache"


class ParquetFormat:
    """The format of `parquet`: the column `image` is a struct of `bytes` and `path`."""

    suffix = ".parquet"

    def open(self, path: Path, digest: str) -> "ParquetTable":
        """Begin a file, which keeps the digest."""
        return ParquetTable(path, digest)

    def is_complete(self, path: Path, digest: str, count: int) -> bool:
        """Return whether a file has this digest and all its pictures."""
        try:
            metadata = pq.read_metadata(path)
        except (OSError, pa.ArrowException):
            return False
        kept = (metadata.metadata or {}).get(_DIGEST)
        return kept == digest.encode() and metadata.num_rows == count


class ParquetTable:
    """Writes one Parquet file.

    Args:
        path: the file.
        digest: what the file keeps.
    """

    def __init__(self, path: Path, digest: str) -> None:
        features = json.dumps({"info": {"features": _FEATURES}})
        metadata = {b"huggingface": features.encode(), _DIGEST: digest.encode()}
        self._schema = _SCHEMA.with_metadata(metadata)
        # Pictures are compressed already.
        self._writer = pq.ParquetWriter(path, self._schema, compression="none")

    def add(self, pictures: Iterable[tuple[Picture, bytes]]) -> None:
        """Add pictures."""
        rows = []
        for picture, data in pictures:
            name = file_name(picture)
            rows.append({"image": {"bytes": data, "path": name}, **picture.facts(name)})
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()

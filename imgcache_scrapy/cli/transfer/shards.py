"""Shards: divide pictures into files of a bounded size; each shard is written as a whole."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from imgcache_scrapy.cli.transfer.naming import extension_of
from imgcache_scrapy.cli.transfer.pictures import Picture
from imgcache_scrapy.core.batches import batches_by_size

DEFAULT_BYTES = 500_000_000
"""The size of a shard."""

# The facts of the pictures of a shard are in memory.
_MAX_PICTURES = 10_000


class ShardWriter(Protocol):
    """Writes one shard."""

    def add(self, pictures: Iterable[tuple[Picture, bytes]]) -> None:
        """Add pictures."""

    def close(self) -> None:
        """Complete the file."""


class ShardFormat(Protocol):
    """A format of shards.

    Attributes:
        suffix: the suffix of the files.
    """

    suffix: str

    def open(self, path: Path, digest: str) -> ShardWriter:
        """Begin a file, which keeps the digest."""

    def is_complete(self, path: Path, digest: str, count: int) -> bool:
        """Return whether a file has this digest and all its pictures."""


def shards_of(pictures: Iterable[Picture], max_bytes: int) -> Iterator[list[Picture]]:
    """Divide pictures into shards.

    Args:
        pictures: the pictures.
        max_bytes: the most bytes of a shard; one with a single picture may have more.
    """
    return batches_by_size(pictures, _size_in_shard, max_bytes, _MAX_PICTURES)


def _size_in_shard(picture: Picture) -> int:
    return picture.size + len(json.dumps(picture.facts(file_name(picture)))) + 2048


def digest_of(shard: Iterable[Picture]) -> str:
    """Return a digest of what a shard has."""
    digest = hashlib.blake2b(digest_size=16)
    for picture in shard:
        digest.update(json.dumps(picture.facts(file_name(picture))).encode())
    return digest.hexdigest()


def file_name(picture: Picture) -> str:
    """Return the name of a picture in a shard."""
    return f"{picture.content_hash}.{extension_of(picture.first)}"


def shard_path(folder: Path, split: str, number: int, suffix: str) -> Path:
    """Return the path of a shard."""
    return folder / f"{split or 'data'}-{number:06}{suffix}"


def left_shards(folder: Path, split: str, count: int, suffix: str) -> list[str]:
    """Return the shards of an earlier export that had more of them."""
    found = folder.glob(f"{split or 'data'}-[0-9][0-9][0-9][0-9][0-9][0-9]{suffix}")
    last = shard_path(folder, split, count, suffix).name
    return sorted(path.name for path in found if path.name >= last)

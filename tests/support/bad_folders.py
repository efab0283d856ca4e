"""Folders of blobs that cannot be written, for any user, and images that belong into them."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from imgcache_scrapy.core.entry import content_hash_of


def one_image_per_folder() -> dict[str, bytes]:
    """Return bytes for each of the 256 folders, by the name of the folder."""
    found: dict[str, bytes] = {}
    for data in _numbered():
        found.setdefault(content_hash_of(data)[:2], data)
        if len(found) == 256:
            return found
    raise AssertionError


def images_of_folder(folder: str, number: int) -> list[bytes]:
    """Return bytes of some images whose blobs are in one folder."""
    found = (data for data in _numbered() if content_hash_of(data)[:2] == folder)
    return [next(found) for _ in range(number)]


def block(cache: Path, folders: list[str]) -> None:
    """Put files in the place of folders of blobs, which stops even root."""
    for folder in folders:
        (cache / "blobs" / folder).write_bytes(b"in the way")


def unblock(cache: Path, folders: list[str]) -> None:
    """Remove the files that `block` has written."""
    for folder in folders:
        (cache / "blobs" / folder).unlink()


def _numbered() -> Iterator[bytes]:
    return (b"image %d" % number for number in count())

"""WebDataset: tar files, in which the files of one sample have the same stem."""

import json
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from imgcache_scrapy.cli.transfer.pictures import Picture
from imgcache_scrapy.cli.transfer.shards import file_name

_FILES_OF_A_SAMPLE = 2


class TarFormat:
    """The format of `webdataset`: for each image its file, and a .json with its facts."""

    suffix = ".tar"

    def open(self, path: Path, digest: str) -> "TarWriter":
        """Begin a file, which keeps the digest."""
        return TarWriter(path, digest)

    def is_complete(self, path: Path, digest: str, count: int) -> bool:
        """Return whether a file has this digest and all its pictures."""
        try:
            with tarfile.open(path) as tar:
                names = tar.getnames()
                return (
                    tar.pax_headers.get("comment") == digest
                    and len(names) == _FILES_OF_A_SAMPLE * count
                )
        except (OSError, tarfile.TarError):
            return False


class TarWriter:
    """Writes one tar file.

    Args:
        path: the file.
        digest: what the file keeps.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `close`
            path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": digest}
        )

    def add(self, pictures: Iterable[tuple[Picture, bytes]]) -> None:
        """Add pictures."""
        for picture, data in pictures:
            name = file_name(picture)
            self._add(name, data)
            facts = json.dumps(picture.facts(name)).encode()
            self._add(f"{picture.content_hash}.json", facts)

    def close(self) -> None:
        """Complete the file."""
        self._tar.close()

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, BytesIO(data))

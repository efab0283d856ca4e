"""Drop-ins whose disk is full while the working folder has a file `full`."""

import errno
from pathlib import Path

from scrapy.pipelines.files import FSFilesStore

from imgcache_scrapy import ImgCacheFilesPipeline, ImgCacheImagesPipeline


class FullStore(FSFilesStore):
    """A folder on a disk that becomes full in the middle of a file."""

    def persist_file(self, path, buf, info, meta=None, headers=None):
        super().persist_file(path, buf, info, meta, headers)
        if Path("full").exists() and Path("full").read_text() in path:
            Path(self.basedir, path).write_bytes(buf.getvalue()[:10])
            raise OSError(errno.ENOSPC, "No space left on device")


class FullFiles(ImgCacheFilesPipeline):
    """The drop-in for files on such a disk."""

    STORE_SCHEMES = ImgCacheFilesPipeline.STORE_SCHEMES | {"": FullStore}


class FullImages(ImgCacheImagesPipeline):
    """The drop-in for images on such a disk."""

    STORE_SCHEMES = ImgCacheImagesPipeline.STORE_SCHEMES | {"": FullStore}

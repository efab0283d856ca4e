"""TakeDownMethods: the methods of a client that delete images, and that list such acts."""

import getpass
import socket
from datetime import datetime
from functools import cache
from typing import Unpack

from imgcache_scrapy.client.base import ClientBase
from imgcache_scrapy.core.audit import AuditEntry
from imgcache_scrapy.core.checks import checked_hash, checked_key, checked_limit
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.selection import Selection


class TakeDownMethods(ClientBase):
    """The methods of `AsyncImgCacheClient` that delete, and the audit list."""

    async def delete(self, content_hash: str, *, bucket: str | None = None) -> None:
        """Delete an image's captures in this bucket; after its last capture, delete the image.

        Raises:
            NotFoundError: this bucket has no capture of the image.
        """
        where = self._bucket_or_own(bucket)
        await self.transport.delete(checked_hash(content_hash), where, actor())

    async def delete_captures(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        before: datetime | str | None = None,
        all_captures: bool = False,
        dry_run: bool = False,
        block: bool = False,
        expected: int | None = None,
        **filters: Unpack[Filters],
    ) -> dict[str, int]:
        """Delete the captures that meet all filters; with the last capture of an image, its bytes.

        Captures of the same bytes that do not meet the filters stay, with the bytes. Others can
        look up and store meanwhile. If it is interrupted, the next call completes it. Images that
        wait in the spool of a project stay there: the command `imgcache rm` deletes them, too.

        Args:
            url: the URL; captures are compared by its key, as in `lookup`.
            key: the cache key of the URL, or a key alone; default `cache_key(url)`.
            before: the time before which the images were fetched; the same as the filter `until`.
            all_captures: whether to delete all captures (of the client's bucket) if there is no
                filter.
            dry_run: whether to count only.
            block: whether to block the host or the URL, if there is no other filter than it and a
                bucket: crawls do not ask it any more. Otherwise, the images whose last capture is
                deleted are blocked.
            expected: refuse to delete another number of captures than this; None for any number.
            filters: further conditions; see `Filters`.

        Returns:
            The number of deleted `captures`, and the number and bytes of deleted `images`.

        Raises:
            InvalidRequestError: there is no filter, or an empty one; only the bucket may be "".
            CountChangedError: there is another number of captures than `expected`.
            ReadOnlyError: the cache can only be read.
        """
        selection = Selection.of(
            filters,
            self._url_of(url, key),
            before=before,
            all_captures=all_captures,
            bucket=self._bucket or None,
        )
        return await self.transport.delete_captures(
            selection, actor=actor(), expected=expected, dry_run=dry_run, block=block
        )

    def _url_of(self, url: str | None, key: str | None) -> ImageUrl | None:
        if url is None:
            return None if key is None else ImageUrl(key, checked_key(key), (key,))
        return self._image_url(url, key)

    async def audit(self, *, limit: int | None = None) -> list[AuditEntry]:
        """Return what was taken down, deleted, blocked and unblocked by hand, newest first.

        Args:
            limit: maximum number of acts.

        Returns:
            The acts; see `AuditEntry`.
        """
        return (await self.transport.audit(checked_limit(limit)))[:limit]


@cache
def actor() -> str:
    """Return who makes the calls of this process, for the audit list: `user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # A container may have no name for its user.
        user = "unknown"
    return f"{user}@{socket.gethostname()}".encode("ascii", "replace").decode()

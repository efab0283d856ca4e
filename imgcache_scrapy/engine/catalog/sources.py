"""Find blocked hosts and URLs in their table."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.engine.catalog.paging import MAX_VALUES
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.catalog.tables import blocked_source as _blocked

_among = sa.select(_blocked.c.digest).where(
    _blocked.c.digest.in_(sa.bindparam("digests", expanding=True))
)


def find_blocked_sources(connection: Connection, sources: Collection[Source]) -> set[Source]:
    """Return which of these hosts and URLs are blocked."""
    by_digest = {digest_of(each): each for each in sources}
    found: set[Source] = set()
    for digests in batches(by_digest, MAX_VALUES):
        rows = connection.scalars(_among, {"digests": digests})
        found |= {by_digest[bytes(each)] for each in rows}
    return found


def digest_of(source: Source) -> bytes:
    """Return the digest of a host or a URL, which is its key in the table."""
    # Neither a host nor a key has a NUL character.
    return digest("\0".join(source))

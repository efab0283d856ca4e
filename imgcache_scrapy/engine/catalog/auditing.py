"""Write acts into the audit list."""

import json

from sqlalchemy.engine import Connection

from imgcache_scrapy.core.audit import NOTHING, Counts, Deed
from imgcache_scrapy.engine.catalog.rows import now
from imgcache_scrapy.engine.catalog.tables import audit as _audit

_insert = _audit.insert()


def record(connection: Connection, deed: Deed, counts: Counts = NOTHING) -> None:
    """Write an act into the audit list, in the transaction of the act itself.

    Args:
        connection: in the transaction.
        deed: the act.
        counts: what it deleted.
    """
    row = {
        "done_at": now(),
        "actor": deed.actor,
        "act": deed.act,
        "filter": json.dumps(deed.filter),
        **counts._asdict(),
    }
    connection.execute(_insert, row)

"""The catalog: the tables of images and captures, in SQLite or PostgreSQL.

`tables.py` has the schema, `migrations/` creates and upgrades it, and `schema.py` decides when the
catalog is opened whether that is needed. The class in `catalog.py` has all queries: a file for each
subject adds some, such as `history.py`, `listing.py` or `blocked.py`. `transaction.py` has the
write transaction, and `filling.py` gives old captures their keys. `database.py`, `functions.py` and
`url_index.py` hide the differences between the two databases; a query that differs elsewhere does
so only to be fast, or to take few locks. `whole_rows.py`, `capture_changes.py` and `merging.py`
copy the rows of one catalog into another one. `sqlite.py`, `integrity.py`, `restoring.py` and
`exchange.py` are for SQLite only: how its file is opened, whether it is whole, and how it is made
anew.

What must hold: a write transaction first checks that the schema is still the one that this version
knows. Until it ends, no other transaction changes its images, and when it has ended, it is durable.
In SQLite, readers never wait for writers. Every query gives the same answer on both databases.
Nothing in this folder knows where the bytes are.
"""

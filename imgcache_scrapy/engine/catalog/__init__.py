"""The catalog: images and captures, in tables of SQLite or PostgreSQL.

`tables.py` is the schema, `migrations/` makes and upgrades it, `schema.py` decides on opening
whether that is needed; `catalog.py` and `search.py` have the queries, `transaction.py` the write transaction, and
`database.py` and `functions.py` all in which the two databases differ. A write transaction first makes sure that the
schema is still the one that this version knows; it has its images to itself until it ends, and is
durable when it has ended. Readers wait for no writer in SQLite, and every query gives the same
answer on both databases. Nothing here knows where the bytes are.
"""

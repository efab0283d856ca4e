"""One file for each schema, `schema_NNNN.py`: the upgrade from the schema before it."""

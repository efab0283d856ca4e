"""One file for each schema, `schema_NNNN.py`, with the steps from the one before it."""

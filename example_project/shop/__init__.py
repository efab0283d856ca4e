"""A shop whose pictures are worth fetching once."""

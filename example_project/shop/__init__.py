"""An example project: a small shop whose pictures are downloaded only once."""

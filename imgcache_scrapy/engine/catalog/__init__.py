"""The catalog: the tables of images and captures, in SQLite or PostgreSQL."""

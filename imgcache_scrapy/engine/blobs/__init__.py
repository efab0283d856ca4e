"""The blobs: images' bytes by their hash, in files or in an object store."""

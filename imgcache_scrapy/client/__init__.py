"""The client, the only door to a cache: over HTTP, or to an engine in this process."""

"""The cache as a service: its REST API, and how it is started."""

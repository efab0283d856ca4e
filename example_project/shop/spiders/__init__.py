"""The spiders: one for the pipeline, one for the middleware, one for the client."""

"""The service: the REST API of a cache, as an ASGI app for uvicorn.

`app.py` has the app of a service process, `lookups.py` the routes that answer with entries, and
`images.py` those of the bytes. `parameters.py` has the types of their parameters, `uploads.py`
reads the images that clients send, and `ranges.py` decides which part of an image a request gets.
`origins.py` refuses requests that pages of other sites make a browser send. `tokens.py` checks the
token, or the cookie of a browser, which `sessions.py` signs; `throttle.py` slows down those who
guess the token. `guard.py` limits the bodies of requests before they reach a route; `protocol.py`
limits slow connections. `problems.py` turns errors into answers, `metrics.py` counts for
Prometheus, in files that `metric_files.py` looks after, `orphans.py` ends workers without a parent,
`docs.py` describes the API to people, and `schemas.py` has the schema of an entry.

What must hold: only `/health`, the page to sign in and signed links answer without the token. A
cookie is good for pages and for reading images only. No page of another site can use the service
through a browser, except that it may show what `/serve/` returns. Every error is answered
as problem+json with a sentence that contains no secret and no traceback. The memory and the time
that a client can take are limited, whatever it sends. A service process is stateless: everything is
in the engine.
"""

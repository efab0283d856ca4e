"""Hooks for schemathesis: which requests it must not send, and where it records the answers."""

import os
from pathlib import Path
from urllib.parse import urlencode

import schemathesis

# uvicorn's parser refuses longer URLs before they reach the app.
MAX_QUERY_LENGTH = 60_000


@schemathesis.hook
def filter_query(context, query):
    """Return whether the query is short enough for uvicorn."""
    return not isinstance(query, dict) or len(urlencode(query, doseq=True)) < MAX_QUERY_LENGTH


@schemathesis.hook
def after_call(context, case, response):
    """Record the method, the route and the status of an answer."""
    with Path(os.environ["ANSWERS"]).open("a") as answers:
        answers.write(f"{case.method} {case.path} {response.status_code}\n")

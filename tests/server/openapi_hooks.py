"""Hooks for schemathesis: where it records the answers."""

import os
import re
from pathlib import Path

import httpx
import schemathesis

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.limits import HASH_PATTERN
from tests.support.pictures import picture
from tests.support.waiting import PATIENCE


@schemathesis.hook
def after_call(context, case, response):
    """Record the method, the route and the status of an answer."""
    with Path(os.environ["ANSWERS"]).open("a") as answers:
        answers.write(f"{case.method} {case.path} {response.status_code}\n")
    if (case.method, case.path) == ("POST", "/images") and response.status_code in {200, 201}:
        entry = response.json()
        stored.extend([entry["content_hash"]] * (entry["bucket"] == ""))


@schemathesis.hook
def filter_query(context, query):
    """Leave out lists with empty objects, which vanish from the query, so that it is valid."""
    keys = query.get("key") if isinstance(query, dict) else None
    return not (isinstance(keys, list) and {} in keys)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Name images that are in the cache."""
    place = PLACES.get((case.method, case.path))
    fields = getattr(case, place) if place else None
    named = fields.get("content_hash") if isinstance(fields, dict) else None
    if re.fullmatch(HASH_PATTERN, str(named)):
        if case.path.startswith("/thumbnails/"):
            fields["content_hash"] = store_picture()
        elif stored:
            fields["content_hash"] = stored[-1]


def store_picture():
    """Store a picture that can be decoded, which no schema can describe; return its hash."""
    data = picture()
    httpx.post(
        f"{os.environ['SERVICE']}/images",
        data={"url": "http://h.example/picture", "client_name": "me"},
        files={"file": ("f", data)},
        timeout=PATIENCE,
    )
    return content_hash_of(data)


stored = []
PLACES = {
    ("GET", "/thumbnails/{content_hash}"): "path_parameters",
    ("HEAD", "/thumbnails/{content_hash}"): "path_parameters",
    ("POST", "/images/claim"): "body",
    ("DELETE", "/images/{content_hash}"): "path_parameters",
}

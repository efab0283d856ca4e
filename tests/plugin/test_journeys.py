"""The journeys on the map: a crawl calls their functions in the order in which the map has them."""

import re

import imgcache_scrapy
from tests.support.pictures import jpeg
from tests.support.site import respond
from tests.support.tracing import CALLS

SETTINGS = {
    "ITEM_PIPELINES": {"imgcache_scrapy.ImgCachePipeline": 1},
    "EXTENSIONS": {"tests.support.tracing.CallTrace": 0},
    "IMGCACHE_PROVENANCE": True,
}
# Without the marker of its end, only a decoder knows whether a part of the picture is cut off.
IN_DOUBT = jpeg(1).removesuffix(b"\xff\xd9") + bytes(64)
# Only an image that is refused, and a site that is in trouble, lead to these.
REFUSED, TROUBLE = "plugin/outcome.py:refusal_error", "plugin/fetch.py:Fetch.fallback"


def journey(beginning, *, without=""):
    """Return the functions of the journey whose heading begins like this."""
    _, _, rest = imgcache_scrapy.__doc__.partition(f"\n{beginning}")
    _, paragraph, *_ = rest.split("\n\n", 2)
    steps = re.findall(r"^    (\S+\.py:\S+)", paragraph, re.MULTILINE)
    assert len(steps) >= 5
    return [step for step in steps if step != without]


def assert_calls(folder, steps):
    """Assert that a crawl called these functions in this order."""
    calls = (folder / CALLS).read_text().splitlines()
    assert [call for call in calls if call in steps] == steps


def answer_by_etag(handler):
    """Answer 304 to a request that has the ETag."""
    status, body = (304, b"") if handler.headers["If-None-Match"] else (200, IN_DOUBT)
    respond(handler, body, status=status, headers={"ETag": '"1"'})


def test_a_crawl_follows_the_journeys_of_the_map(site, crawl, tmp_path):
    """A miss, a hit, the use of an image and a revalidation go the ways that the map describes."""
    site.answers["/a.jpg"] = answer_by_etag
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    hit = journey("A hit, embedded")
    find = hit[: hit.index("plugin/flow.py:Flow.find") + 1]

    assert crawl(items, SETTINGS).fates == {"stored": 1}
    assert_calls(tmp_path, find + journey("A miss", without=REFUSED))
    assert_calls(tmp_path, journey("The use of an image"))

    assert crawl(items, SETTINGS).fates == {"hit": 1}
    assert_calls(tmp_path, hit)

    assert crawl(items, SETTINGS | {"IMGCACHE_MAX_AGE": 0}).fates == {"revalidated": 1}
    assert_calls(tmp_path, find + journey("A stale hit", without=TROUBLE))

"""OutcomesAtHand and extensions: what items that show a picture again have in common."""

import pytest
from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response

from imgcache_scrapy.plugin.file_names.at_hand import OutcomesAtHand
from imgcache_scrapy.plugin.file_names.extensions import extension_of
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome
from tests.support.pictures import jpeg

URL = "http://example.com/a"
REQUEST = Request(URL)


def outcome(size):
    """Return the outcome of a body of this size in bytes."""
    return Outcome("stored", None, Response(URL, body=bytes(size), request=Request(URL)))


def test_the_response_is_a_copy_that_scrapy_takes_for_cached():
    """It belongs to the new request, and the first one is not changed."""
    kept, at_hand = outcome(3), OutcomesAtHand()
    at_hand.put(b"a", kept)
    again = at_hand.get(b"a", REQUEST)
    assert again.response is not kept.response
    assert again.response.request is REQUEST
    assert (again.response.body, again.response.flags) == (b"\0\0\0", ["cached"])
    assert kept.response.flags == []
    assert at_hand.get(b"b", REQUEST) is None


def test_the_oldest_outcomes_are_dropped_within_both_limits():
    """Bodies are limited by their bytes, outcomes by their number; a large body is not kept."""
    at_hand = OutcomesAtHand(max_outcomes=3, max_bytes=10)
    for key, size in [(b"a", 4), (b"b", 4), (b"c", 4), (b"d", 11), (b"e", 0), (b"c", 1)]:
        at_hand.put(key, outcome(size))
    assert [at_hand.get(key, REQUEST) is not None for key in (b"a", b"b", b"c", b"d", b"e")] == [
        *(False, True, True, False, True)
    ]
    for key in (b"f", b"g"):
        at_hand.put(key, outcome(0))
    assert at_hand.get(b"b", REQUEST) is None


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ImageFailed("dns", "no such host"), ImageFailed), (IgnoreRequest("offsite"), IgnoreRequest)],
)
def test_a_failure_is_raised_again(error, raised):
    """A request that was filtered stays one, because Scrapy does not warn of it."""
    at_hand = OutcomesAtHand()
    at_hand.put(b"a", Outcome.failed(ImageFailed.of(error)))
    with pytest.raises(raised, match=str(error)):
        at_hand.get(b"a", REQUEST)


@pytest.mark.parametrize(
    ("url", "content_type", "body", "extension"),
    [
        ("/a.php", "text/html", jpeg(1), "jpg"),
        ("/a.jpg", "application/pdf", b"%PDF", "pdf"),
        ("/a.pdf", "application/octet-stream", b"%PDF", "pdf"),
        ("/a.pdf?x=.exe", None, b"", "pdf"),
        ("/a", "text/html; charset=utf-8", b"<html>", "html"),
        ("/a.what-is-this", "made/up", b"x", "bin"),
        ("/a", None, b"", "bin"),
    ],
)
def test_the_extension_is_decided_by_bytes_then_header_then_url(url, content_type, body, extension):
    """An extension is lower case, and never something that a stranger makes up."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = Response(f"http://example.com{url}", headers=headers, body=body)
    assert extension_of(response, None) == extension

"""Remembered failures: what every cache does with them, on every transport and storage."""

from datetime import UTC, datetime, timedelta

import pytest

from imgcache_scrapy import AsyncImgCacheClient, InvalidRequestError
from imgcache_scrapy.core.failures import SeenFailure
from imgcache_scrapy.core.image_url import ImageUrl
from tests.support.waiting import PATIENCE

SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Date=20261127T000000Z"
SIGNED += "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="


class Memory:
    """The calls of a crawl for failures, which wait for their result."""

    def __init__(self, client, run, bucket):
        self._transport, self._run, self._bucket = client.transport, run, bucket

    def remember(self, *urls, reason="http_404", status=404, seconds=60.0):
        seen = [SeenFailure(ImageUrl.of(url), reason, status, seconds) for url in urls]
        self._run(self._transport.remember_failures(seen, self._bucket))

    def known(self, *urls):
        keys = list(dict.fromkeys(key for url in urls for key in ImageUrl.of(url).keys))
        found = self._run(self._transport.lookup_many(keys, self._bucket, None, urls))
        return {url: failure for url, failure in found.failures.items() if url in urls}


@pytest.fixture
def memory(client_setup, bucket):
    """Open a client, and return its calls."""
    client = AsyncImgCacheClient(client_setup.address, PATIENCE)
    yield Memory(client, client_setup.run, bucket)
    client_setup.run(client.aclose())


def test_a_failure_is_told_with_the_next_lookup(memory, client, site, bucket):
    """It has the URL, the reason, the status and its times; other URLs have none."""
    url, other = f"{site}/a.jpg", f"{site}/b.jpg"
    assert memory.known(url, other) == {}
    before = datetime.now(UTC)
    memory.remember(url)
    failure = memory.known(url, other)[url]
    assert client.failures(bucket=bucket) == [failure]
    failed_at, expires_at = (
        datetime.fromisoformat(failure.pop(name)) for name in ("failed_at", "expires_at")
    )
    assert failure == {"url": url, "bucket": bucket, "reason": "http_404", "http_status": 404}
    assert before <= failed_at <= datetime.now(UTC)
    assert expires_at - failed_at == timedelta(seconds=60)
    assert client.lookup(url) is None


def test_a_failure_belongs_to_the_url_with_its_signature(memory, site):
    """Another signature of the same key is asked again."""
    first, second = (f"{site}/a.jpg?{SIGNED}{'0' * 63}{n}" for n in range(2))
    assert ImageUrl.of(first).key == ImageUrl.of(second).key != first
    memory.remember(first)
    assert memory.known(first, second).keys() == {first}


def test_nothing_is_remembered_of_a_picture_that_the_cache_has(
    memory, client, site, bucket, picture
):
    """Neither under the same URL nor under another one of its key."""
    url, signed = f"{site}/a.jpg", f"{site}/b.jpg?{SIGNED}{'0' * 64}"
    for each in (url, signed):
        client.store(each, picture(), "me", bucket=bucket)
    memory.remember(url, signed, f"{site}/b.jpg?{SIGNED}{'1' * 64}")
    assert client.failures(bucket=bucket) == []


def test_a_store_forgets_the_failure(memory, client, site, bucket, picture):
    """A hit wins, and after a delete the failure does not come back."""
    url = f"{site}/a.jpg"
    memory.remember(url)
    stored = client.store(url, picture(), "me", bucket=bucket)
    assert memory.known(url) == {}
    client.delete(stored["content_hash"], bucket=bucket)
    assert memory.known(url) == {}


def test_a_failure_expires(memory, client, site, bucket):
    """After its time it is neither told nor listed."""
    memory.remember(f"{site}/a.jpg", seconds=0.000001)
    memory.remember(f"{site}/b.jpg")
    assert memory.known(f"{site}/a.jpg", f"{site}/b.jpg").keys() == {f"{site}/b.jpg"}
    assert [each["url"] for each in client.failures(bucket=bucket)] == [f"{site}/b.jpg"]


def test_the_last_failure_of_a_url_counts(memory, client, site, bucket):
    """It replaces the one before, also within one batch."""
    url = f"{site}/a.jpg"
    memory.remember(url, url)
    memory.remember(url, reason="dns", status=None)
    (failure,) = client.failures(bucket=bucket)
    assert (failure["reason"], failure["http_status"]) == ("dns", None)
    assert memory.known(url) == {url: failure}


def test_failures_are_listed_by_host_and_time(memory, client, site, bucket):
    """The newest are first; `limit` cuts the list, and a host in any letter case finds its own."""
    for n in range(3):
        memory.remember(f"{site}/{n}.jpg")
    memory.remember("http://other.example/a.jpg")
    urls = [each["url"] for each in client.failures(bucket=bucket)]
    assert urls == ["http://other.example/a.jpg", *(f"{site}/{n}.jpg" for n in (2, 1, 0))]
    host = site.removeprefix("http://").upper()
    assert [each["url"] for each in client.failures(host=host, bucket=bucket)] == urls[1:]
    assert [each["url"] for each in client.failures(bucket=bucket, limit=2)] == urls[:2]
    since = client.failures(bucket=bucket)[1]["failed_at"]
    assert [each["url"] for each in client.failures(since=since, bucket=bucket)] == urls[:2]
    assert client.failures(since=datetime.now(UTC) + timedelta(hours=1), bucket=bucket) == []


@pytest.mark.parametrize(
    "arguments",
    [{"host": "a\0"}, {"host": 5}, {"since": "soon"}, {"since": 5}, {"limit": 0}],
    ids=str,
)
def test_wrong_filters_are_refused(client, arguments):
    """Each filter is checked."""
    with pytest.raises(InvalidRequestError):
        client.failures(**arguments)


def test_failures_of_a_host_with_a_port(memory, client, site, bucket):
    """A host is found as a user has it at hand: with a port, as a URL, or alone."""
    host = site.removeprefix("http://")
    memory.remember(f"http://{host}:8000/a.jpg", "http://[::1]:8000/a.jpg")
    for asked in (host, f"{host}:8000", f"http://{host}:8000/b.jpg"):
        (found,) = client.failures(host=asked, bucket=bucket)
        assert found["url"] == f"http://{host}:8000/a.jpg"
    for asked in ("::1", "[::1]:8000"):
        assert len(client.failures(host=asked, bucket=bucket)) == 1

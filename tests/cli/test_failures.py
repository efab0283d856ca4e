"""`imgcache failures`."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

from imgcache_scrapy import AsyncImgCacheClient
from imgcache_scrapy.core.failures import SeenFailure
from imgcache_scrapy.core.image_url import ImageUrl
from tests.support.commands import assert_failed


async def remember(folder, *urls):
    client = AsyncImgCacheClient(str(folder))
    seen = [SeenFailure(ImageUrl.of(url), "http_404", 404, 60) for url in urls]
    await client.transport.remember_failures(seen, "")
    found = await client.failures()
    await client.aclose()
    return found


def test_failures_are_listed(run, tmp_path):
    """As a table or as JSON; by host and by time."""
    urls = ["http://a.example/1.jpg", "http://b.example/2.jpg"]
    remembered = asyncio.run(remember(tmp_path / "imgcache", *urls))

    def listed(*options):
        done = run("failures", "imgcache", "--json", *options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert listed() == remembered
    assert {each["url"] for each in listed()} == set(urls)
    assert [each["url"] for each in listed("--host", "b.example")] == urls[1:]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert listed("--since", f"{tomorrow:%Y-%m-%dT%H:%M:%S}") == []
    assert len(listed("--since", "2026-01-01")) == 2
    assert_failed(run("failures", "--since", "1d"), "not '1d'")
    table = run("failures").stdout.decode()
    assert all(url in table for url in urls)
    assert "http_404" in table

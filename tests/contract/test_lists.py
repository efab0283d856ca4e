"""What every cache can list and count: captures that meet filters."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from imgcache_scrapy import InvalidRequestError, NotFoundError
from tests.support.pictures import jpeg

DAY = datetime(2026, 1, 30, tzinfo=UTC)


@pytest.fixture
def stored(client, site, bucket, picture):
    """Store three captures on three days: two hosts, two clients, two types, two buckets."""
    host = site.removeprefix("http://")
    rows = [
        (f"{site}/first.png", picture(), "me", DAY, bucket),
        (f"http://other-{host}/second.jpg", jpeg(uuid4().int), "you", DAY + timedelta(days=1),
         bucket),
        (f"{site}/third.png", picture(), "me", DAY + timedelta(days=2), f"{bucket}-2"),
    ]  # fmt: skip
    return [client.store(*row[:4], bucket=row[4]) for row in rows]


def urls(entries):
    """Return the last part of each URL."""
    return [entry["url"].rpartition("/")[2] for entry in entries]


def test_captures_are_listed_newest_first(client, stored, site):
    """A list has the entries that lookups give; `after` is None at its end."""
    found = client.list(url_contains=site.removeprefix("http://"))
    assert urls(found) == ["third.png", "second.jpg", "first.png"]
    assert found[0] == client.lookup(stored[2]["url"])
    assert found.after is None


FILTERS = [
    ({"url_contains": "SITE/second"}, [1]),
    ({"url_contains": "SITE/sec_nd"}, []),
    ({"host": "SITE"}, [2, 0]),
    ({"bucket": "BUCKET"}, [1, 0]),
    ({"client_name": "you"}, [1]),
    ({"content_type": "image/jpeg"}, [1]),
    ({"content_type": "jpg"}, [1]),
    ({"since": DAY + timedelta(days=1)}, [2, 1]),
    ({"until": "2026-01-31T00:00:00"}, [0]),
    ({"since": DAY, "until": DAY + timedelta(days=2)}, [1, 0]),
    ({"min_width": 64}, [1]),
    ({"min_height": 49}, []),
    ({"min_bytes": 1, "max_bytes": 10**9}, [2, 1, 0]),
    ({"max_bytes": 1}, []),
    ({"damaged": True}, []),
    ({"damaged": False}, [2, 1, 0]),
    ({"host": "SITE", "bucket": "BUCKET", "client_name": "me"}, [0]),
]
"""Filters, and which of the captures of `stored` meet them."""


def test_filters_are_met_together(client, stored, site, bucket):
    """Each filter leaves out what does not meet it; a count counts what a list lists."""
    host = site.removeprefix("http://")
    for filters, expected in FILTERS:
        given = {"url_contains": host} | {
            name: each.replace("SITE", host).replace("BUCKET", bucket)
            if isinstance(each, str) else each
            for name, each in filters.items()
        }  # fmt: skip
        assert urls(client.list(**given)) == [urls(stored)[number] for number in expected], filters
        sizes = [stored[number]["file_size_bytes"] for number in expected]
        count = {"captures": len(sizes), "images": len(sizes), "bytes": sum(sizes)}
        assert client.count(**given) == count


def test_the_letter_case_of_a_host_does_not_matter(client, stored, site):
    """A host is in lower case in every URL."""
    host = site.removeprefix("http://")
    assert urls(client.list(host=host.upper())) == ["third.png", "first.png"]


def test_a_list_goes_on_where_the_one_before_ends(client, stored, site):
    """`after` leads through all pages, and nothing is listed twice."""
    host = site.removeprefix("http://")
    found, after = [], None
    while True:
        part = client.list(url_contains=host, limit=2, after=after)
        found += part
        after = part.after
        if after is None:
            break
        assert len(part) == 2
    assert urls(found) == ["third.png", "second.jpg", "first.png"]


def test_the_bucket_of_a_client_is_a_filter(client_setup, stored, site, bucket):
    """A client with a bucket lists and counts only what is in it; another one can be named."""
    host = site.removeprefix("http://")
    with client_setup.open_client(bucket=f"{bucket}-2") as own:
        assert urls(own.list(url_contains=host)) == ["third.png"]
        assert own.count(url_contains=host)["captures"] == 1
        assert urls(own.list(url_contains=host, bucket=bucket)) == ["second.jpg", "first.png"]


def test_damaged_images_are_listed_as_such(client, client_setup, stored, site):
    """Their entries say `damaged`; lookups do not find them."""
    content_hash = stored[0]["content_hash"]
    client_setup.blobs.put(content_hash, b"wrong")
    with pytest.raises(NotFoundError):
        client.get_bytes(content_hash)
    (found,) = client.list(url_contains=site, damaged=True)
    assert found["content_hash"] == content_hash
    assert found["damaged"] is True
    assert [each.get("damaged") for each in client.list(url_contains=site)] == [None, True]
    client.delete(content_hash, bucket=stored[0]["bucket"])


def test_all_captures_of_an_image_are_counted_but_its_bytes_once(client, site, bucket, picture):
    """Two URLs with the same bytes are two captures of one image."""
    data = picture()
    for name in "ab":
        client.store(f"{site}/{name}", data, "me", bucket=bucket)
    count = {"captures": 2, "images": 1, "bytes": len(data)}
    assert client.count(bucket=bucket) == count
    assert client.stats("bucket")[bucket] == count
    assert client.stats("host")[site.removeprefix("http://")] == count


def test_statistics_by_group(client, stored):
    """Every group has its numbers, no group is empty, and the largest one is the first."""
    expected = {
        "type": {"image/png", "image/jpeg"},
        "month": {"2026-01", "2026-02"},
        "client": {"me", "you"},
    }
    for by, names in expected.items():
        found = client.stats(by)
        assert names <= set(found)
        for each in found.values():
            assert set(each) == {"captures", "images", "bytes"}
            assert each["captures"] >= each["images"] > 0
        assert sum(each["captures"] for each in found.values()) == client.stats()["captures"]
        sizes = [each["bytes"] for each in found.values()]
        assert sizes == sorted(sizes, reverse=True)


WRONG = [
    {"hots": "a"}, {"host": 5}, {"url_contains": "a\0"}, {"min_width": -1}, {"min_width": 1.5},
    {"min_bytes": True}, {"since": "yesterday"}, {"damaged": "yes"}, {"limit": 0},
    {"client_name": ""}, {"host": "h.example:80"}, {"host": "http://h.example"}, {"host": " "},
    {"after": "last"}, {"since": DAY.date()}, {"until": 5},
]  # fmt: skip


def test_wrong_filters_are_refused(client):
    """A wrong filter must not be taken for none."""
    for filters in WRONG:
        with pytest.raises(InvalidRequestError):
            client.list(**filters)


def test_statistics_by_something_else_are_refused(client):
    """The error names what there is."""
    with pytest.raises(InvalidRequestError, match="host, bucket, client, type, month"):
        client.stats("colour")

"""What every cache must remember: all captures of a URL, and all those of an image."""

from datetime import UTC, datetime, timedelta

import pytest

from imgcache_scrapy import InvalidRequestError, NotFoundError
from tests.contract.test_contract import BAD_URLS, MALFORMED

DAY = datetime(2026, 1, 2, tzinfo=UTC)


def day(number):
    """Return a time; later numbers have later times."""
    return DAY + timedelta(days=number)


def hashes(entries):
    """Return the content hash of each entry."""
    return [entry["content_hash"] for entry in entries]


def test_a_picture_that_changes_and_comes_back_has_three_captures(client, site, picture):
    """A → B → A ends at A, and the history tells all three, newest first."""
    url, (a, b) = f"{site}/a", (picture(), picture())
    stored = [client.store(url, data, "me", day(n)) for n, data in enumerate((a, b, a))]
    assert client.get_bytes(client.lookup(url)["content_hash"]) == a
    found = client.history(url)
    assert hashes(found) == hashes(stored[::-1])
    assert found == [{k: v for k, v in each.items() if k != "created"} for each in stored[::-1]]
    assert client.history(url, limit=2) == found[:2]


def test_a_claim_may_bring_the_first_picture_back(client, site, picture):
    """A claim after another picture is a capture of its own."""
    url, (a, b) = f"{site}/a", (picture(), picture())
    for number, data in enumerate((a, b)):
        client.store(url, data, "me", day(number))
    first = client.history(url)[1]["content_hash"]
    assert client.claim(url, first, "me", day(2))["content_hash"] == first
    assert hashes(client.history(url))[::2] == [first, first]
    assert len(client.history(url)) == 3


def test_the_history_of_a_key_has_its_urls(client, site, picture):
    """Each capture has the URL that was fetched; signatures have one history."""
    path = f"{site}/a.jpg?X-Goog-Algorithm=GOOG4&X-Goog-Credential=c&X-Goog-Expires=1"
    urls = [f"{path}&X-Goog-SignedHeaders=host&X-Goog-Date={n}&X-Goog-Signature={n}" for n in "123"]
    for number, url in enumerate(urls):
        client.store(url, picture(), "me", day(number), key=f"{site}/key")
    found = client.history("http://other.example/", key=f"{site}/key")
    assert [entry["url"] for entry in found] == urls[::-1]
    assert {entry["key"] for entry in found} == {f"{site}/key"}
    assert client.history(urls[0]) == []


def test_the_older_spelling_belongs_to_the_history(client, site, picture):
    """Versions without keys stored the URL itself: its captures are found, too."""
    url = f"{site}/a?b=2&a=1"
    for number, key in enumerate((url, None, url)):
        client.store(url, picture(), "me", day(number), key=key)
    found = client.history(url)
    assert [entry["key"] for entry in found] == [url, f"{site}/a?a=1&b=2", url]
    assert [entry["lookup_time"][8:10] for entry in found] == ["04", "03", "02"]
    assert client.history(url, limit=2) == found[:2]
    assert client.history(url, key=url) == found[::2]


def test_histories_of_one_bucket_or_of_all(client_setup, client, site, bucket, picture):
    """A bucket restricts a history; without one, it is that of all buckets."""
    url, other = f"{site}/a", f"{bucket}-2"
    content_hash = client.store(url, picture(), "me", day(0), bucket=bucket)["content_hash"]
    client.claim(url, content_hash, "me", day(1), bucket=other)
    for ask in (
        lambda each, **options: each.history(url, **options),
        lambda each, **options: each.captures(content_hash, **options),
    ):
        assert [entry["bucket"] for entry in ask(client)] == [other, bucket]
        assert [entry["bucket"] for entry in ask(client, bucket=bucket)] == [bucket]
        assert ask(client, bucket="none") == []
        with client_setup.open_client(bucket=other) as own:
            assert [entry["bucket"] for entry in ask(own)] == [other]


def test_captures_are_all_urls_of_an_image(client, site, picture):
    """Newest first, with every URL and key that has led to the bytes."""
    data, other = picture(), picture()
    for number, (path, each) in enumerate(
        [("/a", data), ("/b", data), ("/b", other), ("/b", data)]
    ):
        entry = client.store(site + path, each, "me", day(number))
    found = client.captures(entry["content_hash"])
    assert [each["url"] for each in found] == [f"{site}/b", f"{site}/b", f"{site}/a"]
    assert found[0] == client.lookup(f"{site}/b")
    assert set(hashes(found)) == {entry["content_hash"]}
    assert client.captures(entry["content_hash"], limit=1) == found[:1]


def test_damaged_images_stay_in_histories(client, client_setup, site, picture):
    """They are misses for lookups, but the site did give them."""
    url, data = f"{site}/a", picture()
    entry = client.store(url, data, "me")
    client_setup.blobs.put(entry["content_hash"], bytes(len(data)))
    with pytest.raises(NotFoundError):
        client.get_bytes(entry["content_hash"])
    assert client.lookup(url) is None
    assert hashes(client.history(url)) == hashes(client.captures(entry["content_hash"]))
    assert hashes(client.history(url)) == [entry["content_hash"]]
    client.delete(entry["content_hash"])
    assert client.history(url) == client.captures(entry["content_hash"]) == []


def test_captures_of_one_time_come_in_the_order_of_their_stores(client, site, picture):
    """The last one that was stored is the newest, as for a lookup."""
    stored = [client.store(f"{site}/a", picture(), "me", day(0)) for _ in range(3)]
    assert hashes(client.history(f"{site}/a")) == hashes(stored[::-1])


def test_a_time_ahead_of_the_clock_is_no_newest_capture(client, site, picture):
    """A capture from the future has the time of its store."""
    future = datetime.now(UTC) + timedelta(days=400)
    client.store(f"{site}/a", picture(), "me", future)
    last = client.store(f"{site}/a", picture(), "me")
    assert hashes(client.history(f"{site}/a"))[0] == last["content_hash"]


def test_histories_check_their_arguments(client, site):
    """A bad URL, hash or limit is an error; what is unknown has an empty history."""
    for url in BAD_URLS.values():
        with pytest.raises(InvalidRequestError):
            client.history(url)
    for content_hash in MALFORMED:
        with pytest.raises(InvalidRequestError):
            client.captures(content_hash)
    for limit in (0, -1, "2", 2**31):
        with pytest.raises(InvalidRequestError):
            client.history(f"{site}/a", limit=limit)
        with pytest.raises(InvalidRequestError):
            client.captures("0" * 64, limit=limit)
    assert client.history(f"{site}/a") == client.captures("0" * 64) == []

"""What every cache must do: one suite that runs with every transport, storage and client."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from imgcache_scrapy import InvalidRequestError, NotFoundError, TooLargeError
from tests.support.clients import ENTRY_TYPES
from tests.support.waiting import PATIENCE

UNKNOWN_HASH = "0" * 64
MALFORMED = ["", "abc", "A" * 64, "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "../" + "0" * 61]
BAD_URLS = {
    "empty": "",
    "blank": " \n",
    "nul": "http://h.example/a\0b",
    "over 64 KB": "http://h.example/?" + "a" * 64 * 1024,
    "not a string": b"http://h.example/",
    "lone surrogate": "http://h.example/\ud800",
}
YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
bad_urls = pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS)
malformed = pytest.mark.parametrize("content_hash", MALFORMED)


def hash_of(data):
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def distance(one, other):
    return (int(one, 16) ^ int(other, 16)).bit_count()


def flip_bits(perceptual_hash, bits):
    return f"{int(perceptual_hash, 16) ^ ((1 << bits) - 1):016x}"


# store


def test_store_reports_whether_the_image_is_new(client, site, picture):
    """The first store of some bytes creates the image, the next one finds it."""
    data = picture()
    assert client.store(f"{site}/a.png", data, "me")["created"] is True
    assert client.store(f"{site}/a.png", data, "me")["created"] is False


def test_store_describes_the_image(client, site, photos):
    """An entry has the file name, type, size, dimensions and perceptual hash of the picture."""
    data = photos["cat.png"]
    entry = client.store(f"{site}/cat.png", data, "shop")
    assert entry["url"] == f"{site}/cat.png"
    assert entry["content_hash"] == hash_of(data)
    assert entry["content_type"] == "image/png"
    assert entry["file_size_bytes"] == len(data)
    assert (entry["width"], entry["height"]) == (320, 213)
    assert re.fullmatch("[0-9a-f]{16}", entry["perceptual_hash"])
    assert entry["client_name"] == "shop"
    assert entry["bucket"] == ""


def test_every_entry_has_exactly_the_documented_shape(client, site, bucket, picture):
    """Every method returns the same keys and types, plus `created` or `distance`."""
    url, data = f"{site}/a.png", picture()
    stored = client.store(url, data, "me", bucket=bucket)
    (similar,) = client.similar(stored["perceptual_hash"], bucket=bucket)
    others = {
        "lookup": client.lookup(url, bucket=bucket),
        "lookup_many": client.lookup_many([url], bucket=bucket)[url],
        "get_meta": client.get_meta(hash_of(data), bucket=bucket),
        "search": client.search(site, bucket=bucket)[0],
    }
    assert isinstance(stored.pop("created"), bool)
    assert isinstance(similar.pop("distance"), int)
    for method, entry in {"store": stored, "similar": similar, **others}.items():
        assert {key: type(value) for key, value in entry.items()} == ENTRY_TYPES, method
        assert entry == stored, method
        for time in (entry["lookup_time"], entry["created_at"]):
            assert datetime.fromisoformat(time).utcoffset() == timedelta(0), method


def test_known_bytes_under_a_new_url_are_found_under_both(client, site, picture):
    """A store of known bytes under a new URL records the URL."""
    data = picture()
    client.store(f"{site}/old.png", data, "me")
    assert client.store(f"{site}/new.png", data, "me")["url"] == f"{site}/new.png"
    for name in ("old", "new"):
        assert client.lookup(f"{site}/{name}.png")["content_hash"] == hash_of(data)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (datetime(2020, 5, 6, 7, 8, 9, 10), "2020-05-06T07:08:09.000010+00:00"),  # noqa: DTZ001
        (datetime(2020, 5, 6, 7, 8, 9, tzinfo=UTC), "2020-05-06T07:08:09+00:00"),
        (
            datetime(2020, 5, 6, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2020-05-05T19:30:00+00:00",
        ),
        (datetime(1960, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "1960-01-01T00:00:00.000001+00:00"),
    ],
    ids=["naive is UTC", "UTC", "with an offset", "before 1970"],
)
def test_lookup_time_is_returned_in_utc(client, site, picture, given, kept):
    """A time comes back in UTC, to the microsecond; a naive time is taken as UTC."""
    entry = client.store(f"{site}/a.png", picture(), "me", lookup_time=given)
    assert datetime.fromisoformat(entry["lookup_time"]) == datetime.fromisoformat(kept)
    assert client.lookup(f"{site}/a.png")["lookup_time"] == entry["lookup_time"]


def test_lookup_time_is_now_by_default(client, site, picture):
    """Without a lookup time, the time of the store is used."""
    before = datetime.now(UTC)
    entry = client.store(f"{site}/a.png", picture(), "me")
    after = datetime.now(UTC)
    for key in ("lookup_time", "created_at"):
        assert before <= datetime.fromisoformat(entry[key]) <= after


@pytest.mark.parametrize(
    "impossible",
    [
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))),
    ],
    ids=["max", "before min", "after max"],
)
def test_an_extreme_time_is_stored_or_refused(client, site, picture, impossible):
    """A lookup time that no UTC datetime can represent is refused; one in the future is now."""
    try:
        entry = client.store(f"{site}/a.png", picture(), "me", lookup_time=impossible)
    except InvalidRequestError:
        assert client.lookup(f"{site}/a.png") is None
    else:
        expected = min(impossible.replace(tzinfo=UTC), datetime.now(UTC))
        assert datetime.fromisoformat(entry["lookup_time"]) <= expected


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.png", "b.png"),
        ("/a/b.png?c=/d.png#e", "b.png"),
        ("/a%20b/%C3%BC%20c.png", "ü c.png"),
        ("/", None),
        ("", None),
    ],
)
def test_the_file_name_is_the_last_part_of_the_path(client, site, picture, path, name):
    """Without a given file name, the last part of the URL's path is used."""
    client.store(f"{site}{path}", picture(), "me")
    assert client.lookup(f"{site}{path}")["original_filename"] == name


@pytest.mark.parametrize("name", ["mine.png", "mit Ümläut ✓.png", "a b;c=d.png"])
def test_a_given_file_name_is_kept(client, site, picture, name):
    """The given file name comes back unchanged."""
    entry = client.store(f"{site}/a.png", picture(), "me", filename=name)
    assert entry["original_filename"] == name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/a.png", "a.png"),
        ("C:\\pictures\\a.png", "a.png"),
        ("a/\u202eb.png", "b.png"),
        ("..", "url.png"),
        ("a/", "url.png"),
        ("a" * 300, "a" * 255),
    ],
)
def test_a_given_file_name_is_cleaned(client, site, picture, given, kept):
    """Folders and control characters are left out; if nothing remains, the URL has the name."""
    entry = client.store(f"{site}/url.png", picture(), "me", filename=given)
    assert entry["original_filename"] == kept


def test_any_client_name_is_kept(client, site, picture):
    """A client name may have characters of any script, quotes and line breaks."""
    entry = client.store(f"{site}/a.png", picture(), "ü ✓\n'\"&=%00")
    assert entry["client_name"] == "ü ✓\n'\"&=%00"


def test_an_image_must_not_be_empty(client, site):
    """Empty bytes are refused, and nothing is recorded."""
    with pytest.raises(InvalidRequestError, match="an image must not be empty"):
        client.store(f"{site}/a.png", b"", "me")
    assert client.lookup(f"{site}/a.png") is None


@pytest.mark.parametrize("data", ["text", None, 5], ids=["str", "None", "int"])
def test_an_image_must_be_bytes(client, site, data):
    """Anything but bytes is refused, and nothing is recorded."""
    with pytest.raises(InvalidRequestError):
        client.store(f"{site}/a.png", data, "me")
    assert client.lookup(f"{site}/a.png") is None


def test_an_image_over_the_limit_is_too_large(client, site):
    """An image over the size limit raises TooLargeError."""
    with pytest.raises(TooLargeError, match="larger than"):
        client.store(f"{site}/a.bmp", bytes(102 * 2**20), "me")
    assert client.lookup(f"{site}/a.bmp") is None


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"GIF89a that ends early", "image/gif"),
        (b"no picture at all", "application/octet-stream"),
    ],
)
def test_an_undecodable_image_is_stored(client, site, data, content_type):
    """An undecodable image has neither a size nor a hash, and its bytes come back."""
    data += uuid4().bytes
    entry = client.store(f"{site}/a", data, "me")
    assert entry["created"] is True
    assert entry["content_type"] == content_type
    assert (entry["width"], entry["height"], entry["perceptual_hash"]) == (None, None, None)
    assert client.get_bytes(entry["content_hash"]) == data


@bad_urls
def test_an_invalid_url_is_refused(client, picture, url):
    """Every method that takes a URL refuses an invalid one."""
    for call in (
        lambda: client.store(url, picture(), "me"),
        lambda: client.lookup(url),
    ):
        with pytest.raises(InvalidRequestError):
            call()


@pytest.mark.parametrize("start", ["/", "/?"], ids=["path", "query"])
@pytest.mark.parametrize("letter", ["a", "&"])
def test_a_url_of_64_kilobytes_is_kept_and_found(client, site, picture, start, letter):
    """The longest allowed URL works in every method that takes a URL."""
    url = f"{site}{start}".ljust(64 * 1024, letter)
    stored = client.store(url, picture(), "me")
    assert len(stored["url"]) == 64 * 1024
    assert client.lookup_many([url])[url]["content_hash"] == stored["content_hash"]
    assert client.lookup(url)["content_hash"] == stored["content_hash"]


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"], ids=["nul", "lone surrogate"])
def test_invalid_text_is_refused(client, site, picture, bad):
    """Every parameter refuses NUL characters and lone surrogates."""
    url, data = f"{site}/a.png", picture()
    for call in (
        lambda: client.store(url, data, bad),
        lambda: client.store(url, data, "me", bucket=bad),
        lambda: client.lookup(url, bucket=bad),
        lambda: client.lookup_many([url], bucket=bad),
        lambda: client.search(bad),
        lambda: client.search(site, bucket=bad),
        lambda: client.similar("0" * 16, bucket=bad),
        lambda: client.get_meta(UNKNOWN_HASH, bucket=bad),
        lambda: client.get_bytes(UNKNOWN_HASH, bucket=bad),
        lambda: client.delete(UNKNOWN_HASH, bucket=bad),
    ):
        with pytest.raises(InvalidRequestError):
            call()
    assert client.lookup(url) is None


# get_bytes, get_meta


def test_bytes_come_back_exactly(client, site, photos):
    """Pictures of every format come back unchanged."""
    for name, data in photos.items():
        entry = client.store(f"{site}/{name}", data, "me")
        assert client.get_bytes(entry["content_hash"]) == data


def test_an_unknown_image_is_not_found(client):
    """`get_bytes` raises NotFoundError for an unknown image, and `get_meta` returns None."""
    with pytest.raises(NotFoundError):
        client.get_bytes(UNKNOWN_HASH)
    assert client.get_meta(UNKNOWN_HASH) is None


@malformed
def test_a_malformed_hash_is_refused(client, content_hash):
    """Every method that takes a content hash refuses a malformed one."""
    for call in (client.get_bytes, client.get_meta, client.delete, client.serve_url):
        with pytest.raises(InvalidRequestError, match="64 hex digits"):
            call(content_hash)


def test_a_damaged_image_is_a_miss_until_it_is_stored_again(client_setup, client, site, picture):
    """After a read of damaged bytes the image is a miss, and the next store repairs it."""
    url, data = f"{site}/a.png", picture()
    content_hash = client.store(url, data, "me")["content_hash"]
    client_setup.blobs.put(content_hash, bytes(len(data)))
    with pytest.raises(NotFoundError, match="damaged"):
        client.get_bytes(content_hash)
    assert client.lookup(url) is None
    assert client.get_meta(content_hash) is None
    assert client.store(url, data, "me")["created"] is False
    assert client.get_bytes(content_hash) == data
    assert client.lookup(url)["content_hash"] == content_hash


def test_a_lost_blob_is_a_miss_until_it_is_stored_again(client_setup, client, site, picture):
    """An image without a blob is treated as a damaged image."""
    url, data = f"{site}/a.png", picture()
    content_hash = client.store(url, data, "me")["content_hash"]
    client_setup.blobs.delete(content_hash)
    with pytest.raises(NotFoundError):
        client.get_bytes(content_hash)
    assert client.lookup_many([url]) == {}
    client.store(url, data, "me")
    assert client.get_bytes(content_hash) == data


def test_a_time_in_the_future_pins_no_image_to_a_url(client, site, picture):
    """A lookup time ahead of the cache's clock becomes the present; the next store is newer."""
    url, first, second = f"{site}/a.png", picture(), picture()
    stored = client.store(url, first, "me", lookup_time="9999-12-31T23:59:59Z")
    assert datetime.fromisoformat(stored["lookup_time"]) <= datetime.now(UTC)
    assert client.lookup(url)["lookup_time"] == stored["lookup_time"]
    content_hash = client.store(url, second, "me")["content_hash"]
    assert client.lookup(url)["content_hash"] == content_hash
    assert [entry["content_hash"] for entry in client.search(url)] == [content_hash]


def test_get_meta_gives_the_newest_capture(client, site, picture):
    """`get_meta` returns the capture of the image with the latest lookup time."""
    data = picture()
    for name, day in (("a", 2), ("b", 3), ("c", 1)):
        client.store(f"{site}/{name}", data, name, lookup_time=YEAR_2000 + timedelta(days=day))
    assert client.get_meta(hash_of(data))["url"] == f"{site}/b"


# lookup, lookup_many


def test_lookup_of_an_unknown_url_is_none(client, site):
    """An unknown URL is not an error."""
    assert client.lookup(f"{site}/a.png") is None


@pytest.mark.parametrize("days", [(1, 2), (2, 1), (1, 1)], ids=["in order", "late", "equal"])
def test_lookup_gives_the_newest_capture(client, site, picture, days):
    """Lookup returns the capture with the latest time; of equal times the one stored last."""
    url, pictures = f"{site}/a.png", [picture(), picture()]
    for data, day in zip(pictures, days, strict=True):
        client.store(url, data, "me", lookup_time=YEAR_2000 + timedelta(days=day))
    newest = pictures[0] if days == (2, 1) else pictures[1]
    assert client.lookup(url)["content_hash"] == hash_of(newest)
    assert client.lookup_many([url])[url]["content_hash"] == hash_of(newest)


def test_a_url_that_changes_back_gives_the_old_image(client, site, picture):
    """After A, B and A again the URL gives A."""
    url, first, second = f"{site}/a.png", picture(), picture()
    for data in (first, second, first):
        client.store(url, data, "me")
    assert client.lookup(url)["content_hash"] == hash_of(first)


def test_known_bytes_under_the_same_url_renew_its_capture(client, site, picture):
    """Storing the same again updates lookup time and client name, and not the creation time."""
    url, data = f"{site}/a.png", picture()
    old = client.store(url, data, "one", lookup_time=YEAR_2000)
    new = client.store(url, data, "two", lookup_time=YEAR_2000 + timedelta(days=1))
    assert new["created_at"] == old["created_at"]
    assert new["client_name"] == "two"
    assert new["lookup_time"] > old["lookup_time"]
    assert len(client.search(site)) == 1


def test_any_spelling_of_a_url_finds_it(client, site, picture):
    """A URL is found in its plain and in its percent-encoded spelling."""
    plain, encoded = f"{site}/ü b.png?q=ü c", f"{site}/%C3%BC%20b.png?q=%C3%BC%20c"
    client.store(plain, picture(), "me")
    assert client.lookup(encoded) == client.lookup(plain) == client.lookup(f" {plain}\n")
    assert client.lookup(encoded)["url"] == encoded


def test_lookup_many_answers_in_the_callers_spellings(client, site, picture):
    """Each hit has the spelling of the caller as its key, and misses are left out."""
    spellings = [f"{site}/a b.png", f"{site}/a%20b.png", f" {site}/a b.png "]
    stored = client.store(spellings[0], picture(), "me")
    found = client.lookup_many(url for url in [*spellings, f"{site}/miss", spellings[0]])
    assert list(found) == spellings
    assert {entry["content_hash"] for entry in found.values()} == {stored["content_hash"]}


@bad_urls
def test_lookup_many_does_not_find_what_is_no_url(client, site, picture, url):
    """It costs the others of the page nothing."""
    client.store(f"{site}/a.png", picture(), "me")
    assert list(client.lookup_many([url, f"{site}/a.png", None])) == [f"{site}/a.png"]


@pytest.mark.parametrize("urls", ["http://h.example/a.png", b"http://h.example/", 5, None])
def test_lookup_many_takes_a_list(client, urls):
    """A single URL in its place is a mistake of the caller."""
    with pytest.raises(InvalidRequestError, match="list"):
        client.lookup_many(urls)


def test_lookup_many_takes_what_a_page_has(client, site, picture):
    """Relative and broken URLs and long pictures in the page are not found, the others are."""
    stored = f"{site}/a.png"
    client.store(stored, picture(), "me")
    page = ["", "#", "/a.png", "a.png", "//h/a.png", "http://[::1", "javascript:void(0)",
            "data:image/png;base64,AAA", f"data:;base64,{'A' * 300_000}", stored]  # fmt: skip
    assert list(client.lookup_many(page)) == [stored]


def test_a_fragment_makes_no_other_url(client, site, picture):
    """No request contains it: all spellings are one URL, whose entry has none."""
    spellings = [f"{site}/a.png", f"{site}/a.png#1", f"{site}/a.png#2", f"{site}/a.png#"]
    data = picture()
    for spelling in spellings:
        assert client.store(spelling, data, "me")["url"] == spellings[0]
        assert client.lookup(spelling)["url"] == spellings[0]
    assert list(client.lookup_many(spellings)) == spellings
    assert [entry["url"] for entry in client.search(site)] == spellings[:1]


def test_a_data_url_is_found_again(client, picture):
    """By its bytes, in any spelling and of any length."""
    data = picture() * 60
    encoded = base64.b64encode(data).decode()
    assert len(encoded) > 64 * 1024
    spellings = [f"data:image/png;base64,{encoded}", f"DATA:;base64,{encoded}"]
    stored = client.store(spellings[0], data, "me")
    for spelling in (*spellings, stored["url"]):
        assert client.lookup(spelling)["content_hash"] == hash_of(data)
        assert list(client.lookup_many([spelling])) == [spelling]


def test_lookup_many_of_an_empty_list_is_empty(client):
    """An empty list gives an empty result."""
    assert client.lookup_many([]) == {}


def test_lookup_many_takes_more_than_one_batch(client, site, picture):
    """Hits at the borders of the batches of 1,000 URLs are found."""
    urls = [f"{site}/{number}" for number in range(2500)]
    hits = [0, 999, 1000, 1001, 1999, 2000, 2499]
    for number in hits:
        client.store(urls[number], picture(), "me")
    assert list(client.lookup_many(urls)) == [urls[number] for number in hits]


def test_lookup_many_takes_very_long_urls(client, site, picture):
    """A thousand URLs of 16,000 characters exceed one request, and are still looked up."""
    urls = [f"{site}/{number}/{'a' * 16_000}" for number in range(1000)]
    client.store(urls[-1], picture(), "me")
    assert list(client.lookup_many(urls)) == [urls[-1]]


# search


def test_search_is_literal_and_case_sensitive(client, site, picture):
    """`%` and `_` are plain characters, and `A` is not `a`."""
    data = picture()
    for path in ("/a_b%25c", "/axb-c", "/A_B"):
        client.store(site + path, data, "me")
    assert [e["url"] for e in client.search(f"{site}/a_b")] == [f"{site}/a_b%25c"]
    assert [e["url"] for e in client.search(f"{site}/A_B")] == [f"{site}/A_B"]
    assert [e["url"] for e in client.search(f"{site}/a_b%")] == [f"{site}/a_b%25c"]
    assert client.search(f"{site}/a%") == []
    assert client.search(f"{site}/a?b\\") == []


def test_search_gives_one_entry_per_url_newest_first(client, site, picture):
    """Search lists the newest capture of each URL, and the newest URL first."""
    for path, day in (("/a", 1), ("/b", 3), ("/c", 2), ("/a", 4)):
        client.store(site + path, picture(), "me", lookup_time=YEAR_2000 + timedelta(days=day))
    found = client.search(site)
    assert [entry["url"] for entry in found] == [f"{site}/a", f"{site}/b", f"{site}/c"]
    assert found[0] == client.lookup(f"{site}/a")
    assert client.search(site, limit=2) == found[:2]
    assert client.search(site, limit=10) == found


def test_search_in_all_buckets_gives_one_entry_per_url(client, site, bucket, picture):
    """A URL that is in two buckets is listed once."""
    for name, day in ((bucket, 1), (f"{bucket}-2", 2)):
        lookup_time = YEAR_2000 + timedelta(days=day)
        client.store(f"{site}/a", picture(), "me", bucket=name, lookup_time=lookup_time)
    assert [entry["bucket"] for entry in client.search(site)] == [f"{bucket}-2"]


@pytest.mark.parametrize("limit", [0, -1, 2**70, "ten"])
def test_a_limit_must_be_a_positive_number(client, site, limit):
    """`search` and `similar` refuse a limit that is not a positive number."""
    with pytest.raises(InvalidRequestError):
        client.search(site, limit=limit)
    with pytest.raises(InvalidRequestError):
        client.similar("0" * 16, limit=limit)


# similar


def test_similar_gives_the_nearest_first_with_distances(client, site, bucket, picture):
    """Each similar image has its distance in bits, and the list is sorted by it."""
    stored = [
        client.store(f"{site}/{number}", picture(), "me", bucket=bucket) for number in range(6)
    ]
    query_hash = flip_bits(stored[3]["perceptual_hash"], 2)
    found = client.similar(query_hash, 64, bucket=bucket)
    distances = [distance(entry["perceptual_hash"], query_hash) for entry in found]
    assert [entry["distance"] for entry in found] == distances == sorted(distances)
    assert {entry["content_hash"] for entry in found} == {e["content_hash"] for e in stored}
    assert found[0]["content_hash"] == stored[3]["content_hash"]
    assert client.similar(query_hash, 64, bucket=bucket, limit=2) == found[:2]


def test_similar_includes_images_at_the_distance(client, site, bucket, picture):
    """The maximum distance is inclusive, and 4 bits by default."""
    stored = client.store(f"{site}/a", picture(), "me", bucket=bucket)["perceptual_hash"]
    for bits in (0, 1, 4, 5, 20, 64):
        query_hash = flip_bits(stored, bits)
        assert [e["distance"] for e in client.similar(query_hash, bits, bucket=bucket)] == [bits]
        if bits:
            assert client.similar(query_hash, bits - 1, bucket=bucket) == []
        assert len(client.similar(query_hash, bucket=bucket)) == (bits <= 4)


def test_similar_to_a_picture_that_is_not_stored(client, site, bucket, photos):
    """The bytes of a file can be given instead of a hash; no picture at all is refused."""
    stored = client.store(f"{site}/a", photos["cat.png"], "me", bucket=bucket)
    (found,) = client.similar(file_bytes=photos["cat.png"] + b"more", bucket=bucket)
    assert (found["content_hash"], found["distance"]) == (stored["content_hash"], 0)
    assert client.similar(file_bytes=photos["sunset.jpg"], bucket=bucket) == []
    for bad in (b"", b"no picture", photos["cat.png"][:200], "text"):
        with pytest.raises(InvalidRequestError):
            client.similar(file_bytes=bad)
    with pytest.raises(InvalidRequestError):
        client.similar("0" * 16, file_bytes=photos["cat.png"])


def test_similar_gives_one_entry_per_image(client, site, bucket, photos):
    """An image with two URLs is listed once; the same picture in other bytes is another image."""
    data = photos["cat.png"] + uuid4().bytes
    for path in ("/a", "/b"):
        stored = client.store(site + path, data, "me", bucket=bucket)
    other = client.store(f"{site}/c", data + b"more", "me", bucket=bucket)
    found = client.similar(stored["perceptual_hash"], 0, bucket=bucket)
    assert {e["content_hash"] for e in found} == {stored["content_hash"], other["content_hash"]}
    assert len(found) == 2


@pytest.mark.parametrize(
    "perceptual_hash",
    ["", "0" * 15, "0" * 17, "g" * 16, "0" * 16 + "\n", "0x" + "0" * 14, None],
)
def test_similar_needs_a_perceptual_hash(client, perceptual_hash):
    """Anything but 16 hex digits is refused, also None."""
    with pytest.raises(InvalidRequestError):
        client.similar(perceptual_hash)


@pytest.mark.parametrize("bits", [-1, 65, 2.5, "many", None])
def test_similar_needs_a_distance(client, bits):
    """Anything but 0 to 64 bits is refused."""
    with pytest.raises(InvalidRequestError):
        client.similar("0" * 16, bits)


# delete


def test_delete_removes_the_image_with_all_its_urls(client_setup, client, site, picture):
    """After a delete no method finds the image, and its blob is removed."""
    data = picture()
    for path in ("/a", "/b"):
        stored = client.store(site + path, data, "me")
    content_hash = stored["content_hash"]
    assert client_setup.blobs.get(content_hash) == data
    client.delete(content_hash)
    assert client.lookup_many([f"{site}/a", f"{site}/b"]) == {}
    assert client.search(site) == []
    assert client.get_meta(content_hash) is None
    assert content_hash not in {
        e["content_hash"] for e in client.similar(stored["perceptual_hash"])
    }
    assert client_setup.blobs.get(content_hash) is None
    with pytest.raises(NotFoundError):
        client.get_bytes(content_hash)
    with pytest.raises(NotFoundError):
        client.delete(content_hash)


def test_a_delete_makes_an_older_capture_the_newest(client, site, picture):
    """After a delete of the newest image a URL gives its older image again."""
    old, new = picture(), picture()
    for data in (old, new):
        client.store(f"{site}/a", data, "me")
    client.delete(hash_of(new))
    assert client.lookup(f"{site}/a")["content_hash"] == hash_of(old)


def test_a_deleted_image_can_be_stored_again(client, site, picture):
    """A store after a delete creates the image again."""
    data = picture()
    for _ in range(2):
        assert client.store(f"{site}/a", data, "me")["created"] is True
        client.delete(hash_of(data))


# buckets


def test_a_bucket_is_a_name_space_of_captures(client, site, bucket, picture):
    """A capture is visible only in its bucket; the blob is shared."""
    url, data = f"{site}/a.png", picture()
    entry = client.store(url, data, "me", bucket=bucket)
    content_hash, perceptual_hash = entry["content_hash"], entry["perceptual_hash"]
    assert entry["bucket"] == bucket
    assert client.get_bytes(content_hash, bucket=bucket) == data
    assert client.get_meta(content_hash, bucket=bucket)["bucket"] == bucket
    for other in ("", f"{bucket}-other"):
        assert client.lookup(url, bucket=other) is None
        assert client.lookup_many([url], bucket=other) == {}
        assert client.search(site, bucket=other) == []
        assert client.similar(perceptual_hash, 0, bucket=other) == []
        assert client.get_meta(content_hash, bucket=other) is None
        with pytest.raises(NotFoundError):
            client.get_bytes(content_hash, bucket=other)
        with pytest.raises(NotFoundError):
            client.delete(content_hash, bucket=other)
    assert client.store(url, data, "me", bucket=f"{bucket}-other")["created"] is False


def test_without_a_bucket_reading_looks_in_all(client, site, bucket, picture):
    """A client without a bucket finds URLs, images and look-alikes anywhere; it deletes in ""."""
    url, data = f"{site}/a.png", picture()
    entry = client.store(url, data, "me", bucket=bucket)
    assert client.lookup(url)["bucket"] == bucket
    assert client.lookup_many([url])[url]["bucket"] == bucket
    assert [e["bucket"] for e in client.search(site)] == [bucket]
    assert [e["bucket"] for e in client.similar(entry["perceptual_hash"], 0)] == [bucket]
    assert client.get_meta(entry["content_hash"])["bucket"] == bucket
    assert client.get_bytes(entry["content_hash"]) == data
    assert client.get_meta(entry["content_hash"], bucket="") is None
    with pytest.raises(NotFoundError):
        client.get_bytes(entry["content_hash"], bucket="")
    with pytest.raises(NotFoundError):
        client.delete(entry["content_hash"])


def test_the_bucket_of_the_client_is_the_default_of_its_calls(client_setup, site, bucket, picture):
    """A client with a bucket uses it, unless a call names another one."""
    url, data, elsewhere = f"{site}/a.png", picture(), picture()
    with client_setup.open_client(bucket=bucket) as client:
        client.store(url, elsewhere, "me", bucket="")
        assert client.lookup(url) is None
        assert client.lookup_many([url]) == {}
        assert client.search(site) == []
        entry = client.store(url, data, "me")
        assert entry["bucket"] == bucket
        assert client.lookup(url)["content_hash"] == hash_of(data)
        assert client.lookup(url, bucket="")["content_hash"] == hash_of(elsewhere)
        assert client.lookup_many([url], bucket="")[url]["bucket"] == ""
        assert [e["bucket"] for e in client.search(site)] == [bucket]
        assert [e["bucket"] for e in client.search(site, bucket="")] == [""]
        assert client.similar(entry["perceptual_hash"], 0, bucket="") == []
        assert len(client.similar(entry["perceptual_hash"], 0)) == 1
        assert client.get_bytes(hash_of(data)) == data
        assert client.get_meta(hash_of(data), bucket="") is None
        client.delete(hash_of(data))
        assert client.lookup(url) is None
        assert client.lookup(url, bucket="")["content_hash"] == hash_of(elsewhere)


def test_a_delete_in_one_bucket_leaves_the_others(client_setup, client, site, bucket, picture):
    """The blob is removed with the captures of the last bucket."""
    data = picture()
    for name in (bucket, f"{bucket}-2"):
        client.store(f"{site}/a", data, "me", bucket=name)
    client.delete(hash_of(data), bucket=bucket)
    assert client.lookup(f"{site}/a", bucket=bucket) is None
    assert client.get_bytes(hash_of(data), bucket=f"{bucket}-2") == data
    client.delete(hash_of(data), bucket=f"{bucket}-2")
    assert client.lookup(f"{site}/a") is None
    assert client_setup.blobs.get(hash_of(data)) is None


# serve_url, health, stats, closing


def test_serve_url_contains_hash_and_bucket(client, bucket):
    """The URL has the hash and, percent-encoded, the bucket."""
    assert client.serve_url(UNKNOWN_HASH).endswith(f"/serve/{UNKNOWN_HASH}")
    odd_bucket = f"{bucket} &/?ü"
    assert client.serve_url(UNKNOWN_HASH, bucket=odd_bucket).endswith(
        f"/serve/{UNKNOWN_HASH}?bucket={quote(odd_bucket, safe='')}"
    )


def test_serve_url_uses_the_bucket_of_the_client(client_setup, bucket):
    """A client with a bucket returns URLs with this bucket."""
    with client_setup.open_client(bucket=bucket) as client:
        assert client.serve_url(UNKNOWN_HASH).endswith(f"?bucket={bucket}")
        assert client.serve_url(UNKNOWN_HASH, bucket="").endswith(UNKNOWN_HASH)


def test_serve_url_opens_on_a_service(client_setup, client, site, bucket, picture):
    """The URL of a service returns the picture; an embedded client returns the default address."""
    data = picture()
    odd_bucket = f"{bucket} &/?ü"
    client.store(f"{site}/a.png", data, "me", bucket=odd_bucket)
    address = client.serve_url(hash_of(data), bucket=odd_bucket)
    if client_setup.name.startswith("http"):
        answer = httpx.get(address, trust_env=False, timeout=PATIENCE)
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-type"] == "image/png"
    else:
        assert address.startswith("http://127.0.0.1:8010/serve/")


def test_health_is_ok(client):
    """A working cache reports the status "ok"."""
    assert client.health()["status"] == "ok"


def test_stats_count_images_captures_and_bytes(client, site, bucket, picture):
    """Images are counted once, captures per URL and bucket; a delete subtracts them."""
    before, data = client.stats(), picture()
    assert before.keys() == {"images", "captures", "bytes", "damaged"}
    for path in ("/a", "/b", "/a"):
        client.store(site + path, data, "me", bucket=bucket)
    after = client.stats()
    grown = {key: after[key] - before[key] for key in before}
    assert grown == {"images": 1, "captures": 2, "bytes": len(data), "damaged": 0}
    client.delete(hash_of(data), bucket=bucket)
    assert client.stats() == before


def test_buckets_are_those_with_captures(client, site, bucket, picture):
    """`buckets` counts the captures of each bucket, sorted by name, without empty buckets."""
    before, data, odd_bucket = client.buckets(), picture(), f"{bucket} ü/%"
    for path, name in (("/a", bucket), ("/b", bucket), ("/a", odd_bucket)):
        client.store(site + path, data, "me", bucket=name)
    after = client.buckets()
    assert {name: count for name, count in after.items() if name not in before} == {
        bucket: 2,
        odd_bucket: 1,
    }
    assert list(after) == sorted(after)
    client.delete(hash_of(data), bucket=odd_bucket)
    assert odd_bucket not in client.buckets()


def test_closing_twice_is_harmless(client_setup):
    """A client may be closed twice, used before or not, with and without `with`."""
    for use in (True, False):
        client = client_setup.open_client()
        with client:
            if use:
                client.health()
        client.close()
        client.close()


def test_the_next_client_sees_what_the_last_one_stored(client_setup, site, picture):
    """An image is still there after its client is closed."""
    data = picture()
    with client_setup.open_client() as client:
        client.store(f"{site}/a", data, "me")
    with client_setup.open_client() as client:
        assert client.get_bytes(client.lookup(f"{site}/a")["content_hash"]) == data

"""ImageCache on files: its rules, and its behaviour with damage, concurrency and many processes."""

import os
import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from sqlalchemy.engine import URL

from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.core.errors import (
    ConfigurationError,
    ImgCacheError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.late_decoding import decode_next
from imgcache_scrapy.engine.snapshots import snapshots_of
from tests.support import lists
from tests.support.bombs import png
from tests.support.pictures import encoded, noise
from tests.support.programs import (
    assert_no_row_without_blob,
    blobs,
    catalog_of,
    forked_program,
    images,
)

ROOT = Path(__file__).parents[2]
PHOTOS = [
    path
    for path in sorted((ROOT / "example_project" / "photos").iterdir())
    if path.suffix in {".jpg", ".png", ".webp"}
]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HERE = "http://a.test/here.png"
THERE = "http://a.test/there.png"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("IMGCACHE_DATABASE_URL", "IMGCACHE_BLOBS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Open a cache for property tests, whose examples use different URLs."""
    with closing(ImageCache.in_folder(tmp_path_factory.mktemp("shared"))) as cache:
        yield cache


def picture(seed=1, size=(32, 24), kind="PNG", **options):
    return encoded(noise(*size, seed=seed), kind, **options)


A, B, C = (picture(seed) for seed in range(3))
ZERO = "0" * 16
A_HASH = content_hash_of(A)


def store(cache, data=A, url=HERE, *, at=None, **options):
    """Store with default arguments; `at` is a time, or a number of hours after noon."""
    time = NOON + timedelta(hours=at) if isinstance(at, int) else at
    return cache.store(url, data, "test", lookup_time=time, **options)


def found(cache, url=HERE, bucket=None):
    """Return the content hash that a lookup gives."""
    entry = cache.catalog.lookup_many([url], bucket).get(url)
    return entry and entry["content_hash"]


def blob_path(folder, content_hash=A_HASH):
    return folder / "blobs" / blob_key(content_hash)


# Storing


@given(data=st.binary(min_size=1))
def test_any_bytes_come_back_unchanged(shared, data):
    """Any bytes are stored under their hash and come back unchanged."""
    entry = store(shared, data)
    assert entry["content_hash"] == content_hash_of(data)
    assert entry["file_size_bytes"] == len(data)
    assert shared.get_image(entry["content_hash"])[0] == data


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_photographs_come_back_unchanged(shared, path):
    """An entry has the size of a photograph as displayed, and the bytes are not re-encoded."""
    data = path.read_bytes()
    entry = store(shared, data, path.as_uri())
    with Image.open(path) as image:
        assert (entry["width"], entry["height"]) == ImageOps.exif_transpose(image).size
        assert entry["content_type"] == Image.MIME[image.format]
    assert len(entry["perceptual_hash"]) == 16
    assert shared.get_image(entry["content_hash"]) == (data, entry["content_type"])


def test_an_entry_is_complete(cache):
    """Store, lookup and meta return the same complete entry."""
    before = datetime.now(UTC)
    entry = store(cache, at=0, bucket="b", filename="cat.png")
    assert entry.pop("created") is True
    assert before <= datetime.fromisoformat(entry.pop("created_at")) <= datetime.now(UTC)
    assert len(entry.pop("perceptual_hash")) == 16
    assert entry == {
        "url": HERE,
        "key": HERE,
        "content_hash": A_HASH,
        "content_type": "image/png",
        "file_size_bytes": len(A),
        "original_filename": "cat.png",
        "width": 32,
        "height": 24,
        "client_name": "test",
        "lookup_time": "2026-06-01T12:00:00+00:00",
        "bucket": "b",
    }
    assert cache.catalog.lookup_many([HERE, THERE]) == {HERE: cache.catalog.get_meta(A_HASH, "b")}
    assert entry.items() <= cache.catalog.get_meta(A_HASH, "b").items()


def test_an_image_is_created_once(cache, folder):
    """Only the first store of the same bytes reports `created`, and the bytes are stored once."""
    assert [store(cache, url=url)["created"] for url in (HERE, HERE, THERE)] == [True, False, False]
    assert cache.catalog.stats() == {"images": 1, "captures": 2, "bytes": len(A), "damaged": 0}
    assert blobs(folder) == {A_HASH: A}


def test_known_bytes_under_a_new_url_add_a_capture(cache):
    """The second URL of an image is a hit, too."""
    store(cache)
    store(cache, url=THERE)
    assert found(cache, HERE) == found(cache, THERE) == A_HASH


def test_storing_again_renews_the_capture(cache):
    """Storing the same image under the same URL updates the time of its capture."""
    store(cache, at=0)
    entry = store(cache, at=1)
    assert entry["lookup_time"] == "2026-06-01T13:00:00+00:00"
    assert cache.catalog.stats()["captures"] == 1


@pytest.mark.parametrize("times", [(None, None, None), (0, 1, 2), (0, 0, 0)])
def test_a_url_that_changes_back_gives_the_old_image(cache, times):
    """After A, B and A again the URL gives A, even if all three have the same time."""
    for data, at in zip((A, B, A), times, strict=True):
        store(cache, data, at=at)
    assert found(cache) == A_HASH
    assert cache.catalog.stats()["captures"] == 3


def test_an_older_capture_stored_later_is_not_the_newest(cache):
    """A capture with an earlier time does not replace the newest one."""
    store(cache, A, at=1)
    store(cache, B, at=0)
    assert found(cache) == A_HASH


@pytest.mark.parametrize(
    "time",
    [
        datetime(2026, 6, 1, 12),  # noqa: DTZ001
        NOON,
        NOON.astimezone(timezone(timedelta(hours=-7))),
    ],
    ids=["naive", "UTC", "other zone"],
)
def test_times_are_converted_to_utc(cache, time):
    """Naive times are taken as UTC, others are converted."""
    assert store(cache, at=time)["lookup_time"] == "2026-06-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("url", "filename", "expected"),
    [
        ("http://a.test/pics/cat%20one.png?size=1", None, "cat one.png"),
        ("http://a.test/pics/cat.png", "dog.png", "dog.png"),
        ("http://a.test/", None, None),
    ],
)
def test_the_filename_is_given_or_taken_from_the_url(cache, url, filename, expected):
    """The caller's file name has priority over the last part of the URL's path."""
    assert store(cache, url=url, filename=filename)["original_filename"] == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"])
def test_type_and_size_come_from_the_bytes(shared, kind):
    """The content type and the size come from the bytes, not from the URL."""
    entry = store(shared, picture(kind=kind))
    assert (entry["content_type"], entry["width"], entry["height"]) == (Image.MIME[kind], 32, 24)
    assert shared.get_image(entry["content_hash"])[1] == Image.MIME[kind]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_respect_the_exif_orientation(shared, orientation):
    """Width and height are exchanged if EXIF turns the picture by 90 degrees."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    entry = store(shared, picture(kind="JPEG", exif=exif))
    sideways = orientation >= 5
    assert (entry["width"], entry["height"]) == ((24, 32) if sideways else (32, 24))


@pytest.mark.parametrize(
    ("data", "content_type", "error"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "format"),
        (random.Random(1).randbytes(999), "application/octet-stream", "format"),
        (A[:-99], "image/png", "broken"),
        (picture(kind="JPEG")[:200], "image/jpeg", "broken"),
        (b"\0", "application/octet-stream", "format"),
        (png(10_000, 10_001), "image/png", "too_large"),
    ],
    ids=["svg", "random", "truncated png", "truncated jpeg", "one byte", "too large"],
)
def test_an_undecodable_image_is_stored_with_the_reason(shared, data, content_type, error):
    """An undecodable image has bytes, type and URL, and neither a size nor a perceptual hash."""
    entry = store(shared, data, url=f"http://a.test/{content_hash_of(data)}")
    assert (entry["width"], entry["height"], entry["perceptual_hash"]) == (None, None, None)
    assert shared.get_image(entry["content_hash"]) == (data, content_type)
    assert found(shared, entry["url"]) == entry["content_hash"]
    assert entry["content_hash"] not in hashes(lists.similar(shared.catalog, ZERO, 64))
    while decode_next(shared):  # What is too large is known only later.
        pass
    assert shared.catalog.images([entry["content_hash"]])[entry["content_hash"]][5:] == (
        None,
        error,
    )


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_a_picture_of_more_than_8_bits_has_a_size_and_no_look_alikes(shared, mode):
    """Its hash would be that of a white or black picture, and it would look like all of those."""
    data = encoded(Image.new(mode, (30, 20), 1000), "TIFF")
    entry = store(shared, data, url=f"http://a.test/{mode}")
    assert (entry["width"], entry["height"], entry["perceptual_hash"]) == (30, 20, None)
    assert entry["content_hash"] not in hashes(lists.similar(shared.catalog, ZERO, 64))
    assert shared.catalog.images([entry["content_hash"]])[entry["content_hash"]][5:] == (None, None)


def test_an_image_not_yet_decoded_has_no_reason(cache, monkeypatch, real_decoders):
    """If the decoder cannot start, an image is stored without a size and without a reason."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    entry = store(cache)
    assert entry["width"] is None
    assert cache.catalog.images([A_HASH])[A_HASH][3:] == (None, None, None, None)
    assert cache.get_image(A_HASH)[0] == A


def test_empty_bytes_are_refused(cache):
    """A store of empty bytes is refused and records nothing."""
    with pytest.raises(InvalidRequestError, match="empty"):
        store(cache, b"")
    assert cache.catalog.stats()["captures"] == 0


# Buckets and finding


def hashes(entries):
    return [entry["content_hash"] for entry in entries]


def test_buckets_have_separate_captures(cache):
    """Each bucket has its own captures of a URL; without a bucket the newest of all is found."""
    store(cache, A, bucket="one", at=0)
    store(cache, B, bucket="two", at=1)
    store(cache, C, THERE, bucket="two", at=2)
    for bucket, expected in [("one", A), ("two", B), (None, B)]:
        assert found(cache, HERE, bucket) == content_hash_of(expected)
    for bucket, newest_first in [("one", [A]), ("two", [C, B]), ("", [])]:
        expected = list(map(content_hash_of, newest_first))
        assert hashes(lists.search(cache.catalog, "a.test", bucket)) == expected
        assert sorted(hashes(lists.similar(cache.catalog, ZERO, 64, bucket))) == sorted(expected)
    assert len(lists.similar(cache.catalog, ZERO, 64)) == 3


def test_bytes_and_meta_need_the_bucket_of_the_image(cache):
    """Bytes and metadata are found only in a bucket that has the image; "" is a bucket, too."""
    store(cache, bucket="one")
    assert cache.get_image(A_HASH, "one")[0] == A
    assert cache.catalog.get_meta(A_HASH, "one")["bucket"] == "one"
    for bucket in ("", "two"):
        assert cache.catalog.get_meta(A_HASH, bucket) is None
        with pytest.raises(NotFoundError):
            cache.get_image(A_HASH, bucket)


def test_a_delete_affects_one_bucket(cache, folder):
    """The other bucket keeps its captures; the blob is removed with the last capture."""
    for bucket in ("one", "two"):
        for url in (HERE, THERE):
            store(cache, url=url, bucket=bucket)
    cache.delete(A_HASH, "one")
    assert found(cache, HERE, "one") is None
    assert found(cache, HERE, "two") == A_HASH
    assert cache.get_image(A_HASH, "two")[0] == A
    cache.delete(A_HASH, "two")
    assert cache.catalog.stats() == {"images": 0, "captures": 0, "bytes": 0, "damaged": 0}
    assert blobs(folder) == {}


def test_a_delete_of_an_image_not_in_the_bucket_fails(cache):
    """An unknown image, or one of another bucket, is not found, and nothing changes."""
    store(cache, bucket="one")
    for content_hash, bucket in [(A_HASH, ""), (A_HASH, "two"), ("0" * 64, "one")]:
        with pytest.raises(NotFoundError):
            cache.delete(content_hash, bucket)
    assert cache.get_image(A_HASH, "one")[0] == A


def test_a_deleted_image_can_be_stored_again(cache):
    """A store after a delete reports a new image."""
    store(cache)
    cache.delete(A_HASH)
    assert store(cache)["created"]
    assert cache.get_image(A_HASH)[0] == A


@pytest.mark.parametrize("part", ["50%", "_", "\\", "Cat", "é"])
def test_search_is_literal(cache, part):
    """There are no wildcards and no escapes, and the search is case-sensitive."""
    other = {"50%": "505", "_": "x", "\\": "x", "Cat": "cat", "é": "e"}[part]
    for text in (part, other):
        store(cache, url=f"ftp:{text}.png")
    assert [entry["url"] for entry in lists.search(cache.catalog, f":{part}.")] == [
        f"ftp:{part}.png"
    ]


def test_search_gives_each_url_once_newest_first(cache):
    """Search lists the newest image of each URL; a limit keeps the first ones."""
    for data, url, at in [(A, HERE, 0), (B, THERE, 1), (C, HERE, 2)]:
        store(cache, data, url, at=at)
    expected = [content_hash_of(C), content_hash_of(B)]
    assert hashes(lists.search(cache.catalog, "a.test")) == expected
    assert hashes(lists.search(cache.catalog, "a.test", limit=1)) == expected[:1]


def test_similar_agrees_with_brute_force(cache):
    """Photographs in three sizes are found, measured and sorted as by comparing all pairs."""
    entries = []
    for path in PHOTOS:
        with Image.open(path) as photo:
            for side in (600, 300, 150):
                copy = photo.convert("RGB")
                copy.thumbnail((side, side))
                file = BytesIO()
                copy.save(file, "JPEG", quality=70)
                entries.append(store(cache, file.getvalue(), f"{path.as_uri()}?{side}"))
    for entry_asked in entries[::5]:
        query_hash = int(entry_asked["perceptual_hash"], 16)
        distances = sorted(
            ((int(entry["perceptual_hash"], 16) ^ query_hash).bit_count(), entry["content_hash"])
            for entry in entries
        )
        for limit, distance in [(None, 0), (None, 4), (None, 14), (7, 26), (None, 64), (2, 4)]:
            similar = lists.similar(cache.catalog, f"{query_hash:016x}", distance, limit=limit)
            expected = [(d, name) for d, name in distances if d <= distance][:limit]
            assert [(x["distance"], x["content_hash"]) for x in similar] == expected


# Damage


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "one bit flipped": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([A[-1] ^ 1])),
    "exchanged": lambda path: path.write_bytes(B),
    "deleted": Path.unlink,
}


@pytest.fixture(params=DAMAGES)
def damage(request, folder):
    """Return a function that damages the blob, for each kind of damage."""
    return lambda: DAMAGES[request.param](blob_path(folder))


def test_damaged_bytes_are_not_returned(cache, damage):
    """Every read of damaged bytes raises NotFoundError."""
    store(cache)
    damage()
    for _ in range(2):
        with pytest.raises(NotFoundError):
            cache.get_image(A_HASH)


def test_a_damaged_image_is_a_miss_everywhere(cache, damage):
    """After the first failed read no query returns the image; other images are still found."""
    store(cache, bucket="one")
    store(cache, B, THERE, bucket="one")
    damage()
    with pytest.raises(NotFoundError):
        cache.get_image(A_HASH, "one")
    for bucket in ("one", None):
        assert found(cache, HERE, bucket) is None
        assert hashes(lists.search(cache.catalog, "a.test", bucket)) == [content_hash_of(B)]
        assert hashes(lists.similar(cache.catalog, ZERO, 64, bucket)) == [content_hash_of(B)]
    assert cache.catalog.get_meta(A_HASH, "one") is None
    assert cache.catalog.stats()["damaged"] == 1


@pytest.mark.parametrize("url", [HERE, THERE], ids=["same URL", "other URL"])
def test_the_next_store_repairs_a_damaged_image(cache, folder, damage, url):
    """Storing the same bytes under any URL and in any bucket repairs the image everywhere."""
    store(cache)
    damage()
    with pytest.raises(NotFoundError):
        cache.get_image(A_HASH)
    assert not store(cache, url=url, bucket="another")["created"]
    assert cache.get_image(A_HASH)[0] == A
    assert found(cache, HERE) == A_HASH
    assert cache.catalog.stats()["damaged"] == 0
    assert blobs(folder) == {A_HASH: A}


@pytest.mark.parametrize("kind", ["truncated", "emptied", "deleted"])
def test_a_store_rewrites_a_lost_or_truncated_blob(cache, folder, kind):
    """A store writes the blob again, even if the catalog does not know about the damage."""
    store(cache)
    DAMAGES[kind](blob_path(folder))
    store(cache)
    assert blobs(folder) == {A_HASH: A}


def test_damage_found_during_a_store_is_repaired_by_it(cache, folder):
    """A store does not clear the mark of damage without writing the bytes."""
    store(cache)
    with ThreadPoolExecutor(1) as pool, catalog_of(folder) as reader:
        reader.execute("BEGIN IMMEDIATE")
        storing = pool.submit(store, cache)
        wait([storing], timeout=0.3)
        DAMAGES["one bit flipped"](blob_path(folder))
        reader.execute("UPDATE image SET damaged = 1")
        reader.execute("COMMIT")
        storing.result()
    assert cache.get_image(A_HASH)[0] == A


def test_a_read_checks_again_before_it_marks_damage(cache, folder):
    """Bytes that are missing during a concurrent delete and store are returned after it."""
    store(cache)
    with ThreadPoolExecutor(1) as pool, catalog_of(folder) as writer:
        writer.execute("BEGIN IMMEDIATE")
        blob_path(folder).unlink()
        reading = pool.submit(cache.get_image, A_HASH)
        assert not wait([reading], timeout=0.3).done
        blob_path(folder).write_bytes(A)
        writer.execute("COMMIT")
        assert reading.result()[0] == A
    assert cache.catalog.stats()["damaged"] == 0


def test_a_damaged_image_can_be_deleted(cache, folder, damage):
    """A delete removes a damaged image although queries do not find it."""
    store(cache)
    damage()
    with pytest.raises(NotFoundError):
        cache.get_image(A_HASH)
    cache.delete(A_HASH)
    assert images(folder) == set(blobs(folder)) == set()


def test_a_failed_blob_write_records_nothing(cache, folder):
    """If the blob cannot be written, the store fails and the URL stays a miss."""
    blob_path(folder).parent.write_bytes(b"in the way")
    with pytest.raises(UnavailableError):
        store(cache)
    assert found(cache) is None
    assert images(folder) == set()
    blob_path(folder).parent.unlink()
    assert store(cache)["created"]


def test_a_broken_catalog_is_unavailable_without_details(cache, folder):
    """A database error becomes UnavailableError without the SQL statement and its parameters."""
    with catalog_of(folder) as database:
        database.execute("DROP TABLE image")
    for call in (
        store,
        found,
        lambda cache: cache.get_image(A_HASH),
        lambda cache: cache.catalog.stats(),
    ):
        with pytest.raises(UnavailableError, match="catalog failed") as failure:
            call(cache)
        assert failure.value.__cause__ is not None
        assert "a.test" not in str(failure.value)


# Opening


def test_a_cache_keeps_its_state_when_it_is_opened_again(folder):
    """Stored images and marks of damage are still there when the cache is opened again."""
    with closing(ImageCache.in_folder(folder)) as cache:
        store(cache)
        store(cache, B, THERE)
        DAMAGES["emptied"](blob_path(folder, content_hash_of(B)))
        with pytest.raises(NotFoundError):
            cache.get_image(content_hash_of(B))
    with closing(ImageCache.in_folder(folder)) as cache:
        assert cache.get_image(A_HASH)[0] == A
        assert found(cache, HERE) == A_HASH
        assert found(cache, THERE) is None
        assert not store(cache)["created"]


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "50%25",
        "what?",
        "#1",
        "Bilder für später",
        "a+b&c;d=e",
        os.fsdecode(b"\xff"),
    ],
)
def test_the_folder_may_have_any_name(tmp_path, name):
    """Catalog, its snapshot and blobs are in the given folder, and nowhere else."""
    with closing(ImageCache.in_folder(tmp_path / name / "cache")) as cache:
        store(cache)
        assert cache.get_image(A_HASH)[0] == A
    assert list(tmp_path.iterdir()) == [tmp_path / name]
    assert blobs(tmp_path / name / "cache") == {A_HASH: A}
    assert images(tmp_path / name / "cache") == {A_HASH}
    assert len(snapshots_of(tmp_path / name / "cache" / "catalog.sqlite3")) == 1


def test_a_relative_folder_is_resolved_once(tmp_path, monkeypatch):
    """A cache keeps its folder when the program changes its working directory."""
    monkeypatch.chdir(tmp_path)
    with closing(ImageCache.in_folder(Path("cache"))) as cache:
        store(cache)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        store(cache, B, THERE)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: found(cache, THERE), range(50))) == {content_hash_of(B)}
    assert set(blobs(tmp_path / "cache")) == images(tmp_path / "cache")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("replaced", [{"database"}, {"blobs"}, {"database", "blobs"}])
def test_the_environment_replaces_catalog_or_blobs(tmp_path, folder, monkeypatch, replaced):
    """Catalog and blobs are where the environment says; an unused folder is not created."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    if "database" in replaced:
        url = URL.create("sqlite", database=str(elsewhere / "catalog.sqlite3"))
        monkeypatch.setenv("IMGCACHE_DATABASE_URL", str(url))
    if "blobs" in replaced:
        monkeypatch.setenv("IMGCACHE_BLOBS_URL", (elsewhere / "blobs").as_uri())
    with closing(ImageCache.in_folder(folder)) as cache:
        store(cache)
        assert cache.get_image(A_HASH)[0] == A
    assert images(elsewhere if "database" in replaced else folder) == {A_HASH}
    assert blobs(elsewhere if "blobs" in replaced else folder) == {A_HASH: A}
    assert folder.exists() is (len(replaced) < 2)


def test_a_newer_catalog_is_refused(folder):
    """A catalog of a later version is not opened, and the error says what to do."""
    ImageCache.in_folder(folder).close()
    with catalog_of(folder) as database:
        database.execute("UPDATE imgcache_schema SET number = 99")
    with pytest.raises(ConfigurationError, match="upgrade"):
        ImageCache.in_folder(folder)


def test_a_file_in_place_of_the_folder_is_unavailable(tmp_path):
    """A cache cannot be opened if its folder is a file."""
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(UnavailableError, match="cannot be opened"):
        ImageCache.in_folder(tmp_path / "file")


@pytest.mark.parametrize("name", ["IMGCACHE_DATABASE_URL", "IMGCACHE_BLOBS_URL"])
@pytest.mark.parametrize("address", ["nonsense", "nonsense://host/path"])
def test_a_bad_address_raises_an_error_of_the_package(folder, monkeypatch, name, address):
    """Errors of the libraries become ImgCacheError."""
    monkeypatch.setenv(name, address)
    with pytest.raises(ImgCacheError):
        ImageCache.in_folder(folder)


# Concurrency


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.endurance)])
def test_threads_store_one_image_at_once(cache, folder, rounds):
    """Of 64 concurrent stores of the same bytes one creates the image, and all URLs are hits."""
    start = Barrier(64)

    def store_one(data, number):
        start.wait()
        return store(cache, data, f"{HERE}?{number}")["created"]

    pictures = [picture(seed) for seed in range(rounds)]
    with ThreadPoolExecutor(64) as pool:
        for data in pictures:
            created = Counter(pool.map(store_one, [data] * 64, range(64)))
            assert created == {True: 1, False: 63}
            found = cache.catalog.lookup_many(f"{HERE}?{number}" for number in range(64))
            assert hashes(found.values()) == [content_hash_of(data)] * 64
    totals = cache.catalog.stats()
    assert (totals["images"], totals["captures"]) == (rounds, 64 * rounds)
    assert blobs(folder) == {content_hash_of(data): data for data in pictures}


def test_a_store_waits_for_another_writer(cache, folder):
    """A store waits while another process writes, and completes afterwards."""
    store(cache)
    with ThreadPoolExecutor(1) as pool, catalog_of(folder) as other:
        other.execute("BEGIN IMMEDIATE")
        storing = pool.submit(store, cache, B, THERE)
        assert not wait([storing], timeout=0.3).done
        assert found(cache) == A_HASH
        other.execute("COMMIT")
        assert storing.result()["created"]


@contextmanager
def four_programs(text, *arguments):
    """Start the program four times, each with its own number as the last argument."""
    with ExitStack() as stack:
        yield [stack.enter_context(forked_program(text, *arguments, number)) for number in range(4)]


OPEN_MANY = """
for number in sys.stdin:
    ImageCache.in_folder(Path(sys.argv[1], number.strip())).close()
    print("opened", flush=True)
"""


@pytest.mark.parametrize("caches", [15, pytest.param(50, marks=pytest.mark.endurance)])
def test_processes_open_a_new_cache_at_once(tmp_path, caches):
    """One process creates the tables, and the others open the cache without an error."""
    with four_programs(OPEN_MANY, tmp_path) as processes:
        for number in range(caches):
            for process in processes:
                process.stdin.write(f"{number}\n")
            assert [process.stdout.readline() for process in processes] == ["opened\n"] * 4


STORE_MANY = """
folder, number = Path(sys.argv[1]), int(sys.argv[2])
sys.stdin.readline()
cache, created = ImageCache.in_folder(folder), 0
for i in range(150):
    data = b"image %d" % (number * 50 + i)
    created += cache.store(f"http://a.test/{number}/{i}", data, "test")["created"]
cache.close()
print(created)
"""


def test_processes_share_a_cache(folder):
    """Four processes that open a cache together and store overlapping images lose nothing."""
    with four_programs(STORE_MANY, folder) as processes:
        for process in processes:
            process.stdin.write("go\n")
        created = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0] * 4
    assert sum(map(int, created)) == 300
    with closing(ImageCache.in_folder(folder)) as cache:
        totals = cache.catalog.stats()
    assert (totals["images"], totals["captures"], totals["damaged"]) == (300, 600, 0)
    assert len(blobs(folder)) == 300
    assert_no_row_without_blob(folder)

"""ImageCache on real files: its rules, and what it keeps of them under damage, crowds and death."""

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
from tests.support.bombs import png
from tests.support.pictures import encoded, noise
from tests.support.programs import (
    assert_no_row_without_blob,
    blobs,
    catalog_of,
    images,
    program,
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
def _no_settings_from_outside(monkeypatch):
    for name in ("IMGCACHE_DATABASE_URL", "IMGCACHE_BLOBS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    with closing(ImageCache.in_folder(folder)) as cache:
        yield cache


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cache for property tests, whose examples are told apart by their URLs."""
    with closing(ImageCache.in_folder(tmp_path_factory.mktemp("shared"))) as cache:
        yield cache


def picture(seed=1, size=(32, 24), kind="PNG", **options):
    return encoded(noise(*size, seed=seed), kind, **options)


A, B, C = (picture(seed) for seed in range(3))
ZERO = "0" * 16
A_HASH = content_hash_of(A)


def store(cache, data=A, url=HERE, *, at=None, **options):
    """Store with less ceremony; hours after noon do for a time."""
    time = NOON + timedelta(hours=at) if isinstance(at, int) else at
    return cache.store(url, data, "test", lookup_time=time, **options)


def found(cache, url=HERE, bucket=None):
    """The hash that a lookup leads to."""
    entry = cache.catalog.lookup_many([url], bucket).get(url)
    return entry and entry["content_hash"]


def blob_path(folder, content_hash=A_HASH):
    return folder / "blobs" / blob_key(content_hash)


# Storing


@given(data=st.binary(min_size=1))
def test_bytes_come_back_as_they_came(shared, data):
    """Whatever the bytes, they are kept under their hash and come back equal."""
    entry = store(shared, data)
    assert entry["content_hash"] == content_hash_of(data)
    assert entry["file_size_bytes"] == len(data)
    assert shared.get_image(entry["content_hash"])[0] == data


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_photographs_come_back_as_they_came(shared, path):
    """Photographs are described by their size as displayed and are not recoded."""
    data = path.read_bytes()
    entry = store(shared, data, path.as_uri())
    with Image.open(path) as image:
        assert (entry["width"], entry["height"]) == ImageOps.exif_transpose(image).size
        assert entry["content_type"] == Image.MIME[image.format]
    assert len(entry["perceptual_hash"]) == 16
    assert shared.get_image(entry["content_hash"]) == (data, entry["content_type"])


def test_an_entry_tells_everything(cache):
    """Store, lookup and meta give the same entry, complete and ready for JSON."""
    before = datetime.now(UTC)
    entry = store(cache, at=0, bucket="b", filename="cat.png")
    assert entry.pop("created") is True
    assert before <= datetime.fromisoformat(entry.pop("created_at")) <= datetime.now(UTC)
    assert len(entry.pop("perceptual_hash")) == 16
    assert entry == {
        "url": HERE,
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
    """Only the first store of some bytes says that they are new; they are kept once."""
    assert [store(cache, url=url)["created"] for url in (HERE, HERE, THERE)] == [True, False, False]
    assert cache.catalog.stats() == {"images": 1, "captures": 2, "bytes": len(A), "damaged": 0}
    assert blobs(folder) == {A_HASH: A}


def test_known_bytes_under_a_new_url_record_the_url(cache):
    """The second URL of an image is a hit, too."""
    store(cache)
    store(cache, url=THERE)
    assert found(cache, HERE) == found(cache, THERE) == A_HASH


def test_the_same_image_again_renews_its_capture(cache):
    """One capture stays one capture, with the later time."""
    store(cache, at=0)
    entry = store(cache, at=1)
    assert entry["lookup_time"] == "2026-06-01T13:00:00+00:00"
    assert cache.catalog.stats()["captures"] == 1


@pytest.mark.parametrize("times", [(None, None, None), (0, 1, 2), (0, 0, 0)])
def test_a_url_that_changes_back_leads_back(cache, times):
    """After A, B and A again the URL gives A, also where all came at the same time."""
    for data, at in zip((A, B, A), times, strict=True):
        store(cache, data, at=at)
    assert found(cache) == A_HASH
    assert cache.catalog.stats()["captures"] == 3


def test_a_backfilled_capture_does_not_win(cache):
    """What was fetched earlier but stored later is history, not news."""
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
    ids=["naive", "UTC", "another zone"],
)
def test_times_are_utc(cache, time):
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
def test_the_filename_is_told_or_of_the_url(cache, url, filename, expected):
    """What the caller says counts, then the last part of the URL's path."""
    assert store(cache, url=url, filename=filename)["original_filename"] == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"])
def test_types_and_sizes_are_of_the_bytes(shared, kind):
    """Whatever the URL ends with, the type is by the bytes, the size that of the picture."""
    entry = store(shared, picture(kind=kind))
    assert (entry["content_type"], entry["width"], entry["height"]) == (Image.MIME[kind], 32, 24)
    assert shared.get_image(entry["content_hash"])[1] == Image.MIME[kind]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_as_displayed(shared, orientation):
    """A picture that EXIF lays on its side is as wide as it is seen."""
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
def test_what_cannot_be_decoded_is_kept_with_the_reason(shared, data, content_type, error):
    """It has bytes, a type and URLs like any image; it only has no size and no look-alikes."""
    entry = store(shared, data, url=f"http://a.test/{content_hash_of(data)}")
    assert (entry["width"], entry["height"], entry["perceptual_hash"]) == (None, None, None)
    assert shared.get_image(entry["content_hash"]) == (data, content_type)
    assert found(shared, entry["url"]) == entry["content_hash"]
    assert entry["content_hash"] not in hashes(shared.catalog.similar(ZERO, 64))
    assert shared.catalog.images([entry["content_hash"]])[entry["content_hash"]][5:] == (
        None,
        error,
    )


def test_what_was_not_decoded_yet_has_no_reason(cache, monkeypatch):
    """Where the decoder cannot start, an image is kept without a size, and nothing blames it."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    entry = store(cache)
    assert entry["width"] is None
    assert cache.catalog.images([A_HASH])[A_HASH][3:] == (None, None, None, None)
    assert cache.get_image(A_HASH)[0] == A


def test_no_bytes_are_no_image(cache):
    """Nothing is refused as such and leaves nothing behind."""
    with pytest.raises(InvalidRequestError, match="empty"):
        store(cache, b"")
    assert cache.catalog.stats()["captures"] == 0


# Buckets and finding


def hashes(entries):
    return [entry["content_hash"] for entry in entries]


def test_buckets_have_captures_of_their_own(cache):
    """Each bucket has its own history of a URL; without one the newest of all is found."""
    store(cache, A, bucket="one", at=0)
    store(cache, B, bucket="two", at=1)
    store(cache, C, THERE, bucket="two", at=2)
    for bucket, expected in [("one", A), ("two", B), (None, B)]:
        assert found(cache, HERE, bucket) == content_hash_of(expected)
    for bucket, newest_first in [("one", [A]), ("two", [C, B]), ("", [])]:
        expected = list(map(content_hash_of, newest_first))
        assert hashes(cache.catalog.search("a.test", bucket)) == expected
        assert sorted(hashes(cache.catalog.similar(ZERO, 64, bucket))) == sorted(expected)
    assert len(cache.catalog.similar(ZERO, 64)) == 3


def test_bytes_and_meta_are_of_one_bucket(cache):
    """An image is given to those who may look into a bucket that has it, the nameless included."""
    store(cache, bucket="one")
    assert cache.get_image(A_HASH, "one")[0] == A
    assert cache.catalog.get_meta(A_HASH, "one")["bucket"] == "one"
    for bucket in ("", "two"):
        assert cache.catalog.get_meta(A_HASH, bucket) is None
        with pytest.raises(NotFoundError):
            cache.get_image(A_HASH, bucket)


def test_a_delete_is_of_one_bucket_until_the_last(cache, folder):
    """The other bucket keeps its captures; image and bytes go with the last one."""
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


def test_what_is_not_in_the_bucket_cannot_be_deleted(cache):
    """Neither an unknown image nor one of another bucket only, which stays as it was."""
    store(cache, bucket="one")
    for content_hash, bucket in [(A_HASH, ""), (A_HASH, "two"), ("0" * 64, "one")]:
        with pytest.raises(NotFoundError):
            cache.delete(content_hash, bucket)
    assert cache.get_image(A_HASH, "one")[0] == A


def test_a_deleted_image_can_be_stored_again(cache):
    """It is new once more."""
    store(cache)
    cache.delete(A_HASH)
    assert store(cache)["created"]
    assert cache.get_image(A_HASH)[0] == A


@pytest.mark.parametrize("part", ["50%", "_", "\\", "Cat", "é"])
def test_search_takes_every_character_as_it_is(cache, part):
    """No wildcards, no escapes, upper case is not lower case."""
    other = {"50%": "505", "_": "x", "\\": "/", "Cat": "cat", "é": "e"}[part]
    for text in (part, other):
        store(cache, url=f"ftp:{text}.png")
    assert [entry["url"] for entry in cache.catalog.search(f":{part}.")] == [f"ftp:{part}.png"]


def test_search_gives_each_url_once_newest_first(cache):
    """Of a URL that changed the newest image is listed; a limit takes the first ones."""
    for data, url, at in [(A, HERE, 0), (B, THERE, 1), (C, HERE, 2)]:
        store(cache, data, url, at=at)
    expected = [content_hash_of(C), content_hash_of(B)]
    assert hashes(cache.catalog.search("a.test")) == expected
    assert hashes(cache.catalog.search("a.test", limit=1)) == expected[:1]


def test_look_alikes_are_those_of_brute_force(cache):
    """Photographs, each in three sizes: found, measured and sorted as by comparing all of them."""
    entries = []
    for path in PHOTOS:
        with Image.open(path) as photo:
            for side in (600, 300, 150):
                copy = photo.convert("RGB")
                copy.thumbnail((side, side))
                file = BytesIO()
                copy.save(file, "JPEG", quality=70)
                entries.append(store(cache, file.getvalue(), f"{path.as_uri()}?{side}"))
    for asked in entries[::5]:
        question = int(asked["perceptual_hash"], 16)
        distances = sorted(
            ((int(entry["perceptual_hash"], 16) ^ question).bit_count(), entry["content_hash"])
            for entry in entries
        )
        for limit, distance in [(None, 0), (None, 4), (None, 14), (7, 26), (None, 64), (2, 4)]:
            similar = cache.catalog.similar(f"{question:016x}", distance, limit=limit)
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
    return lambda: DAMAGES[request.param](blob_path(folder))


def test_damaged_bytes_are_not_given_away(cache, damage):
    """Whoever reads them is told that they are not there, again and again."""
    store(cache)
    damage()
    for _ in range(2):
        with pytest.raises(NotFoundError):
            cache.get_image(A_HASH)


def test_a_damaged_image_is_a_miss_everywhere(cache, damage):
    """Once a reader met the damage, nobody is led to the image; others are found as before."""
    store(cache, bucket="one")
    store(cache, B, THERE, bucket="one")
    damage()
    with pytest.raises(NotFoundError):
        cache.get_image(A_HASH, "one")
    for bucket in ("one", None):
        assert found(cache, HERE, bucket) is None
        assert hashes(cache.catalog.search("a.test", bucket)) == [content_hash_of(B)]
        assert hashes(cache.catalog.similar(ZERO, 64, bucket)) == [content_hash_of(B)]
    assert cache.catalog.get_meta(A_HASH, "one") is None
    assert cache.catalog.stats()["damaged"] == 1


@pytest.mark.parametrize("url", [HERE, THERE], ids=["same URL", "another URL"])
def test_the_next_store_heals(cache, folder, damage, url):
    """The same bytes under any URL and in any bucket heal the image for all who know it."""
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
def test_a_store_rewrites_a_blob_whose_loss_nobody_noticed(cache, folder, kind):
    """What is reported as stored is stored, even if the catalog believed it to be there."""
    store(cache)
    DAMAGES[kind](blob_path(folder))
    store(cache)
    assert blobs(folder) == {A_HASH: A}


def test_damage_that_is_found_while_a_store_waits_is_healed_by_it(cache, folder):
    """A store that saw the image sound does not declare bytes healed which it has not written."""
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


def test_a_reader_looks_again_before_it_calls_an_image_damaged(cache, folder):
    """Bytes that were missing because a delete and a store were under way are given after all."""
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
    """What nobody finds any more does not stay for ever."""
    store(cache)
    damage()
    with pytest.raises(NotFoundError):
        cache.get_image(A_HASH)
    cache.delete(A_HASH)
    assert images(folder) == set(blobs(folder)) == set()


def test_bytes_that_cannot_be_kept_are_not_said_to_be(cache, folder):
    """Where the blob cannot be written the store fails, and the URL stays a miss."""
    blob_path(folder).parent.write_bytes(b"in the way")
    with pytest.raises(UnavailableError):
        store(cache)
    assert found(cache) is None
    assert images(folder) == set()
    blob_path(folder).parent.unlink()
    assert store(cache)["created"]


def test_a_broken_catalog_is_unavailable_and_tells_no_secrets(cache, folder):
    """A failing database is one error of ours, without the statement and what it was asked."""
    with catalog_of(folder) as database:
        database.execute("DROP TABLE capture")
    for question in (
        store,
        found,
        lambda cache: cache.get_image(A_HASH),
        lambda cache: cache.catalog.stats(),
    ):
        with pytest.raises(UnavailableError, match="catalog failed") as failure:
            question(cache)
        assert failure.value.__cause__ is not None
        assert "a.test" not in str(failure.value)


# Opening


def test_a_cache_is_kept(folder):
    """What was stored, and what is known to be damaged, is there when it is opened again."""
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


@pytest.mark.parametrize("name", ["a b", "50%25", "what?", "#1", "Bilder für später", "a+b&c;d=e"])
def test_the_folder_may_have_any_name(tmp_path, name):
    """Catalog and blobs are in the folder that was named, and nowhere else."""
    with closing(ImageCache.in_folder(tmp_path / name / "cache")) as cache:
        store(cache)
        assert cache.get_image(A_HASH)[0] == A
    assert list(tmp_path.iterdir()) == [tmp_path / name]
    assert blobs(tmp_path / name / "cache") == {A_HASH: A}
    assert images(tmp_path / name / "cache") == {A_HASH}


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    """A program that changes its working folder keeps its cache."""
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
def test_the_environment_replaces_either_half(tmp_path, folder, monkeypatch, replaced):
    """Catalog or blobs are where the environment says; a folder that is not needed is not made."""
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


def test_a_newer_cache_is_refused(folder):
    """A catalog of a later version is not opened, and the message says what to do."""
    ImageCache.in_folder(folder).close()
    with catalog_of(folder) as database:
        database.execute("UPDATE imgcache_schema SET number = 99")
    with pytest.raises(ConfigurationError, match="upgrade"):
        ImageCache.in_folder(folder)


def test_a_folder_that_cannot_be_is_unavailable(tmp_path):
    """Where a file stands in its place, a cache is said to be unavailable."""
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(UnavailableError, match="cannot be opened"):
        ImageCache.in_folder(tmp_path / "file")


@pytest.mark.parametrize("name", ["IMGCACHE_DATABASE_URL", "IMGCACHE_BLOBS_URL"])
@pytest.mark.parametrize("address", ["nonsense", "nonsense://host/path"])
def test_an_address_that_cannot_work_is_an_error_of_ours(folder, monkeypatch, name, address):
    """Whatever the library underneath raises, the caller is told by the cache."""
    monkeypatch.setenv(name, address)
    with pytest.raises(ImgCacheError):
        ImageCache.in_folder(folder)


# Crowds and sudden death


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.endurance)])
def test_many_store_one_image_at_once(cache, folder, rounds):
    """Of 64 who store the same bytes under their own URLs one created them, and all are hits."""
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
    """While another process writes, a store is not answered; when it is done, it is."""
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
    """Run the program four times, each with a number of its own behind the arguments."""
    with ExitStack() as stack:
        yield [stack.enter_context(program(text, *arguments, number)) for number in range(4)]


OPEN_MANY = """
for number in sys.stdin:
    ImageCache.in_folder(Path(sys.argv[1], number.strip())).close()
    print("opened", flush=True)
"""


@pytest.mark.parametrize("caches", [15, pytest.param(50, marks=pytest.mark.endurance)])
def test_processes_open_a_new_cache_at_once(tmp_path, caches):
    """Whoever comes first makes the tables; nobody is turned away meanwhile."""
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
    """Four processes that open it together and store overlapping images lose nothing."""
    with four_programs(STORE_MANY, folder) as processes:
        for process in processes:
            process.stdin.write("go\n")
        created = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * 4
    assert sum(map(int, created)) == 300
    with closing(ImageCache.in_folder(folder)) as cache:
        totals = cache.catalog.stats()
    assert (totals["images"], totals["captures"], totals["damaged"]) == (300, 600, 0)
    assert len(blobs(folder)) == 300
    assert_no_row_without_blob(folder)

"""A catalog and its blobs: what belongs together is opened, anything else is told apart."""

import contextlib
from contextlib import closing
from uuid import uuid4

import pytest

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.engine.blobs.opening import open_blobs
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.pairing import mismatch_of
from tests.support import schema_1
from tests.support.programs import program

HERE = "http://a.test/here.png"
A, B = b"the bytes of an image", b"the bytes of another image"


@pytest.fixture(params=["files", "object store"])
def new_blobs(request, tmp_path, monkeypatch):
    """Make empty blob stores, of each kind, and give their URLs."""
    if request.param == "files":
        return lambda: f"{tmp_path.as_uri()}/{uuid4().hex}/blobs"
    object_store = request.getfixturevalue("object_store")
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return object_store.new_bucket


@pytest.fixture
def new_catalog(tmp_path):
    """Name new catalogs."""
    return lambda: f"sqlite:///{tmp_path / uuid4().hex}.sqlite3"


@pytest.fixture
def new_cache(new_catalog, new_blobs):
    """Make caches with an image each."""

    def make(data=A):
        catalog, blobs = new_catalog(), new_blobs()
        with closing(ImageCache(catalog, blobs)) as cache:
            cache.store(HERE, data, "test")
        return catalog, blobs

    return make


def assert_opens(catalog, blobs):
    """Expect a cache that works; return the id that both halves have."""
    with closing(ImageCache(catalog, blobs)) as cache:
        assert cache.store(HERE, A, "test")["url"] == HERE
        assert cache.get_image(content_hash_of(A))[0] == A
        cache_id = cache.catalog.cache_id
        assert not cache.catalog.adopts_blobs
        assert len(cache_id) == 32
        with closing(open_blobs(blobs)) as store:
            assert store.owner() == cache_id
        return cache_id


def assert_refused(catalog, blobs, words):
    """Expect one sentence with these words, now and later, and that nothing has changed."""
    with closing(open_blobs(blobs)) as store:
        before = store.owner(), sorted(store.scan())
        seen = set()
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=words) as refused:
                ImageCache(catalog, blobs)
            assert "\n" not in str(refused.value)
            seen.add(str(schema_1.rows(catalog)))
        assert (store.owner(), sorted(store.scan())) == before
        assert len(seen) == 1


def lost_mark(blobs):
    """Remove what tells whose the blobs are."""
    with closing(open_blobs(blobs)) as store:
        store.discard("cache_id")
        assert store.owner() is None


def emptied(blobs):
    """Remove everything from a blob store."""
    lost_mark(blobs)
    with closing(open_blobs(blobs)) as store:
        for found in list(store.scan()):
            store.discard(found.key)


def test_both_halves_of_a_cache_have_one_id(new_catalog, new_blobs, new_cache):
    """A new cache gets an id of its own, and keeps it however often it is opened."""
    new = new_catalog(), new_blobs()
    assert assert_opens(*new) == assert_opens(*new)
    assert assert_opens(*new_cache()) != assert_opens(*new)


def test_the_mark_is_no_blob(new_cache):
    """It is not listed, so that nothing counts, verifies or removes it."""
    catalog, blobs = new_cache()
    assert_opens(catalog, blobs)
    with closing(open_blobs(blobs)) as store:
        assert [found.content_hash for found in store.scan()] == [content_hash_of(A)]


def test_blobs_of_another_catalog_are_refused(new_cache):
    """Two caches with one half exchanged, even if both have the same image."""
    one, other = new_cache(), new_cache()
    assert_refused(one[0], other[1], "hold images of another catalog.*must be those of one cache")
    assert_opens(*one)
    assert_opens(*other)


def test_blobs_with_a_new_catalog_are_refused(new_catalog, new_cache):
    """As where the catalog was lost, or `--database` was given without `--blobs`."""
    one = new_cache()
    words = "has no images, but the blobs hold images of another catalog"
    assert_refused(new_catalog(), one[1], words)
    lost_mark(one[1])
    assert_refused(new_catalog(), one[1], words)
    assert_opens(*one)


def test_a_catalog_with_images_and_empty_blobs_is_refused(new_cache, new_blobs):
    """As where a folder is not mounted, or a bucket is the wrong one."""
    one = new_cache()
    words = "has images, but there are no blobs: check that their folder is mounted"
    assert_refused(one[0], new_blobs(), words)
    assert_opens(*one)
    emptied(one[1])
    assert_refused(*one, words)


def test_unmarked_blobs_that_are_evidently_others_are_refused(new_cache):
    """Where the mark was lost, it is decided by the images."""
    one, other = new_cache(A), new_cache(B)
    for _, blobs in (one, other):
        lost_mark(blobs)
    assert_refused(one[0], other[1], "hold images of another catalog.*must be those of one cache")
    assert_opens(*one)


def test_a_crash_before_the_mark_was_written_is_mended(new_catalog, new_blobs, new_cache):
    """The id is in the catalog first: the next opening writes it into the blobs, old or new."""
    new, used = (new_catalog(), new_blobs()), new_cache()
    ImageCache(*new).close()
    for catalog, blobs in (new, used):
        lost_mark(blobs)
        assert_opens(catalog, blobs)


def test_blobs_that_were_lost_while_the_mark_stayed_heal(new_cache):
    """Nothing is wrong with the cache as such: images are fetched again as they are asked for."""
    catalog, blobs = new_cache()
    with closing(open_blobs(blobs)) as store:
        store.delete(content_hash_of(A))
    assert_opens(catalog, blobs)


def put(blobs, images):
    with closing(open_blobs(blobs)) as store:
        store.put_many(images)


@pytest.mark.parametrize("share", [1, 2])
def test_a_catalog_of_schema_1_adopts_its_blobs(new_catalog, new_blobs, share):
    """Most of a sample of its images is enough, since some may have been lost unnoticed."""
    catalog, blobs = new_catalog(), new_blobs()
    images = schema_1.make(catalog, 300)
    put(blobs, dict(sorted(images.items())[::share]))
    assert_opens(catalog, blobs)


def test_a_catalog_of_schema_1_adopts_no_other_blobs(new_catalog, new_blobs, new_cache):
    """Neither those of another cache, marked or not, nor none at all."""
    catalog, others, cache = new_catalog(), new_blobs(), new_cache()
    schema_1.make(catalog, 300)
    put(others, {content_hash_of(B): B})
    words = "hold images of another catalog.*must be those of one cache"
    assert_refused(catalog, cache[1], words)
    assert_refused(catalog, others, words)
    assert_refused(catalog, new_blobs(), "there are no blobs")
    with schema_1.connected(catalog) as connection:
        assert connection.execute("SELECT number FROM imgcache_schema").fetchone()[0] == 1


def test_an_empty_catalog_of_schema_1_adopts_what_it_finds(new_catalog, new_blobs):
    """A crash may have left blobs that no image owns; also where the adoption was interrupted."""
    catalog, blobs = new_catalog(), new_blobs()
    schema_1.make(catalog)
    put(blobs, {content_hash_of(B): B})
    # Upgraded by somebody who had not come to its blobs.
    ImageCache(catalog, new_blobs()).close()
    with schema_1.connected(catalog) as connection:
        connection.execute("UPDATE imgcache_schema SET adopts_blobs = 1")
    assert_opens(catalog, blobs)
    lost_mark(blobs)
    assert_opens(catalog, blobs)


def test_an_empty_catalog_of_schema_1_does_not_take_anothers_blobs(new_catalog, new_cache):
    """A mark counts more than that it may adopt."""
    catalog, cache = new_catalog(), new_cache()
    schema_1.make(catalog)
    assert_refused(catalog, cache[1], "has no images, but the blobs hold images of another")


OPEN_AND_STORE = """
sys.stdin.readline()
cache = ImageCache(*sys.argv[1:3])
cache.store(f"http://a.test/{sys.argv[3]}", sys.argv[3].encode(), "test")
print(cache.catalog.cache_id, flush=True)
cache.close()
"""


def test_many_open_a_new_cache_at_once_and_store(new_catalog, new_blobs):
    """A process that comes while another one stores does not take its image for a stranger's."""
    catalog, blobs = new_catalog(), new_blobs()
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(program(OPEN_AND_STORE, catalog, blobs, number))
            for number in range(6)
        ]
        for process in processes:
            process.stdin.write("go\n")
        assert {process.stdout.readline().strip() for process in processes} == {
            assert_opens(catalog, blobs)
        }


def test_blobs_out_of_reach_are_checked_later(new_catalog, tmp_path):
    """Lookups go on meanwhile; nothing is written or called damaged before it is sure."""
    catalog, folder = new_catalog(), tmp_path / "blobs"
    mark = folder / "cache_id"
    with closing(ImageCache(catalog, folder.as_uri())) as cache:
        image = cache.store(HERE, A, "test")["content_hash"]
    its_mark = mark.read_bytes()
    mark.unlink()
    # What stands in the place of the mark cannot be read as a file.
    mark.mkdir()
    with closing(ImageCache(catalog, folder.as_uri())) as cache:
        questions = (
            lambda: cache.get_image(image),
            lambda: cache.store(HERE, B, "test"),
            cache.check,
        )
        assert cache.catalog.lookup_many([HERE])[HERE]["content_hash"] == image
        for question in questions:
            with pytest.raises(UnavailableError, match="image storage"):
                question()
        mark.rmdir()
        mark.write_bytes(b"f" * 32)
        for question in questions:
            with pytest.raises(ConfigurationError, match="another catalog"):
                question()
        assert cache.catalog.lookup_many([HERE])[HERE]["content_hash"] == image
        assert cache.catalog.stats()["damaged"] == 0
        mark.write_bytes(its_mark)
        assert cache.get_image(image)[0] == A
        cache.check()


@pytest.mark.parametrize(
    ("sampled", "present", "has_blobs", "adopts", "words"),
    [
        (0, 0, False, False, None),
        (0, 0, False, True, None),
        (0, 0, True, True, None),
        (0, 0, True, False, "has no images"),
        (9, 0, False, False, "there are no blobs"),
        (9, 0, False, True, "there are no blobs"),
        (9, 0, True, True, "another catalog"),
        (9, 4, True, False, "another catalog"),
        (9, 5, True, False, None),
        (9, 9, True, True, None),
    ],
)
def test_what_is_told_of_unmarked_blobs(sampled, present, has_blobs, adopts, words):
    """Every combination of what is in the catalog and what is in the blobs."""
    trouble = mismatch_of(
        sampled=sampled, present=present, has_blobs=has_blobs, adopts_blobs=adopts
    )
    assert (trouble is None) == (words is None)
    assert words is None or words in trouble

"""A catalog and its blobs: a matching pair opens, any other combination is refused."""

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
from tests.support.programs import forked_program

HERE = "http://a.test/here.png"
A, B = b"the bytes of an image", b"the bytes of another image"


@pytest.fixture(params=["files", "object store"])
def new_blobs(request, tmp_path, monkeypatch):
    """Return a function that creates an empty blob store and returns its URL, for each kind."""
    if request.param == "files":
        return lambda: f"{tmp_path.as_uri()}/{uuid4().hex}/blobs"
    object_store = request.getfixturevalue("object_store")
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return object_store.new_bucket


@pytest.fixture
def new_catalog(tmp_path):
    """Return a function that returns the URL of a new catalog."""
    return lambda: f"sqlite:///{tmp_path / uuid4().hex}.sqlite3"


@pytest.fixture
def new_cache(new_catalog, new_blobs):
    """Return a function that creates a cache with one image."""

    def make(data=A):
        catalog, blobs = new_catalog(), new_blobs()
        with closing(ImageCache(catalog, blobs)) as cache:
            cache.store(HERE, data, "test")
        return catalog, blobs

    return make


def assert_opens(catalog, blobs):
    """Assert that a cache opens and works; return the id that catalog and blobs share."""
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
    """Assert that opening fails twice with a one-line error that has these words, and no change."""
    with closing(open_blobs(blobs)) as store:
        before = store.owner(), sorted(store.scan())
        states = set()
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=words) as refused:
                ImageCache(catalog, blobs)
            assert "\n" not in str(refused.value)
            states.add(str(schema_1.rows(catalog)))
        assert (store.owner(), sorted(store.scan())) == before
        assert len(states) == 1


def remove_mark(blobs):
    """Remove the object that says which catalog the blobs belong to."""
    with closing(open_blobs(blobs)) as store:
        store.discard("cache_id")
        assert store.owner() is None


def empty(blobs):
    """Remove everything from a blob store."""
    remove_mark(blobs)
    with closing(open_blobs(blobs)) as store:
        for found in list(store.scan()):
            store.discard(found.key)


def test_a_catalog_and_its_blobs_have_the_same_id(new_catalog, new_blobs, new_cache):
    """A new cache gets its own id and keeps it when it is opened again."""
    new = new_catalog(), new_blobs()
    assert assert_opens(*new) == assert_opens(*new)
    assert assert_opens(*new_cache()) != assert_opens(*new)


def test_the_mark_is_not_listed_as_a_blob(new_cache):
    """The mark is not listed, so that nothing counts, verifies or removes it."""
    catalog, blobs = new_cache()
    assert_opens(catalog, blobs)
    with closing(open_blobs(blobs)) as store:
        assert [found.content_hash for found in store.scan()] == [content_hash_of(A)]


def test_blobs_of_another_catalog_are_refused(new_cache):
    """The blobs of another cache are refused, even if both caches have the same image."""
    one, other = new_cache(), new_cache()
    assert_refused(one[0], other[1], "hold images of another catalog.*must be those of one cache")
    assert_opens(*one)
    assert_opens(*other)


def test_a_new_catalog_with_used_blobs_is_refused(new_catalog, new_cache):
    """This happens when the catalog was lost, or when `--database` is given without `--blobs`."""
    one = new_cache()
    words = "has no images, but the blobs hold images of another catalog"
    assert_refused(new_catalog(), one[1], words)
    remove_mark(one[1])
    assert_refused(new_catalog(), one[1], words)
    assert_opens(*one)


def test_a_catalog_with_images_and_empty_blobs_is_refused(new_cache, new_blobs):
    """This happens when a folder is not mounted, or when the bucket name is wrong."""
    one = new_cache()
    words = "has images, but there are no blobs: check that their folder is mounted"
    assert_refused(one[0], new_blobs(), words)
    assert_opens(*one)
    empty(one[1])
    assert_refused(*one, words)


def test_unmarked_blobs_of_another_catalog_are_refused(new_cache):
    """Without a mark, the images decide whether the blobs belong to the catalog."""
    one, other = new_cache(A), new_cache(B)
    for _, blobs in (one, other):
        remove_mark(blobs)
    assert_refused(one[0], other[1], "hold images of another catalog.*must be those of one cache")
    assert_opens(*one)


def test_a_missing_mark_is_written_again(new_catalog, new_blobs, new_cache):
    """The id is written to the catalog first, and the next opening writes it to the blobs."""
    new, used = (new_catalog(), new_blobs()), new_cache()
    ImageCache(*new).close()
    for catalog, blobs in (new, used):
        remove_mark(blobs)
        assert_opens(catalog, blobs)


def test_a_cache_with_lost_blobs_and_a_valid_mark_opens(new_cache):
    """A cache opens although a blob is lost; a later store writes the blob again."""
    catalog, blobs = new_cache()
    with closing(open_blobs(blobs)) as store:
        store.delete(content_hash_of(A))
    assert_opens(catalog, blobs)


def put(blobs, images):
    with closing(open_blobs(blobs)) as store:
        store.put_many(images)


@pytest.mark.parametrize("share", [1, 2])
def test_a_catalog_of_schema_1_adopts_its_blobs(new_catalog, new_blobs, share):
    """More than half of a sample of the images must exist, because some blobs may be lost."""
    catalog, blobs = new_catalog(), new_blobs()
    images = schema_1.make(catalog, 300)
    put(blobs, dict(sorted(images.items())[::share]))
    assert_opens(catalog, blobs)


def test_a_catalog_of_schema_1_refuses_other_blobs(new_catalog, new_blobs, new_cache):
    """It refuses the blobs of another cache, marked or not, and an empty blob store."""
    catalog, others, cache = new_catalog(), new_blobs(), new_cache()
    schema_1.make(catalog, 300)
    put(others, {content_hash_of(B): B})
    words = "hold images of another catalog.*must be those of one cache"
    assert_refused(catalog, cache[1], words)
    assert_refused(catalog, others, words)
    assert_refused(catalog, new_blobs(), "there are no blobs")
    with schema_1.connected(catalog) as connection:
        assert connection.execute("SELECT number FROM imgcache_schema").fetchone()[0] == 1


def test_an_empty_catalog_of_schema_1_adopts_any_unmarked_blobs(new_catalog, new_blobs):
    """A crash may have left blobs without rows; an interrupted adoption is completed."""
    catalog, blobs = new_catalog(), new_blobs()
    schema_1.make(catalog)
    put(blobs, {content_hash_of(B): B})
    # As if the process ended after the upgrade and before the adoption.
    ImageCache(catalog, new_blobs()).close()
    with schema_1.connected(catalog) as connection:
        connection.execute("UPDATE imgcache_schema SET adopts_blobs = 1")
    assert_opens(catalog, blobs)
    remove_mark(blobs)
    assert_opens(catalog, blobs)


def test_an_empty_catalog_of_schema_1_refuses_blobs_with_another_mark(new_catalog, new_cache):
    """A catalog that may adopt blobs still refuses those that are marked as another cache's."""
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


def test_processes_create_a_cache_together_and_store(new_catalog, new_blobs):
    """A process that opens the cache while another one stores accepts the other's image."""
    catalog, blobs = new_catalog(), new_blobs()
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(forked_program(OPEN_AND_STORE, catalog, blobs, number))
            for number in range(6)
        ]
        for process in processes:
            process.stdin.write("go\n")
        assert {process.stdout.readline().strip() for process in processes} == {
            assert_opens(catalog, blobs)
        }


def test_unreachable_blobs_are_checked_later(new_catalog, tmp_path):
    """Lookups work meanwhile; writes fail, and no image is marked as damaged before the check."""
    catalog, folder = new_catalog(), tmp_path / "blobs"
    mark = folder / "cache_id"
    with closing(ImageCache(catalog, folder.as_uri())) as cache:
        image = cache.store(HERE, A, "test")["content_hash"]
    saved_mark = mark.read_bytes()
    mark.unlink()
    # A folder in the place of the mark makes reading it fail.
    mark.mkdir()
    with closing(ImageCache(catalog, folder.as_uri())) as cache:
        calls = (
            lambda: cache.get_image(image),
            lambda: cache.store(HERE, B, "test"),
            cache.check,
        )
        assert cache.catalog.lookup_many([HERE])[HERE]["content_hash"] == image
        for call in calls:
            with pytest.raises(UnavailableError, match="image storage"):
                call()
        mark.rmdir()
        mark.write_bytes(b"f" * 32)
        for call in calls:
            with pytest.raises(ConfigurationError, match="another catalog"):
                call()
        assert cache.catalog.lookup_many([HERE])[HERE]["content_hash"] == image
        assert cache.catalog.stats()["damaged"] == 0
        mark.write_bytes(saved_mark)
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
def test_the_mismatch_of_unmarked_blobs(sampled, present, has_blobs, adopts, words):
    """Each combination of catalog and blobs gives the right error, or none."""
    trouble = mismatch_of(
        sampled=sampled, present=present, has_blobs=has_blobs, adopts_blobs=adopts
    )
    assert (trouble is None) == (words is None)
    assert words is None or words in trouble

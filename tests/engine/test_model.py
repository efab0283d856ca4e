"""A state machine: random calls, reopenings and damage, compared with a model of a few dicts."""

from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.core.errors import NotFoundError
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.decoding.child import info_of
from tests.support import lists
from tests.support.pictures import picture

IMAGES = {content_hash_of(data): data for data in (*map(picture, range(2)), b"no picture")}
PERCEPTUAL = {name: info_of(data).perceptual_hash for name, data in IMAGES.items()}
URLS = ("http://a.test/1", "http://a.test/2", "http://b.test/1")
BUCKETS = ("", "b")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(eq=False)
class ModelCapture:
    """A capture in the model; compared by identity, printed as a tuple."""

    url: str
    bucket: str
    image: str
    time: datetime


@dataclass
class Model:
    """The expected state of the cache: captures in the order they were made, and image states."""

    captures: list[ModelCapture] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def images(self):
        return {capture.image for capture in self.captures}

    def by_age(self, **wanted):
        """Return the captures with these attributes, the newest last; None matches any value."""
        return sorted(
            (
                capture
                for capture in self.captures
                if all(value in (None, getattr(capture, key)) for key, value in wanted.items())
            ),
            key=lambda capture: capture.time,
        )

    def newest(self, **wanted):
        """Return a list of the newest of these captures whose image is not damaged."""
        found = self.by_age(**wanted)
        return [capture for capture in found if capture.image not in self.marked][-1:]

    def store(self, image, url, bucket, time):
        is_new = image not in self.images()
        if image in self.marked or len(self.blobs.get(image, b"")) != len(IMAGES[image]):
            self.blobs[image] = IMAGES[image]
        self.marked.discard(image)
        newest = self.by_age(url=url, bucket=bucket)[-1:]
        if newest and newest[0].image == image:
            newest[0].time = max(newest[0].time, time)
        else:
            self.captures.append(ModelCapture(url, bucket, image, time))
        return is_new

    def read(self, image, bucket):
        if image in self.marked or not self.by_age(image=image, bucket=bucket):
            return None
        if self.blobs.get(image) != IMAGES[image]:
            self.marked.add(image)
            return None
        return IMAGES[image]

    def delete(self, image, bucket):
        had = self.by_age(image=image, bucket=bucket)
        self.captures = [capture for capture in self.captures if capture not in had]
        if had and image not in self.images():
            self.marked.discard(image)
            self.blobs.pop(image, None)
        return bool(had)

    def search(self, part, bucket, limit):
        found = [
            capture
            for url in URLS
            if part in url
            for capture in self.newest(url=url, bucket=bucket)
        ]
        order = self.by_age()
        return sorted(found, key=order.index, reverse=True)[:limit]

    def similar(self, query_hash, distance, bucket, limit):
        near = sorted(
            ((PERCEPTUAL[capture.image] ^ query_hash).bit_count(), capture.image, capture)
            for image in self.images() - self.marked
            if PERCEPTUAL[image] is not None
            for capture in self.newest(image=image, bucket=bucket)
        )
        return [(far, capture) for far, _, capture in near if far <= distance][:limit]


def values_of(entry):
    """Return the values of an entry that are compared with the model."""
    time = datetime.fromisoformat(entry["lookup_time"])
    return entry["url"], entry["bucket"], entry["content_hash"], time


some_image = st.sampled_from(list(IMAGES))
some_url = st.sampled_from(URLS)
some_bucket = st.sampled_from(BUCKETS)
any_bucket = st.sampled_from((*BUCKETS, None))
any_limit = st.sampled_from((None, 0, 1, 2))


some_store = st.tuples(some_image, some_url, some_bucket, st.integers(0, 3))

DAMAGES = {
    "one bit flipped": lambda data: bytes(byte ^ (at == 0) for at, byte in enumerate(data)),
    "emptied": lambda _: b"",
    "replaced": lambda _: b"something else",
    "deleted": lambda _: None,
}


class CacheMachine(RuleBasedStateMachine):
    """Each rule applies one operation to the cache and to the model, and compares the results."""

    def __init__(self):
        super().__init__()
        self.directory = TemporaryDirectory()
        self.folder = Path(self.directory.name)
        self.cache = ImageCache.in_folder(self.folder)
        self.model = Model()

    def teardown(self):
        self.cache.close()
        self.directory.cleanup()

    @rule(stores=st.lists(some_store, min_size=1, max_size=4))
    def store(self, stores):
        for image, url, bucket, hours in stores:
            time = NOON + timedelta(hours=hours)
            entry = self.cache.store(url, IMAGES[image], "test", bucket=bucket, lookup_time=time)
            assert entry["created"] is self.model.store(image, url, bucket, time)
            captures = self.model.by_age(url=url, bucket=bucket, image=image)
            assert values_of(entry) in map(astuple, captures)

    @rule(image=some_image, bucket=some_bucket)
    def get_bytes(self, image, bucket):
        data = self.model.read(image, bucket)
        if data is None:
            with pytest.raises(NotFoundError):
                self.cache.get_image(image, bucket)
        else:
            assert self.cache.get_image(image, bucket)[0] == data

    @rule()
    def get_all_bytes(self):
        for image, bucket in product(IMAGES, BUCKETS):
            self.get_bytes(image=image, bucket=bucket)

    @rule(image=some_image, bucket=some_bucket)
    def get_meta(self, image, bucket):
        entry = self.cache.catalog.get_meta(image, bucket)
        newest = self.model.newest(image=image, bucket=bucket)
        assert [values_of(entry) for entry in [entry] if entry] == list(map(astuple, newest))

    @rule(image=some_image, bucket=some_bucket)
    def delete(self, image, bucket):
        if self.model.delete(image, bucket):
            self.cache.delete(image, bucket)
        else:
            with pytest.raises(NotFoundError):
                self.cache.delete(image, bucket)

    @rule(part=st.sampled_from(("", "a.test", "/1", "A", "%")), bucket=any_bucket, limit=any_limit)
    def search(self, part, bucket, limit):
        entries = lists.search(self.cache.catalog, part, bucket, limit)
        expected = self.model.search(part, bucket, limit)
        assert list(map(values_of, entries)) == list(map(astuple, expected))

    @rule(
        image=some_image,
        distance=st.sampled_from((0, 4, 14, 28, 64)),
        bucket=any_bucket,
        limit=any_limit,
    )
    def similar(self, image, distance, bucket, limit):
        query_hash = PERCEPTUAL[image] or 0
        entries = lists.similar(self.cache.catalog, f"{query_hash:016x}", distance, bucket, limit)
        expected = self.model.similar(query_hash, distance, bucket, limit)
        found = [(entry["distance"], values_of(entry)) for entry in entries]
        assert found == [(far, astuple(capture)) for far, capture in expected]

    @rule()
    def reopen(self):
        self.cache.close()
        self.cache = ImageCache.in_folder(self.folder)

    @precondition(lambda self: self.model.blobs)
    @rule(data=st.data(), damage=st.sampled_from(list(DAMAGES)), is_detected=st.booleans())
    def damage(self, data, damage, is_detected):
        image = data.draw(st.sampled_from(sorted(self.model.blobs)))
        path = self.folder / "blobs" / blob_key(image)
        damaged = DAMAGES[damage](self.model.blobs.pop(image))
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
            self.model.blobs[image] = damaged
        if is_detected:
            self.get_all_bytes()

    @invariant()
    def every_url_gives_its_newest_image(self):
        for bucket in (*BUCKETS, None):
            entries = self.cache.catalog.lookup_many(URLS, bucket)
            newest = [c for url in URLS for c in self.model.newest(url=url, bucket=bucket)]
            assert sorted(map(values_of, entries.values())) == sorted(map(astuple, newest))
            assert all(entry["url"] == url for url, entry in entries.items())

    @invariant()
    def the_catalog_counts_correctly(self):
        images = self.model.images()
        assert self.cache.catalog.stats() == {
            "images": len(images),
            "captures": len(self.model.captures),
            "bytes": sum(len(IMAGES[image]) for image in images),
            "damaged": len(self.model.marked),
        }

    @invariant()
    def the_folder_contains_exactly_the_blobs_of_the_model(self):
        files = {
            path.parent.name + path.name: path.read_bytes()
            for path in (self.folder / "blobs").glob("*/*")
        }
        assert files == self.model.blobs


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=6, stateful_step_count=30)


@pytest.mark.endurance
class TestCacheLonger(CacheMachine.TestCase):
    """The same test with longer runs."""

    settings = settings(max_examples=100, stateful_step_count=30)

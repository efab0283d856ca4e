"""Freshness: stale images are asked for again, and are delivered if the site is in trouble."""

import sqlite3
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.combinations import combined
from tests.support.originals import TROUBLES, Original
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK

COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}
ALWAYS = {"IMGCACHE_MAX_AGE": 0, "FILES_EXPIRES": -1}
ONCE = {"RETRY_ENABLED": False}
in_each_way = pytest.mark.parametrize(
    ("component", "road"), combined(COMPONENTS, ["service", "embedded"]), indirect=["road"]
)


@pytest.fixture
def road(request):
    """Return the settings of a cache that is embedded, or behind a service."""
    if request.param == "embedded":
        return {}
    service = request.getfixturevalue("shared_service")
    return {"IMGCACHE_URL": service.url, "IMGCACHE_BUCKET": uuid4().hex}


def marked(seed):
    """Return a picture that no other test stores."""
    return jpeg(seed) + uuid4().bytes


@pytest.fixture
def original(site):
    """Return the answer for `/a.jpg`."""
    site.answers["/a.jpg"] = original = Original(marked(1))
    return original


@pytest.fixture
def crawl_picture(crawl, site):
    """Return a function that crawls `/a.jpg`."""
    return lambda *settings: crawl([{"image_urls": [f"{site.url}/a.jpg"]}], merged(*settings))


def merged(*settings):
    """Return one dictionary of settings."""
    return {name: value for each in settings for name, value in each.items()}


def result(done):
    """Return the only result of a crawl."""
    ((found,),) = [item["images"] for item in done.items]
    return found


@in_each_way
@pytest.mark.parametrize("count", [10, pytest.param(1000, marks=pytest.mark.endurance)])
def test_an_expired_crawl_moves_no_pictures(crawl, site, road, component, count):
    """Each image is asked for once with its validators, and no picture is sent again."""
    originals = {f"/{number}.jpg": Original(marked(number)) for number in range(count)}
    site.answers.update(originals)
    items = [{"image_urls": [f"{site.url}{path}"]} for path in originals]
    settings = merged(COMPONENTS[component], road, ALWAYS)
    assert crawl(items, settings).fates == {"stored": count}
    sent = sum(each.sent_bytes for each in originals.values())
    done = crawl(items, settings)
    assert done.fates == {"revalidated": count}
    assert site.images_asked() == dict.fromkeys(originals, 2)
    assert sum(each.sent_bytes for each in originals.values()) == sent
    assert done.stats["imgcache/bytes_saved"] == sent
    assert {item["images"][0]["status"] for item in done.items} == {"cached"}
    assert f"{count} revalidated" in done.log


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_renewed_capture_is_fresh_again(crawl_picture, original, site, tmp_path, component):
    """A capture that is too old is renewed by a 304, so that the next crawl does not ask."""
    settings = merged(COMPONENTS[component], {"IMGCACHE_MAX_AGE": 3600, "FILES_EXPIRES": -1})
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        old = client.store(
            f"{site.url}/a.jpg",
            original.body,
            "old",
            "2026-01-01T00:00:00Z",
            headers={"ETag": original.etag, "Cache-Control": "max-age=1"},
        )
    assert crawl_picture(settings).fates == {"revalidated": 1}
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        renewed = client.lookup(f"{site.url}/a.jpg")
    assert renewed["lookup_time"] > old["lookup_time"]
    assert renewed["created_at"] == old["created_at"]
    assert renewed["headers"]["Last-Modified"]
    assert renewed["headers"]["Cache-Control"] == "max-age=1"
    (tmp_path / "files").rename(tmp_path / "gone") if component != "pipeline" else None
    assert crawl_picture(settings).fates == {"hit": 1}
    assert original.requests == 1


@in_each_way
def test_the_same_bytes_are_revalidated(crawl_picture, site, road, component):
    """A site without validators sends the picture again; that saves nothing, but renews it."""
    site.answers["/a.jpg"] = original = Original(marked(1), has_validators=False)
    settings = merged(COMPONENTS[component], road, ALWAYS)
    crawl_picture(settings)
    done = crawl_picture(settings)
    assert done.fates == {"revalidated": 1}
    assert result(done)["status"] == "cached"
    assert "imgcache/bytes_saved" not in done.stats
    assert original.sent_bytes == 2 * len(original.body)


@in_each_way
def test_a_changed_picture_is_told(crawl_picture, original, road, tmp_path, component):
    """A → B → A ends at A, with three captures; results say what was there before."""
    settings = merged(COMPONENTS[component], road, ALWAYS)
    crawl_picture(settings)
    first = original.body
    original.body = marked(2)
    second = crawl_picture(settings)
    assert second.fates == {"stored": 1}
    original.body = first
    third = crawl_picture(settings)
    assert third.fates == {"duplicate": 1}
    address = road.get("IMGCACHE_URL", str(tmp_path / "cache"))
    with ImgCacheClient(address, bucket=road.get("IMGCACHE_BUCKET", "")) as client:
        entries = client.search("/a.jpg", bucket=road.get("IMGCACHE_BUCKET", ""))
        assert client.get_bytes(entries[0]["content_hash"]) == first
    if component != "middleware":
        changed, back = result(second), result(third)
        assert changed["changed"] is back["changed"] is True
        assert changed["previous_content_hash"] == back["content_hash"]
        assert back["previous_content_hash"] == changed["content_hash"]
        assert 0 < changed["distance"] == back["distance"] <= 64
    if not road:
        with sqlite3.connect(tmp_path / "cache" / "catalog.sqlite3") as catalog:
            assert catalog.execute("select count(*) from capture").fetchone() == (3,)
    if component != "pipeline":
        (file,) = (tmp_path / "files" / "full").iterdir()
        assert file.read_bytes() == first


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_site_in_trouble_gives_the_stale_pictures(crawl, site, tmp_path, component):
    """Whatever comes instead of a picture, the item gets the stale one, and the cache keeps it."""
    originals = {f"/{name}.jpg": Original(jpeg(seed)) for seed, name in enumerate(TROUBLES)}
    site.answers.update(originals)
    items = [{"image_urls": [site.url + path for path in originals]}]
    settings = merged(COMPONENTS[component], ALWAYS, ONCE)
    assert crawl(items, settings).fates == {"stored": len(TROUBLES)}
    for name, trouble in TROUBLES.items():
        originals[f"/{name}.jpg"].trouble = trouble
    for _ in range(2):
        done = crawl(items, settings)
        assert done.fates == {"hit": len(TROUBLES)}
        assert done.stats["imgcache/stale"] == len(TROUBLES)
        (item,) = done.items
        assert [found["status"] for found in item["images"]] == ["cached"] * len(TROUBLES)
        assert component == "middleware" or all(found["stale"] for found in item["images"])
    if component != "pipeline":
        files = {file.read_bytes() for file in (tmp_path / "files" / "full").iterdir()}
        assert files == {each.body for each in originals.values()}

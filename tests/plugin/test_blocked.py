"""Blocked images in real crawls: no component delivers one."""

import pytest

from imgcache_scrapy import ImgCacheClient, NotFoundError
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import redirect

IMAGES = {
    "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
    "IMAGES_STORE": "images",
}
COMPONENTS = {"pipeline": PIPELINE, "files": FILES, "images": IMAGES, "middleware": STOCK}
PLACEHOLDER = jpeg(1)


def delivered(done):
    return [image["url"].rsplit("/", 1)[1] for item in done.items for image in item["images"]]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_blocked_image_is_rejected(crawl, site, tmp_path, component):
    """One that is fetched is not delivered; one that is found is not even requested."""
    site.answers |= {"/blocked.jpg": PLACEHOLDER, "/hit.jpg": PLACEHOLDER, "/good.jpg": jpeg(2)}
    settings = COMPONENTS[component]
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(f"{site.url}/hit.jpg", PLACEHOLDER, "me")
        client.block(file_bytes=PLACEHOLDER, reason="no image yet")
    urls = [f"{site.url}/{name}.jpg" for name in ("blocked", "hit", "good")]
    done = crawl([{"image_urls": urls}], settings)
    assert delivered(done) == ["good.jpg"]
    assert done.fates == {"stored": 1, "rejected": 2}
    assert done.stats["imgcache/rejected/blocked"] == 2
    assert site.images_asked() == {"/blocked.jpg": 1, "/good.jpg": 1}
    assert not done.warnings
    assert "Traceback" not in done.log
    assert not list(tmp_path.glob(".scrapy/imgcache-spool/*"))


def test_a_blocked_image_that_is_deleted_does_not_come_back(crawl, site, tmp_path):
    """Each crawl asks the site again, and gets the picture once the site has one."""
    site.answers["/a.jpg"] = PLACEHOLDER
    items, settings = [{"image_urls": [f"{site.url}/a.jpg"]}], {"IMGCACHE_FAILURES_FIELD": "bad"}
    stored = crawl(items, PIPELINE | settings).items[0]["images"][0]
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.block(stored["content_hash"])
        client.delete(stored["content_hash"])
        for _ in range(2):
            done = crawl(items, PIPELINE | settings)
            assert done.fates == {"rejected": 1}
            assert done.items[0]["bad"][0]["reason"] == "blocked"
        with pytest.raises(NotFoundError):
            client.get_bytes(stored["content_hash"])
    assert site.images_asked().total() == 3
    site.answers["/a.jpg"] = jpeg(2)
    assert crawl(items, PIPELINE).fates == {"stored": 1}


def test_a_service_refuses_blocked_images(crawl, site, service):
    """Over a service the store answers 403, which costs no other image."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(8)}
    with ImgCacheClient(service.url) as client:
        for n in range(5):
            client.block(file_bytes=jpeg(n))
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(8)]}]
    done = crawl(items, PIPELINE | {"IMGCACHE_URL": service.url})
    assert done.fates == {"stored": 3, "rejected": 5}
    assert done.stats["imgcache/error/blocked"] == 5
    assert not done.warnings


def test_a_request_of_a_spider_for_a_blocked_image_is_dropped(crawl, site, tmp_path):
    """No callback gets it, and no error is logged."""
    site.answers |= {"/hit.jpg": PLACEHOLDER, "/fetched.jpg": PLACEHOLDER}
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(f"{site.url}/hit.jpg", PLACEHOLDER, "me")
        client.block(file_bytes=PLACEHOLDER)
    requests = [[f"{site.url}/{name}.jpg", {}] for name in ("hit", "fetched")]
    done = crawl(settings={"DOWNLOADER_MIDDLEWARES": STOCK["DOWNLOADER_MIDDLEWARES"]},
                 requests=requests)  # fmt: skip
    assert done.items == []
    assert done.fates == {"rejected": 2}
    assert "ERROR" not in done.log


def test_a_redirect_to_a_blocked_image_is_rejected(crawl, site, tmp_path):
    """The image that a redirect leads to is rejected, whether it is a hit or not."""
    site.answers |= {"/a.jpg": redirect("/hit.jpg"), "/hit.jpg": PLACEHOLDER}
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(f"{site.url}/hit.jpg", PLACEHOLDER, "me")
        client.block(file_bytes=PLACEHOLDER)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    both = PIPELINE | {"DOWNLOADER_MIDDLEWARES": STOCK["DOWNLOADER_MIDDLEWARES"]}
    for settings in (PIPELINE, both, STOCK | {"MEDIA_ALLOW_REDIRECTS": True}):
        done = crawl(items, settings)
        assert done.stats["imgcache/rejected/blocked"] == 1
        assert delivered(done) == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_placeholder_does_not_replace_a_picture(crawl, site, tmp_path, component):
    """If the site gives a blocked picture in place of a good one, the stale one is delivered."""
    site.answers["/a.jpg"] = jpeg(2)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    settings = COMPONENTS[component] | {"IMGCACHE_MAX_AGE": 0, "FILES_EXPIRES": -1}
    settings |= {"IMAGES_EXPIRES": -1}
    crawl(items, settings)
    site.answers["/a.jpg"] = PLACEHOLDER
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.block(file_bytes=PLACEHOLDER)
    done = crawl(items, settings)
    assert delivered(done) == ["a.jpg"]
    assert done.fates == {"hit": 1}
    assert done.stats["imgcache/stale"] == 1


def test_a_blocked_image_that_is_too_old_is_asked_for_again(crawl, site, tmp_path):
    """It stays rejected while the site has only the placeholder; then the picture comes."""
    site.answers["/a.jpg"] = PLACEHOLDER
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    settings = PIPELINE | {"IMGCACHE_MAX_AGE": 0}
    crawl(items, settings)
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.block(file_bytes=PLACEHOLDER)
    assert crawl(items, settings).stats["imgcache/rejected/blocked"] == 1
    site.answers["/a.jpg"] = jpeg(2)
    assert crawl(items, settings).fates == {"stored": 1}
    assert site.images_asked().total() == 3


@pytest.mark.parametrize("component", ["files", "images"])
@pytest.mark.parametrize("path", [None, "{item[sku]}.{ext}"])
def test_the_local_file_of_a_blocked_image_is_not_delivered(crawl, site, tmp_path, component, path):
    """It is rejected although its file is up to date; other files are delivered."""
    site.answers |= {"/a.jpg": PLACEHOLDER, "/b.jpg": jpeg(2)}
    items = [{"image_urls": [f"{site.url}/{name}.jpg"], "sku": name} for name in "ab"]
    settings = COMPONENTS[component] | {"IMGCACHE_PATH": path}
    crawl(items, settings)
    done = crawl(items, settings)
    assert done.fates == {"hit": 2}
    assert "imgcache/lookup" not in done.stats
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.block(file_bytes=PLACEHOLDER)
    done = crawl(items, settings)
    assert delivered(done) == ["b.jpg"]
    assert done.fates == {"hit": 1, "rejected": 1}
    assert done.stats["imgcache/rejected/blocked"] == 1
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.unblock(client.blocked()[0]["content_hash"])
    assert crawl(items, settings).fates == {"hit": 2}
    assert site.images_asked().total() == 2


def test_local_files_are_delivered_if_the_cache_cannot_tell(crawl, site, service):
    """A service that is down costs no file that is up to date."""
    site.answers["/a.jpg"] = PLACEHOLDER
    items, settings = [{"image_urls": [f"{site.url}/a.jpg"]}], FILES | {"IMGCACHE_URL": service.url}
    crawl(items, settings)
    with ImgCacheClient(service.url) as client:
        client.block(file_bytes=PLACEHOLDER)
    assert crawl(items, settings).fates == {"rejected": 1}
    service.stop()
    for more in ({}, {"IMGCACHE_STRICT": True}):
        done = crawl(items, settings | more)
        assert delivered(done) == ["a.jpg"]
        assert done.fates == {"hit": 1}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_spooled_image_that_is_blocked_meanwhile_is_rejected(
    crawl, site, stopped_service, component
):
    """It is no hit, and it goes to the folder of refused images."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(5)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(5)]}]
    settings = COMPONENTS[component] | {"IMGCACHE_URL": stopped_service.url, "WITHOUT_FILES": True}
    assert crawl(items, settings).fates == {"spooled": 5}
    stopped_service.start()
    with ImgCacheClient(stopped_service.url) as client:
        for n in range(5):
            client.block(file_bytes=jpeg(n))
    done = crawl(items, settings)
    assert delivered(done) == []
    assert done.stats["imgcache/rejected/blocked"] == 5

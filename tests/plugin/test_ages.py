"""Ages: which setting says how old a capture or a local file may be."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.originals import Original
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, STOCK

DAY = 86_400
MIDDLEWARE = {"DOWNLOADER_MIDDLEWARES": STOCK["DOWNLOADER_MIDDLEWARES"]}


def store_old(tmp_path, site, days):
    """Store `/a.jpg` as it was fetched some days ago, and return when that was."""
    site.answers["/a.jpg"] = original = Original(jpeg(1))
    fetched = datetime.now(UTC) - timedelta(days=days)
    headers = {"ETag": original.etag}
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store(f"{site.url}/a.jpg", original.body, "test", fetched, headers=headers)
    return fetched.timestamp()


@pytest.mark.parametrize(
    ("days", "settings", "fates"),
    [
        (89, {}, {"hit": 1}),
        (91, {}, {"revalidated": 1}),
        (91, {"FILES_EXPIRES": 100}, {"hit": 1}),
        (91, {"IMGCACHEFILESPIPELINE_FILES_EXPIRES": 100, "FILES_EXPIRES": 5}, {"hit": 1}),
        (91, {"IMGCACHE_MAX_AGE": {"127.0.0.1": None}}, {"hit": 1}),
        (91, {"IMGCACHE_MAX_AGE": None}, {"hit": 1}),
        (9, {"IMGCACHE_MAX_AGE": {"example.com": None, "*": 8 * DAY}}, {"revalidated": 1}),
    ],
)
def test_the_drop_ins_take_scrapys_setting(crawl, site, tmp_path, *, days, settings, fates):
    """Captures expire after Scrapy's 90 days or as its settings say; our setting wins."""
    fetched = store_old(tmp_path, site, days)
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], FILES | settings)
    assert done.fates == fates
    (file,) = (tmp_path / "files" / "full").iterdir()
    if "hit" in fates:
        assert file.stat().st_mtime == pytest.approx(fetched, abs=1)
    else:
        assert file.stat().st_mtime > fetched + DAY


@pytest.mark.parametrize(
    ("settings", "status", "requests"),
    [
        ({}, "uptodate", 1),
        ({"IMGCACHE_MAX_AGE": 0}, "cached", 2),
        ({"IMGCACHE_MAX_AGE": 3 * DAY, "FILES_EXPIRES": -1}, "uptodate", 1),
        ({"IMGCACHE_MODE": "offline", "FILES_EXPIRES": 0}, "uptodate", 1),
        ({"IMGCACHE_MODE": "refresh"}, "cached", 2),
        ({"IMGCACHE_ENABLED": False, "FILES_EXPIRES": 9, "IMGCACHE_MAX_AGE": 0}, "uptodate", 1),
    ],
)
def test_local_files_are_held_to_the_same_age(crawl, site, tmp_path, *, settings, status, requests):
    """A file that is too old is no reason not to ask; one that is not needs no lookup."""
    site.answers["/a.jpg"] = original = Original(jpeg(1))
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    crawl(items, FILES)
    (file,) = (tmp_path / "files" / "full").iterdir()
    long_ago = datetime.now(UTC).timestamp() - 2 * DAY
    os.utime(file, (long_ago, long_ago))
    done = crawl(items, FILES | settings)
    assert done.items[0]["images"][0]["status"] == status
    assert original.requests == requests


def test_the_age_of_one_request(crawl, site):
    """The meta of a request wins over the settings; a wrong value is told once and ignored."""
    originals = {f"/{number}.jpg": Original(jpeg(number)) for number in range(5)}
    site.answers.update(originals)
    metas = [{}, {"imgcache_max_age": 0}, *[{"imgcache_max_age": "soon"}] * 2]
    metas.append({"imgcache_max_age": None})
    urls = [site.url + path for path in originals]
    crawl(settings=MIDDLEWARE, requests=[[url, {}] for url in urls])
    requests = [list(pair) for pair in zip(urls, metas, strict=True)]
    done = crawl(settings=MIDDLEWARE, requests=requests)
    assert done.fates == {"hit": 4, "revalidated": 1}
    assert originals["/1.jpg"].requests == 2
    assert site.images_asked().total() == 6
    assert done.log.count("request.meta['imgcache_max_age'] must be a number of seconds") == 1
    assert all(item["flags"] == ["cached", "imgcache"] for item in done.items)

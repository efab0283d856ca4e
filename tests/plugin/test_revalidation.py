"""Revalidation: every answer of a site to the question whether a stale image has changed."""

from threading import Event

import pytest
from scrapy import Request

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.plugin.conditional import add_validators, remove_validators
from imgcache_scrapy.plugin.recent import RecentKeys
from tests.support.originals import Original, not_modified, status
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import redirect

COMPONENTS = {
    "pipeline": PIPELINE,
    "drop-in": FILES,
    "middleware": STOCK | {"MEDIA_ALLOW_REDIRECTS": True},
}
ALWAYS = {"IMGCACHE_MAX_AGE": 0, "FILES_EXPIRES": -1}
ONCE = {"RETRY_ENABLED": False}


@pytest.fixture(params=COMPONENTS)
def component(request):
    """Return the name of a component."""
    return request.param


@pytest.fixture
def settings(component):
    """Return the settings of a crawl that asks the site for every image."""
    return COMPONENTS[component] | ALWAYS


@pytest.fixture
def original(site):
    """Return the answer for `/a.jpg`."""
    site.answers["/a.jpg"] = original = Original(jpeg(1))
    return original


def items_of(site, *paths):
    """Return an item with the images of these paths."""
    return [{"image_urls": [site.url + path for path in paths]}]


def test_a_picture_that_is_gone(crawl, site, settings):
    """It fails, or the stale one is delivered; its captures stay, and count when it is back."""
    paths = ["/404.jpg", "/410.jpg"]
    site.answers.update({path: Original(jpeg(seed)) for seed, path in enumerate(paths)})
    items = items_of(site, *paths)
    crawl(items, settings)
    for path in paths:
        site.answers[path].trouble = status(int(path[1:4]))
    gone = crawl(items, settings)
    assert gone.fates == {"failed": 2}
    assert gone.stats["imgcache/failed/http_404"] == gone.stats["imgcache/failed/http_410"] == 1
    assert gone.items[0]["images"] == []
    stale = crawl(items, settings | {"IMGCACHE_ON_GONE": "stale"})
    assert stale.fates == {"hit": 2}
    assert stale.stats["imgcache/stale"] == len(stale.items[0]["images"]) == 2
    for path in paths:
        site.answers[path].trouble = None
    assert crawl(items, settings).fates == {"revalidated": 2}


def test_a_request_without_an_answer_gives_the_stale_picture(crawl, site, settings, tmp_path):
    """No host, no server, no answer, too many bytes, or another component that raises an error."""
    hangs = Event()
    site.answers["/slow.jpg"] = lambda _: hangs.wait()
    site.answers["/large.jpg"] = jpeg(9, (640, 480), quality=95)
    paths = ["/slow.jpg", "/large.jpg", "/dropped.jpg", "/broken.jpg"]
    urls = [site.url + path for path in paths]
    urls += ["http://nowhere.invalid/a.jpg", "http://127.0.0.1:9/a.jpg"]
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        for seed, url in enumerate(urls):
            client.store(url, jpeg(seed), "test")
    middlewares = settings.get("DOWNLOADER_MIDDLEWARES", {}) | {
        "tests.support.custom.Troublemaker": 700
    }
    settings = settings | ONCE | {"DOWNLOADER_MIDDLEWARES": middlewares}
    settings |= {"DOWNLOAD_TIMEOUT": 5, "DOWNLOAD_MAXSIZE": 10_000, "DNS_TIMEOUT": 5}
    done = crawl([{"image_urls": urls}], settings)
    hangs.set()
    assert done.fates == {"hit": len(urls)}
    assert done.stats["imgcache/stale"] == len(done.items[0]["images"]) == len(urls)


def test_offline_and_refresh(crawl, site, original, settings, tmp_path):
    """Offline, stale images are hits, and a miss fails; `refresh` asks for everything."""
    items = items_of(site, "/a.jpg", "/b.jpg")
    crawl(items_of(site, "/a.jpg"), settings)
    offline = crawl(items, settings | {"IMGCACHE_MODE": "offline", "WITHOUT_FILES": True})
    assert offline.fates == {"hit": 1, "failed": 1}
    assert offline.stats["imgcache/failed/offline"] == 1
    assert len(offline.items[0]["images"]) == original.requests == 1
    assert site.images_asked() == {"/a.jpg": 1}
    fresh = settings | {"IMGCACHE_MAX_AGE": None, "IMGCACHE_MODE": "refresh"}
    refreshed = crawl(items_of(site, "/a.jpg"), fresh)
    assert refreshed.fates == {"revalidated": 1}
    assert original.requests == 2


def test_a_picture_that_is_lost_meanwhile(crawl, site, original, settings, tmp_path):
    """If the bytes are gone when the site says "not modified", it is asked for them, once."""
    items = items_of(site, "/a.jpg")
    crawl(items, settings)
    content_hash = content_hash_of(original.body)
    blob = tmp_path / "cache" / "blobs" / blob_key(content_hash)

    def lose(handler):
        blob.unlink()
        original.trouble = None
        not_modified(handler)

    original.trouble = lose
    done = crawl(items, settings)
    assert done.fates == {"revalidated": 1}
    assert (original.requests, original.sent_bytes) == (3, 2 * len(original.body))
    assert blob.read_bytes() == original.body
    assert len(done.items[0]["images"]) == 1


def test_a_site_that_says_not_modified_to_everything(crawl, site, settings):
    """Without a picture in the cache that is of no use: the site is asked twice, not for ever."""
    answers = iter([not_modified])
    original = Original(jpeg(1))

    def first_nothing(handler):
        next(answers, original)(handler)

    site.answers |= {"/a.jpg": first_nothing, "/b.jpg": not_modified}
    done = crawl(items_of(site, "/a.jpg", "/b.jpg"), settings | ONCE)
    assert done.fates == {"stored": 1, "failed": 1}
    assert done.stats["imgcache/failed/http_304"] == 1
    assert site.images_asked() == {"/a.jpg": 2, "/b.jpg": 2}


def test_redirects(crawl, site, original, settings):
    """Validators are sent to the URL that gave them; what another URL says of them is not used."""
    site.answers["/go.jpg"] = redirect("/a.jpg")
    items = items_of(site, "/go.jpg")
    crawl(items, settings)
    again = crawl(items, settings)
    assert again.fates == {"revalidated": 1}
    assert original.sent_bytes == len(original.body)
    other = Original(jpeg(2))
    site.answers |= {"/go.jpg": redirect("/b.jpg"), "/b.jpg": other}
    other.trouble = lambda handler: (setattr(other, "trouble", None), not_modified(handler))
    moved = crawl(items, settings)
    assert moved.fates == {"stored": 1}
    assert other.requests == 2


def test_retries_come_before_the_stale_picture(crawl, site, original, settings):
    """The stale picture is delivered only if the last try fails, too."""
    items = items_of(site, "/a.jpg")
    crawl(items, settings)
    left = iter([status(503)] * 2)

    def recover(handler):
        answer = next(left, None)
        if answer is None:
            original.trouble, original.body = None, jpeg(2)
            original.requests -= 1
            original(handler)
        else:
            answer(handler)

    original.trouble = recover
    tries = settings | {"RETRY_TIMES": 2}
    assert crawl(items, tries).fates == {"stored": 1}
    assert original.requests == 4
    original.trouble = status(503)
    done = crawl(items, tries)
    assert done.fates == {"hit": 1}
    assert (done.stats["imgcache/stale"], original.requests) == (1, 7)


def test_the_site_is_asked_once_in_a_crawl(crawl, site, original, settings, component):
    """Other items and other pipelines of the crawl use the answer."""
    pipelines = dict(settings["ITEM_PIPELINES"])
    if component != "middleware":
        pipelines = PIPELINE["ITEM_PIPELINES"] | {"imgcache_scrapy.ImgCacheFilesPipeline": 2}
    both = FILES | settings | {"ITEM_PIPELINES": pipelines}
    items = items_of(site, "/a.jpg") * 3
    crawl(items, both)
    assert original.requests == 1
    crawl(items, both)
    assert original.requests == 2
    original.trouble = status(403)
    done = crawl(items, both)
    assert original.requests == 3
    assert done.fates == {"hit": 1}


def test_the_users_own_validators_stay():
    """A request that is conditional already gets no validators, and loses none."""
    headers = {"If-Modified-Since": "yesterday"}
    request = Request("http://h.example/a.jpg", headers=headers)
    entry = {"headers": {"ETag": '"1"', "Last-Modified": "today"}}
    add_validators(request, entry)
    assert request.headers.to_unicode_dict() == headers
    remove_validators(request)
    assert request.headers.to_unicode_dict() == headers
    ours = Request("http://h.example/a.jpg")
    add_validators(ours, entry)
    assert ours.headers == {b"If-None-Match": [b'"1"'], b"If-Modified-Since": [b"today"]}
    remove_validators(ours)
    assert ours.headers == {}


def test_few_urls_are_remembered():
    """Older ones are forgotten, so that a long crawl stays small."""
    urls = RecentKeys(minimum=2)
    for number in range(5):
        urls.add(number, number == 4)
    assert [urls.get(number) for number in range(5)] == [None, None, False, False, True]

"""Crawls of sites whose URLs change with each visit, and of URLs that name a user."""

import pytest
from scrapy import Request
from scrapy.utils.request import fingerprint

from imgcache_scrapy.core import DEFAULT_PRESETS
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.plugin.bypass import bypasses_cache
from tests.support.key_shapes import PROVIDERS, filled
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.reference_service import serving

IMAGES = {
    "ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheImagesPipeline": 1},
    "IMAGES_STORE": "pictures",
}
COMPONENTS = {"plain": PIPELINE, "files": FILES, "images": IMAGES, "middleware": STOCK}


class Everywhere(dict):
    """The answers of a site that has a picture at every URL, also as the proxy of other hosts."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def get(self, path):
        """Return a picture of its own for each URL, except for the start page."""
        return None if path == "/" else self.picture + path.encode()


@pytest.fixture
def address(request):
    """Return the address of the cache; None for an embedded one."""
    if request.param == "service":
        return request.getfixturevalue("shared_service").url
    if request.param == "reference":
        return request.getfixturevalue("reference")
    return None


@pytest.fixture
def reference():
    """Return the address of the reference service."""
    with serving(strict=True) as address:
        yield address


def urls_of(crawl_number, site, count):
    """Return one URL of some pictures of each provider, as a crawl with this number sees it."""
    templates = [
        group[crawl_number % len(group)]
        for preset in DEFAULT_PRESETS
        for group in PROVIDERS[preset].groups[:count]
    ]
    urls = [filled(template, crawl_number) for template in templates]
    # The parameter tells tests apart that share a service; no preset knows it.
    return [
        f"{each}{'&' if '?' in each else '?'}test={site.url[-5:]}".replace("https:", "http:", 1)
        for each in (url.partition("#")[0] for url in urls)
    ]


WAYS = [
    ("plain", "embedded"),
    ("files", "embedded"),
    ("images", "embedded"),
    ("middleware", "embedded"),
    ("plain", "service"),
    ("middleware", "service"),
    ("plain", "reference"),
]


@pytest.mark.parametrize(
    ("component", "address", "count"),
    [
        ("plain", "embedded", None),
        *((component, address, 1) for component, address in WAYS[1:]),
        *(pytest.param(*way, None, marks=pytest.mark.endurance) for way in WAYS[1:]),
    ],
    indirect=["address"],
)
def test_a_second_crawl_fetches_no_url_with_a_fresh_signature(
    site, crawl, component, address, count
):
    """Each default preset knows the pictures under the signatures and mirrors of another day.

    By default all pictures in one way to crawl, one picture of each provider in the others.
    """
    site.answers = Everywhere(jpeg(1))
    settings = COMPONENTS[component] | {"WITHOUT_FILES": True}
    if address is not None:
        settings |= {"IMGCACHE_URL": address}
    proxy = {"http_proxy": site.url, "no_proxy": "127.0.0.1"}
    first_urls, second_urls = urls_of(0, site, count), urls_of(1, site, count)
    assert not set(first_urls) & set(second_urls)
    first = crawl([{"image_urls": first_urls}], settings, environment=proxy)
    assert len(first.items[0]["images"]) == len(first_urls)
    asked = site.images_asked()
    second = crawl([{"image_urls": second_urls}], settings, environment=proxy)
    assert site.images_asked() == asked
    # Scrapy's own pipeline compares the canonical form of URLs.
    distinct = {fingerprint(Request(url)) for url in second_urls}
    assert second.fates == {"hit": len(distinct if component == "middleware" else second_urls)}
    assert len(second.items[0]["images"]) == len(second_urls)


def test_a_request_can_name_its_key(site, crawl):
    """Requests with one key share a picture; requests of one URL with two keys do not."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    keys = {"/a.jpg": "sku-1", "/b.jpg": "sku-1"}
    requests = [[f"{site.url}{path}", {"imgcache_key": key}] for path, key in keys.items()]
    for url, options in requests:
        done = crawl(requests=[[url, options | {"imgcache": True}]], settings=STOCK)
        assert done.items[0]["content_hash"] is not None
    assert site.images_asked() == {"/a.jpg": 1}
    crawl(requests=[[f"{site.url}/a.jpg", {"imgcache_key": "sku-2"}]], settings=STOCK)
    assert site.images_asked() == {"/a.jpg": 2}


def test_a_key_that_is_no_text_is_told(site, crawl):
    """The request bypasses the cache, as one whose URL no cache can have."""
    site.answers["/a.jpg"] = jpeg(1)
    done = crawl(requests=[[f"{site.url}/a.jpg", {"imgcache_key": 5}]] * 2, settings=STOCK)
    assert len(done.items) == 2
    assert done.log.count("The cache is not used for requests such as") == 1
    assert "a cache key must be a string, got int" in done.log


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_project_can_compute_keys(site, crawl, component):
    """A function of the project decides which URLs share a picture; its error fails the image."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    settings = COMPONENTS[component] | {
        "IMGCACHE_KEY_FUNCTION": "tests.support.custom.key_of_directory",
        "WITHOUT_FILES": True,
    }
    first = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], settings)
    second = crawl([{"image_urls": [f"{site.url}/b.jpg"]}], settings)
    assert (first.fates, second.fates) == ({"stored": 1}, {"hit": 1})
    assert site.images_asked() == {"/a.jpg": 1}
    settings["IMGCACHE_KEY_FUNCTION"] = "tests.support.custom.broken_key"
    third = crawl([{"image_urls": [f"{site.url}/c.jpg"]}], settings)
    assert third.stats["imgcache/failed/hook"] == 1
    assert third.items[0]["images"] == []
    assert third.log.count("IMGCACHE_KEY_FUNCTION raised ValueError: no key") >= 1


def test_a_url_with_a_password_is_private():
    """The cache is not used for it, unless the request allows that; it never sees the password."""
    url = "http://me:secret@h.example/a.jpg"
    assert bypasses_cache(Request(url))
    assert not bypasses_cache(Request(url, meta={"imgcache": True}))
    assert set(ImageUrl.of(url)[:2]) == {"http://h.example/a.jpg"}
    assert ImageUrl.of(url).keys == ("http://h.example/a.jpg",)

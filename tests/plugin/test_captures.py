"""What a capture keeps of the site's response: its headers, its final URL, and `Vary`."""

import gzip
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.combinations import combined
from tests.support.pictures import jpeg, picture
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import redirect, respond

COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}
NAMED = {
    "drop-in": {"ITEM_PIPELINES": {"tests.support.custom.FilesNamedByResponse": 1}},
    "middleware": {"ITEM_PIPELINES": {"tests.support.custom.StockFilesNamedByResponse": 1}},
}
ROADS = ["service", "embedded"]


@pytest.fixture
def road(request, tmp_path):
    """Return the settings of a cache that is embedded, or behind a service."""
    if request.param == "embedded":
        return {"IMGCACHE_URL": str(tmp_path / "cache"), "IMGCACHE_BUCKET": ""}
    service = request.getfixturevalue("shared_service")
    return {"IMGCACHE_URL": service.url, "IMGCACHE_BUCKET": uuid4().hex}


@pytest.mark.parametrize(("component", "road"), combined(NAMED, ROADS), indirect=["road"])
def test_hits_give_the_same_names(crawl, site, road, tmp_path, component):
    """A `file_path` that reads the response names the same files when all are written again."""
    name = "attachment; filename=naïve-ファイル.jpg".encode().decode("latin-1")
    compressed = gzip.compress(jpeg(3))
    site.answers |= {
        "/named.jpg": lambda handler: respond(
            handler, jpeg(1), headers={"Content-Disposition": name, "ETag": 'W/"é"'}
        ),
        "/type": lambda handler: respond(handler, picture(2), content_type="image/x-own; v=1"),
        "/zipped.jpg": lambda handler: respond(
            handler, compressed, headers={"Content-Encoding": "gzip", "ETag": '"z-gzip"'}
        ),
        "/go": redirect("/named.jpg?to=1"),
    }
    settings = COMPONENTS[component] | NAMED[component] | road | {"MEDIA_ALLOW_REDIRECTS": True}
    items = [{"image_urls": [site.url + path for path in site.answers]}]

    def files():
        return {file.name: file.read_bytes() for file in (tmp_path / "files/named").iterdir()}

    crawl(items, settings)
    first = files()
    asked = site.images_asked()
    again = crawl(items, settings | {"WITHOUT_FILES": True})
    assert again.fates == {"hit": 4}
    assert site.images_asked() == asked
    assert files() == first
    assert len(first) == 4


@pytest.mark.parametrize(("component", "road"), combined(COMPONENTS, ROADS), indirect=["road"])
def test_two_kinds_of_spiders_keep_their_own(crawl, site, road, component):
    """With `Vary: Accept`, a hit is what the site sent for the same Accept."""
    mark = uuid4().bytes
    bodies = {"image/png": picture(1) + mark, "image/jpeg": jpeg(1) + mark}

    def negotiated(handler):
        accept = handler.headers["Accept"]
        respond(handler, bodies[accept], content_type=accept, headers={"Vary": "Cookie, accept"})

    site.answers["/a.jpg"] = negotiated
    url = f"{site.url}/a.jpg"
    settings = COMPONENTS[component] | road | {"WITHOUT_FILES": True}
    fates = []
    for accept in [*bodies, *bodies]:
        headers = {"DEFAULT_REQUEST_HEADERS": {"Accept": accept}}
        done = crawl([{"image_urls": [url]}], settings | headers)
        fates.append(done.fates)
        (found,) = done.items[0]["images"]
        assert component == "middleware" or found["content_type"] == accept
    assert fates == [{"stored": 1}] * 2 + [{"hit": 1}] * 2
    assert site.images_asked() == {"/a.jpg": 2}
    with ImgCacheClient(road["IMGCACHE_URL"], bucket=road["IMGCACHE_BUCKET"]) as client:
        newest = client.lookup(url, bucket=road["IMGCACHE_BUCKET"])
        assert newest["content_type"] == "image/jpeg"
        old = client.lookup(url, bucket=road["IMGCACHE_BUCKET"], accept="image/png")
        assert old["content_type"] == "image/png"


@pytest.mark.parametrize("road", ROADS, indirect=True)
def test_a_spider_without_accept_keeps_its_own(crawl, site, road):
    """With `Vary: Accept`, a request without this header is another one than all with it."""
    mark = uuid4().bytes

    def negotiated(handler):
        body = picture(1) if handler.headers["Accept"] else jpeg(1)
        respond(handler, body + mark, headers={"Vary": "Accept"})

    site.answers["/a.jpg"] = negotiated
    items, types = [{"image_urls": [f"{site.url}/a.jpg"]}], []
    for headers in [{"Accept": "image/png"}, {"Accept-Language": "de"}] * 2:
        settings = COMPONENTS["pipeline"] | road | {"DEFAULT_REQUEST_HEADERS": headers}
        types.append(crawl(items, settings).items[0]["images"][0]["content_type"])
    assert types == ["image/png", "image/jpeg"] * 2
    assert site.images_asked() == {"/a.jpg": 2}

"""IMGCACHE_PROVENANCE: which item used which image, recorded by all three pipelines."""

import pytest
from scrapy.settings import BaseSettings

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.plugin.provenance import UseFields
from imgcache_scrapy.plugin.settings import Settings
from tests.support.pictures import jpeg
from tests.support.reference_service import serving

PIPELINES = {
    "cache": ("ImgCachePipeline", "image_urls"),
    "files": ("ImgCacheFilesPipeline", "file_urls"),
    "images": ("ImgCacheImagesPipeline", "image_urls"),
}
STORES = {"FILES_STORE": "files", "IMAGES_STORE": "files"}
PAGE = "http://shop.example/shoe"


def settings_of(kind="cache", provenance=True, **more):
    """Return the settings of a crawl with a pipeline."""
    pipelines = {"ITEM_PIPELINES": {f"imgcache_scrapy.{PIPELINES[kind][0]}": 1}, **STORES}
    return {**pipelines, "IMGCACHE_PROVENANCE": provenance, **more}


def uses_in(tmp_path, address=None):
    """Return all uses in a cache, in the order of their places, newest page first."""
    with ImgCacheClient(address or str(tmp_path / "cache")) as client:
        found = client.list_uses()
    return sorted(found, key=lambda use: (use["page_url"] or "", use["position"]))


@pytest.mark.parametrize("kind", PIPELINES)
def test_pipelines_record_what_items_use(kind, site, crawl, tmp_path):
    """Downloads, duplicates and hits of both crawls are recorded, failures are not."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2), "/same.jpg": jpeg(1)}
    urls = [f"{site.url}/{name}.jpg" for name in ("a", "missing", "b", "same")]
    field = PIPELINES[kind][1]
    items = [
        {field: urls, "url": f"{PAGE}/1#top", "sku": 17, "alt": ["A", "-", "B"], "caption": "all"},
        {field: urls[:1], "url": [f"{PAGE}/2"], "id": "x"},
        {field: [], "url": f"{PAGE}/3"},
    ]
    done = crawl(items, settings_of(kind), environment={"SCRAPY_JOB": "job-1"})
    assert done.stats["imgcache/uses"] == 4
    found = uses_in(tmp_path)
    shown = [(use["page_url"], use["item"], use["position"], use["alt"]) for use in found]
    assert shown == [
        (f"{PAGE}/1", "17", 1, "A"),
        (f"{PAGE}/1", "17", 3, "B"),
        (f"{PAGE}/1", "17", 4, None),
        (f"{PAGE}/2", "x", 1, None),
    ]
    assert {use["job"] for use in found} == {"job-1"}
    assert {use["spider"] for use in found} == {"items"}
    assert [use["caption"] for use in found] == ["all"] * 3 + [None]
    assert [use["url"] for use in found] == [urls[0], urls[2], urls[3], urls[0]]
    hashes = [content_hash_of(jpeg(number)) for number in (1, 2, 1, 1)]
    assert [use["content_hash"] for use in found] == hashes
    # The second crawl finds all in the cache, or among the local files.
    again = crawl(items, settings_of(kind), environment={"SCRAPY_JOB": "job-2"})
    assert again.fates["hit"] == 3
    assert again.stats["imgcache/uses"] == 4
    renewed = uses_in(tmp_path)
    assert {use["job"] for use in renewed} == {"job-2"}
    unchanged = ("content_hash", "url", "page_url", "position", "alt", "first_used_at")
    assert [[use[name] for name in unchanged] for use in renewed] == [
        [use[name] for name in unchanged] for use in found
    ]


def test_nothing_is_recorded_by_default(site, crawl, tmp_path):
    """The setting switches it on."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"], "url": PAGE}]
    for provenance in (None, False):
        done = crawl(items, settings_of(provenance=provenance))
        assert done.fates
        assert "imgcache/uses" not in done.stats
    assert uses_in(tmp_path) == []


@pytest.mark.parametrize("kind", ["item", "dataclass", "attrs"])
def test_the_fields_are_a_setting(kind, site, crawl, tmp_path):
    """A dict names the fields of what is recorded; items of all classes have them."""
    site.answers["/a.jpg"] = jpeg(1)
    fields = {"page": "name", "item": None, "meta": ["image_urls", "unknown"], "alt": ["x", "name"]}
    items = [{"image_urls": [f"{site.url}/a.jpg"], "name": PAGE}]
    crawl(items, settings_of(provenance=fields), kind=kind)
    (use,) = uses_in(tmp_path)
    assert (use["page_url"], use["item"], use["alt"]) == (PAGE, None, PAGE)
    assert use["meta"] == {"image_urls": items[0]["image_urls"]}


def test_a_field_that_no_item_has_is_told(site, crawl):
    """A name that is mistyped would record nothing without a word; of a list, one is enough."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    fields = {"page": "pgae", "item": ["x", "name"], "alt": "alt", "meta": ["price", "prcie"]}
    items = [
        {"image_urls": [f"{site.url}/a.jpg"], "name": "n", "price": 1},
        {"image_urls": [f"{site.url}/b.jpg"], "alt": None},
    ]
    done = crawl(items, settings_of(provenance=fields))
    told = [line.partition("IMGCACHE_PROVENANCE ")[2] for line in done.warnings]
    assert told == [f"names the field {name}, which no item had" for name in ("pgae", "prcie")]
    assert crawl(items, settings_of(provenance=True)).warnings == []
    assert crawl([], settings_of(provenance=fields)).warnings == []


def test_odd_values_of_items_cost_no_image(site, crawl, tmp_path):
    """What is no text is left out, what is too long is cut, and a referer may be the page."""
    site.answers |= {f"/{number}.jpg": jpeg(number) for number in range(4)}
    odd = [
        {"url": "/relative", "sku": {"a": 1}, "alt": {f"{site.url}/0.jpg": "by URL"}},
        {"url": 5, "sku": "a\0b" + "x" * 999, "alt": 5, "caption": "\ud800c" + "x" * 5000},
        {"url": "http://[", "sku": [], "alt": [], "price": "x" * 5000},
        {"url": ["a", "b"], "sku": ["one"], "caption": [7], "price": [float("nan")]},
    ]
    items = [{"image_urls": [f"{site.url}/{n}.jpg"], **item} for n, item in enumerate(odd)]
    done = crawl(items, settings_of(provenance={"meta": "price"}))
    assert (done.fates, done.stats["imgcache/uses"]) == ({"stored": 4}, 4)
    assert "Traceback" not in done.log
    found = sorted(uses_in(tmp_path), key=lambda use: use["url"])
    assert {use["page_url"] for use in found} <= {None, "http://["}
    assert [(use["item"] or "")[:3] for use in found] == ["{'a", "abx", "", "one"]
    assert [use["alt"] for use in found] == ["by URL", None, None, None]
    assert [len(use["caption"] or "") for use in found] == [0, 999, 0, 0]
    assert {use["meta"] for use in found} == {None}


def test_the_page_may_be_the_referer(site, crawl, tmp_path):
    """If no field of the item has a page, the header of the image's request may name it."""
    site.answers["/a.jpg"] = jpeg(1)
    settings = settings_of() | {"ITEM_PIPELINES": {"custom.RefererPipeline": 1}}
    crawl([{"image_urls": [f"{site.url}/a.jpg"], "page": f"{PAGE}#a"}], settings)
    (use,) = uses_in(tmp_path)
    assert use["page_url"] == PAGE


def test_a_service_records_uses(site, crawl, tmp_path, shared_service):
    """A crawl with a service sends them, and looks up local files there."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"file_urls": [f"{site.url}/a.jpg"], "url": f"{site.url}/page"}]
    for _ in range(2):
        done = crawl(items, settings_of("files", IMGCACHE_URL=shared_service.url))
        assert done.stats["imgcache/uses"] == 1
    with ImgCacheClient(shared_service.url) as client:
        (use,) = client.used_on(f"{site.url}/page")
        assert use["url"] == items[0]["file_urls"][0]
        assert client.list(page_url=f"{site.url}/page")[0]["url"] == use["url"]


def test_what_cannot_be_recorded_is_told_once(site, crawl):
    """A service without uses costs no image: one warning, and a stat."""
    site.answers |= {f"/{number}.jpg": jpeg(number) for number in range(3)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg"], "url": PAGE} for n in range(3)]
    with serving(strict=True) as address:
        done = crawl(items, settings_of(IMGCACHE_URL=address))
    assert done.fates == {"stored": 3}
    assert done.stats["imgcache/uses_lost"] == 3
    (warning,) = done.warnings
    assert "The use of 3 images is not recorded: this service has no /uses" in warning


def test_a_cache_that_is_down_costs_the_uses_only(site, crawl):
    """The images are spooled, and the uses that no cache takes are counted."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"], "url": PAGE}]
    done = crawl(items, settings_of(IMGCACHE_URL="http://127.0.0.1:9"))
    assert (done.fates, done.stats["imgcache/uses_lost"]) == ({"spooled": 1}, 1)
    assert "imgcache/uses" not in done.stats


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (None, None),
        (False, None),
        ("0", None),
        (True, UseFields()),
        ("True", UseFields()),
        ({}, UseFields()),
        ('{"page": "link"}', UseFields(page=("link",))),
        ({"meta": ["a", "b"], "alt": None}, UseFields(meta=("a", "b"), alt=())),
    ],
)
def test_the_setting_is_a_flag_or_a_dict(value, fields):
    """On the command line, it is a text."""
    assert Settings.from_settings(BaseSettings({"IMGCACHE_PROVENANCE": value})).provenance == fields


@pytest.mark.parametrize(
    "value", ["maybe", {"pages": "url"}, {"page": 5}, {"page": [5]}, ["url"], "[1]", {5: "a"}]
)
def test_a_wrong_setting_is_told_in_one_sentence(value):
    """The sentence names the setting and says what it must be."""
    with pytest.raises(ConfigurationError, match="IMGCACHE_PROVENANCE must be True, False or a"):
        Settings.from_settings(BaseSettings({"IMGCACHE_PROVENANCE": value}))

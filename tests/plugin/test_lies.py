"""Crawls with services that lie: each picture is delivered, and no wrong one."""

import hashlib
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.client.record import Record
from tests.support.lies import BYTES_LIES, LOOKUP_LIES, STORE_LIES, lying
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES

_LIES = {
    (kind, name): lie
    for kind, lies in (("lookup", LOOKUP_LIES), ("store", STORE_LIES), ("bytes", BYTES_LIES))
    for name, lie in lies.items()
}
# The client's own tests try each lie; these are one of each sort.
_DEFAULT = {
    ("lookup", "entries of other URLs"),
    ("lookup", "an endless answer"),
    ("store", "another hash"),
    ("store", "a refusal of a proxy"),
    ("bytes", "other bytes"),
}
_MAX_RSS = 300e6


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(
            each, marks=[] if each in _DEFAULT else pytest.mark.endurance, id=", ".join(each)
        )
        for each in _LIES
    ],
)
def test_a_lie_costs_no_picture(crawl, site, shared_service, tmp_path, lie):
    """Each picture is delivered as the site has it, and is then in the cache or in the spool."""
    kind, seed = lie[0], uuid4().int
    pictures = {f"/{number}.jpg": jpeg(seed + number) for number in range(30)}
    site.answers |= pictures
    urls = {f"{site.url}{path}": data for path, data in pictures.items()}
    with ImgCacheClient(shared_service.url) as client:
        if kind != "store":
            for url, data in urls.items():
                client.store(url, data, "me")
    spool = tmp_path / "spool"
    with lying(shared_service.url) as liar:
        liar.lies[kind] = _LIES[lie]
        settings = {"IMGCACHE_URL": liar.url, "IMGCACHE_SPOOL_DIR": str(spool), **FILES}
        done = crawl([{"image_urls": [url]} for url in urls], settings)
    delivered = {each["url"]: each["checksum"] for item in done.items for each in item["images"]}
    assert delivered == {url: hashlib.md5(data).hexdigest() for url, data in urls.items()}
    assert sum(done.fates.values()) == len(urls)
    assert set(done.fates) <= {"hit", "stored", "duplicate", "spooled"}
    assert done.max_rss < _MAX_RSS
    waiting = {Record.unpacked(path.read_bytes()).url for path in spool.glob("*") if path.is_file()}
    with ImgCacheClient(shared_service.url) as client:
        assert waiting | client.lookup_many(urls).keys() == urls.keys()

"""`get_client`, the end of the crawl's client, and what a crawl releases, in real crawls."""

import json
import os
import signal
import time

import pytest

from tests.support.crawling import FATES
from tests.support.forking import run_python, start
from tests.support.pictures import jpeg
from tests.support.site import respond
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def script(tmp_path, site):
    """Return a function that runs a script; its arguments are the site and a cache folder."""

    def run(source, *, interrupt_when=None):
        path, out, log = (tmp_path / name for name in ("script.py", "out", "log"))
        path.write_text(source)
        process = start(
            run_python,
            # As in a new interpreter, no object is frozen.
            f"import gc, runpy; gc.unfreeze(); runpy.run_path({str(path)!r}, run_name='__main__')",
            [site.url, str(tmp_path / "cache")],
            folder=tmp_path,
            environment=dict(os.environ),
            out=out,
            err=log,
        )
        if interrupt_when is not None:
            wait_until(interrupt_when)
            os.kill(process.pid, signal.SIGINT)
        process.join(PATIENCE)
        assert process.exitcode is not None
        return out.read_text(), log.read_text()

    return run


PRELUDE = """
import json, sys
import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from imgcache_scrapy import get_client

SITE, CACHE = sys.argv[1:]
BASE = {
    "IMGCACHE_URL": CACHE, "REMOTE_CONTROL_ENABLED": False, "TELNETCONSOLE_ENABLED": False,
    "ADDONS": {"imgcache_scrapy.Addon": 500}, "LOG_LEVEL": "INFO",
    "IMGCACHE_TIMEOUT": 300,
}

def run(*spiders):
    process = AsyncCrawlerProcess(BASE)
    crawlers = [process.create_crawler(spider) for spider in spiders]
    for crawler in crawlers:
        process.crawl(crawler)
    process.start()
    return crawlers
"""


def test_the_client_works_from_start_to_close_spider(site, script):
    """It works in start(), in async and plain callbacks, and in an item pipeline's close_spider."""
    site.answers["/a.jpg"] = jpeg(1)
    out, log = script(
        PRELUDE
        + """
class Reader:
    @classmethod
    def from_crawler(cls, crawler):
        reader = cls()
        reader.crawler = crawler
        return reader
    async def process_item(self, item):
        return item
    async def close_spider(self):
        print(json.dumps({"close": (await get_client(self.crawler).stats())["images"]}))

class S(scrapy.Spider):
    name = "s"
    custom_settings = {"ITEM_PIPELINES": {Reader: 5}}
    async def start(self):
        client = get_client(self.crawler)
        assert client is get_client(self.crawler)
        print(json.dumps({"start": await client.lookup("http://x/none")}))
        yield scrapy.Request(SITE + "/")
    async def parse(self, response):
        client = get_client(self.crawler)
        entry = await client.store("http://x/1", b"GIF89a-not-really", "me")
        print(json.dumps({"callback": entry["created"]}))
        yield scrapy.Request(SITE + "/a.jpg", self.plain)
    def plain(self, response):
        client = get_client(self.crawler).sync
        print(json.dumps({"plain": client.lookup("http://x/1")["client_name"]}))
        yield {"image_urls": [SITE + "/a.jpg"]}

run(S)
"""
    )
    assert [json.loads(line) for line in out.splitlines()] == [
        {"start": None},
        {"callback": True},
        {"plain": "me"},
        {"close": 2},
    ], log
    assert "Traceback" not in log


def test_fetch_sends_the_headers_of_the_crawl(site, script):
    """A site sees the same program as in the requests of the spider, by both clients."""
    site.answers["/a.jpg"] = site.answers["/b.jpg"] = jpeg(1)
    script(
        PRELUDE
        + """
class S(scrapy.Spider):
    name = "s"
    custom_settings = {"USER_AGENT": "shop"}
    async def start(self):
        client = get_client(self.crawler)
        await client.fetch(SITE + "/a.jpg", "me")
        client.sync.fetch(SITE + "/b.jpg", "me")
        if False:
            yield

run(S)
"""
    )
    for path in ("/a.jpg", "/b.jpg"):
        assert [headers["User-Agent"] for headers in site.headers[path]] == ["shop"]


def test_fetch_follows_the_settings_of_the_crawl(site, script):
    """In the mode `offline` no site is asked, also by the blocking client."""
    site.answers["/a.jpg"] = jpeg(1)
    out, log = script(
        PRELUDE
        + """
from imgcache_scrapy import FetchError

class S(scrapy.Spider):
    name = "s"
    custom_settings = {"IMGCACHE_MODE": "offline"}
    async def start(self):
        client = get_client(self.crawler)
        try:
            await client.fetch(SITE + "/a.jpg", "me")
        except FetchError as error:
            print(json.dumps(error.reason))
        try:
            client.sync.fetch(SITE + "/a.jpg", "me")
        except FetchError as error:
            print(json.dumps(error.reason))
        if False:
            yield

run(S)
"""
    )
    assert out.splitlines() == ['"offline"', '"offline"'], log
    assert not site.asked


def test_each_crawler_has_its_own_session(site, script):
    """Two crawlers in one process share an embedded cache, and each counts its own images."""
    site.answers |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    out, log = script(
        PRELUDE
        + """
import gc
from imgcache_scrapy.plugin.flow import Flow

def spider(which):
    class S(scrapy.Spider):
        name = which
        async def start(self):
            yield scrapy.Request(SITE + "/")
        def parse(self, response):
            yield {"image_urls": [f"{SITE}/{which}.jpg"]}
    return S

crawlers = run(spider("a"), spider("b"))
print(json.dumps([crawler.stats.get_value("imgcache/stored") for crawler in crawlers]))
print(json.dumps(Flow.of(crawlers[0]).session is not Flow.of(crawlers[1]).session))
"""
    )
    assert [json.loads(line) for line in out.splitlines()] == [[1, 1], True], log
    assert log.count("Image cache: 1 images") == 2


EARLY_END = (
    PRELUDE
    + """
from scrapy.exceptions import CloseSpider

class S(scrapy.Spider):
    name = "s"
    async def start(self):
        yield scrapy.Request(SITE + "/")
    def parse(self, response):
        for first in range(0, 120, 5):
            yield {"image_urls": [f"{SITE}/{n}.jpg" for n in range(first, first + 5)]}
        HOW

crawler, = run(S)
stats = crawler.stats.get_stats()
print(json.dumps({k: v for k, v in stats.items() if isinstance(v, (int, str))}))
"""
)


@pytest.mark.parametrize("how", ["raise CloseSpider('enough')", "pass"])
def test_a_crawl_that_ends_early_counts_each_image(site, script, how):
    """After CloseSpider or an interrupt, the crawl ends, and each image has a fate."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(120)}

    def slow(handler):
        time.sleep(0.01)
        respond(handler, jpeg(int(handler.path.strip("/").removesuffix(".jpg"))))

    site.answers |= dict.fromkeys(site.answers, slow)
    interrupt = None if "raise" in how else lambda: site.asked.total() > 50
    out, log = script(EARLY_END.replace("HOW", how), interrupt_when=interrupt)
    stats = json.loads(out)
    assert stats["finish_reason"] == ("enough" if "raise" in how else "shutdown"), log
    counted = sum(stats.get(f"imgcache/{fate}", 0) for fate in FATES)
    assert counted == stats["imgcache/lookup"]
    assert "Image cache: " in log
    assert "imgcache/error/unavailable" not in stats


ONE_IMAGE = (
    PRELUDE
    + """
import gc

counts = []

class S(scrapy.Spider):
    name = "s"
    async def start(self):
        counts.append(gc.get_freeze_count())
        yield scrapy.Request(SITE + "/")
    def parse(self, response):
        yield {"image_urls": [SITE + "/a.jpg"]}
"""
)


def test_a_crawler_is_released(site, script):
    """After a crawl, no object of ours holds its crawler."""
    site.answers["/a.jpg"] = jpeg(1)
    out, log = script(
        ONE_IMAGE
        + """
from imgcache_scrapy.plugin.flow import _flows
from imgcache_scrapy.plugin.session import _sessions

run(S)
gc.collect()
print(len(_flows) + len(_sessions))
"""
    )
    assert out.strip() == "0", log


@pytest.mark.parametrize("spiders", ["S", "S, S"])
def test_objects_are_frozen_while_a_crawl_runs(site, script, spiders):
    """A full garbage collection would block the event loop; after the crawl nothing is frozen."""
    site.answers["/a.jpg"] = jpeg(1)
    out, log = script(ONE_IMAGE + f"run({spiders})\nprint(*counts, gc.get_freeze_count())\n")
    *during, afterwards = (int(number) for number in out.split())
    assert len(during) == len(spiders.split()), log
    assert min(during) > 10_000
    assert afterwards == 0


def test_objects_that_the_user_froze_stay_frozen(site, script):
    """Crawls neither unfreeze these objects nor freeze more of them."""
    site.answers["/a.jpg"] = jpeg(1)
    out, log = script(
        ONE_IMAGE
        + """
gc.freeze()
counts.append(gc.get_freeze_count())
run(S, S)
print(*counts, gc.get_freeze_count())
"""
    )
    before, *during, afterwards = (int(number) for number in out.split())
    assert len(during) == 2, log
    # Objects that were freed meanwhile are no longer counted.
    assert all(0.9 * before < each <= before for each in [*during, afterwards])

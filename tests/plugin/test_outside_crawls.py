"""Pipelines without an ordinary crawl: in `scrapy parse`, and in the tests of a project."""

import os

import pytest
from scrapy.utils.misc import build_from_crawler
from scrapy.utils.test import get_crawler

from imgcache_scrapy import (
    ConfigurationError,
    ImgCacheFilesPipeline,
    ImgCacheImagesPipeline,
    ImgCachePipeline,
)
from tests.support.forking import run_python, start
from tests.support.pictures import jpeg
from tests.support.waiting import PATIENCE

PROJECT = """
import scrapy

SPIDER_MODULES = ["project"]
REMOTE_CONTROL_ENABLED = TELNETCONSOLE_ENABLED = False
ITEM_PIPELINES = {"imgcache_scrapy.ImgCachePipeline": 1}


class Shop(scrapy.Spider):
    name = "shop"

    def parse(self, response):
        yield {"image_urls": [response.urljoin(f"/{number}.jpg") for number in range(4)]}
"""


def test_scrapy_parse_gives_images(site, tmp_path):
    """The spider stays open for the images, although `scrapy parse` does not wait for items."""
    site.answers |= {f"/{number}.jpg": jpeg(number) for number in range(4)}
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = project\n")
    out, log = tmp_path / "out", tmp_path / "log"
    command = ["parse", "--pipelines", "--spider", "shop", "-c", "parse", f"{site.url}/"]
    process = start(
        run_python,
        "import sys, scrapy.cmdline as cmdline; cmdline.execute(['scrapy', *sys.argv[1:]])",
        command,
        folder=tmp_path,
        environment=dict(os.environ),
        out=out,
        err=log,
    )
    process.join(PATIENCE)
    assert out.read_text().count("'path'") == 4, log.read_text()


@pytest.mark.parametrize(
    "pipeline", [ImgCachePipeline, ImgCacheFilesPipeline, ImgCacheImagesPipeline]
)
def test_a_pipeline_is_created_without_an_event_loop(pipeline, tmp_path):
    """A plain test can create a pipeline, and call hooks that need no loop."""
    settings = {name: str(tmp_path) for name in ("IMGCACHE_URL", "FILES_STORE", "IMAGES_STORE")}
    created = build_from_crawler(pipeline, get_crawler(None, settings))
    item = {"image_urls": ["http://a/1.jpg"], "file_urls": ["http://a/1.jpg"]}
    (request,) = created.get_media_requests(item, None)
    assert request.url == "http://a/1.jpg"
    with pytest.raises(ConfigurationError, match="IMGCACHE_TIMEOUT must be"):
        build_from_crawler(pipeline, get_crawler(None, settings | {"IMGCACHE_TIMEOUT": 0}))

"""The downloader middleware: answers image requests from the cache, stores what was fetched."""

import logging
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, finalize

from scrapy import Request
from scrapy.exceptions import NotConfigured
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.responsetypes import responsetypes

from imgcache_scrapy.admission import ACCEPTED_STATUSES, Refusal
from imgcache_scrapy.crawl import Crawl
from imgcache_scrapy.entry import Entry
from imgcache_scrapy.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.formats import IMAGE_SUFFIXES
from imgcache_scrapy.joining import Place
from imgcache_scrapy.responses import asked_url, cached_response, from_cache, refusal_of
from imgcache_scrapy.urls import cache_key

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

logger = logging.getLogger(__name__)

"""Import the modules of crawls, commands and services, in the process that forks for them.

No module here may install a reactor or start a thread.
"""

import errno
import gc
import importlib
import sys
from contextlib import closing
from multiprocessing import reduction
from pathlib import Path
from tempfile import TemporaryDirectory

from scrapy.settings import default_settings

from imgcache_scrapy.core.keys import explain_key
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.decoding.phash import phash
from imgcache_scrapy.server.app import create_app
from tests.support.patience import wait_for_small_pictures
from tests.support.pictures import noise
from tests.support.recorded_migrations import record_for_sqlite

_receive_files = reduction.recvfds


def _receive_files_of_a_living_client(*arguments):
    """Raise the error that the process that forks passes over, if its client was killed.

    A service may be killed while it asks for a decoder; the process must go on for the others.
    """
    try:
        return _receive_files(*arguments)
    except EOFError as error:
        raise ConnectionAbortedError(errno.ECONNABORTED, "the client is gone") from error


reduction.recvfds = _receive_files_of_a_living_client

_NAMES = (
    "alembic.command",
    "imgcache_scrapy.cli.main",
    "imgcache_scrapy.engine.async_cache",
    "imgcache_scrapy.engine.cache",
    "imgcache_scrapy.engine.decoding.child",
    "imgcache_scrapy.plugin.addon",
    "imgcache_scrapy.plugin.middleware",
    "imgcache_scrapy.plugin.pipeline",
    "imgcache_scrapy.server.app",
    "imgcache_scrapy.server.protocol",
    "scrapy.core.downloader.handlers.datauri",
    "scrapy.core.downloader.handlers.file",
    "scrapy.core.downloader.handlers.ftp",
    "scrapy.core.downloader.handlers.http11",
    "scrapy.core.downloader.handlers.s3",
    "scrapy.core.engine",
    "scrapy.dupefilters",
    "scrapy.exporters",
    "scrapy.extensions.feedexport",
    "scrapy.logformatter",
    "scrapy.pipelines.images",
    "scrapy.pqueues",
    "scrapy.squeues",
    "scrapy.statscollectors",
    "scrapy.utils.serialize",
    "tests.support.forked_children",
    "tests.support.run_crawl",
    "tldextract",
    "twisted.internet.asyncioreactor",
    "twisted.web.client",
)
_COMPONENTS = ("DOWNLOADER_MIDDLEWARES_BASE", "EXTENSIONS_BASE", "SPIDER_MIDDLEWARES_BASE")

for _name in _NAMES:
    importlib.import_module(_name)
wait_for_small_pictures()
record_for_sqlite()
# Compiling the patterns of the presets takes 15 ms in each crawl.
explain_key("http://h.example/")
# The first use of NumPy takes 20 ms in each decoder.
phash(noise(64, 64))
for _setting in _COMPONENTS:
    for _path in getattr(default_settings, _setting):
        importlib.import_module(_path.rpartition(".")[0])

# The first app takes twice as long as the next ones.
with TemporaryDirectory() as _folder, closing(ImageCache.in_folder(Path(_folder))) as _cache:
    create_app(_cache, owns_cache=False)

# Each collection in a fork would examine all of these modules, and copy their pages.
gc.freeze()

assert "twisted.internet.reactor" not in sys.modules
assert len(list(Path("/proc/self/task").iterdir())) == 1

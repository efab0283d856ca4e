"""Fixtures of the tests of the commands: a filled cache, and a function that runs a command."""

from functools import partial

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import run_imgcache


@pytest.fixture
def run(tmp_path):
    """Return a function that runs `imgcache …` in an empty folder."""
    return partial(run_imgcache, tmp_path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, photos):
    """Return the folder of a cache with two images, one of them in a bucket; for reading only."""
    folder = tmp_path_factory.mktemp("cli") / "ü cache"
    with ImgCacheClient(str(folder)) as client:
        client.store("http://h.example/a b.png", photos["cat.png"], "me")
        client.store("http://h.example/in-bucket", photos["sunset.jpg"], "me", bucket="b")
    return folder

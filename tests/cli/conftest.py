"""What the tests of the commands share: a cache to look into, and a way to run a command."""

from functools import partial

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import run_imgcache


@pytest.fixture
def run(tmp_path):
    """Run `imgcache …` in an empty folder."""
    return partial(run_imgcache, tmp_path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, photos):
    """Return the folder of a cache of two images, one of them in a bucket; to be read only."""
    folder = tmp_path_factory.mktemp("cli") / "ü cache"
    with ImgCacheClient(str(folder)) as client:
        client.store("http://h.example/a b.png", photos["cat.png"], "me")
        client.store("http://h.example/in-bucket", photos["sunset.jpg"], "me", bucket="b")
    return folder

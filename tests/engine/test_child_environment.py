"""The environment of the decoders' child programs: it contains no secret."""

from contextlib import closing

import psutil

from imgcache_scrapy.client.admission import Admission
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.decoding.environment import child_environment
from tests.support.pictures import jpeg, picture

SECRETS = {
    "IMGCACHE_TOKEN": "canary-token",
    "IMGCACHE_DATABASE_URL": "postgresql+psycopg://me:canary-password@h/db",
    "AWS_SECRET_ACCESS_KEY": "canary-key",
    "AZURE_STORAGE_KEY": "canary-azure",
    "MY_PASSWORD": "canary-own",
}


def test_only_what_python_needs_is_inherited():
    """Variables of the system and of Python are kept, and all others are left out."""
    kept = {"PATH": "/bin", "LC_ALL": "C", "PYTHONHASHSEED": "1", "LD_LIBRARY_PATH": "/lib"}
    found = child_environment(kept | SECRETS)
    assert found.items() >= kept.items()
    assert "canary" not in str(found)
    assert found["OPENBLAS_NUM_THREADS"] == "1"


async def test_no_child_has_a_secret(tmp_path, monkeypatch, real_decoders):
    """Neither the children of a cache nor those of a crawl inherit the token or the keys."""
    folder = tmp_path / "cache"
    with closing(ImageCache.in_folder(folder)) as cache:
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        assert cache.store("http://a.test/", picture(), "me")["width"]
        admission = Admission()
        await admission.refusal(jpeg(1)[:-100])
        children = [
            child
            for child in psutil.Process().children()
            if "imgcache_scrapy.engine.decoding.child" in child.cmdline()
        ]
        assert len(children) >= 2
        for child in children:
            assert "canary" not in str(child.environ())
        await admission.aclose()

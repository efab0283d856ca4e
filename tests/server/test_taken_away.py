"""A service whose folder is taken away while it runs."""

import shutil

import pytest

from imgcache_scrapy import ImgCacheClient, UnavailableError

URL = "http://a.test/"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_service_whose_catalog_is_gone_takes_no_stores(service, how):
    """Stores and `/health` answer 503 with what to do, so that crawls spool; a restart mends it."""
    with ImgCacheClient(service.url) as client:
        client.store(f"{URL}before", b"before", "me")
        if how == "removed":
            shutil.rmtree(service.folder)
        else:
            service.folder.rename(service.folder.with_name("elsewhere"))
            with ImgCacheClient(str(service.folder)) as other:
                other.store(f"{URL}other", b"other", "me")
        for number in range(10):
            with pytest.raises(UnavailableError, match="removed or replaced"):
                client.store(f"{URL}{number}", b"%d" % number, "me")
        with pytest.raises(UnavailableError, match="removed or replaced"):
            client.health()
        service.stop()
        service.start()
        client.store(f"{URL}after", b"after", "me")
        assert client.lookup(f"{URL}after")["url"] == f"{URL}after"
        assert client.stats()["images"] == (1 if how == "removed" else 2)

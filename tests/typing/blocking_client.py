"""The types that mypy must infer for the blocking client; checked by `mypy`, never run.

mypy must report each error that a comment ignores here, or the check fails.
"""

from typing import assert_type

from imgcache_scrapy import Entry, ImgCacheClient
from imgcache_scrapy.core.pages import ItemList
from imgcache_scrapy.core.uses import Use

with ImgCacheClient("folder") as client:
    assert_type(client, ImgCacheClient)
    assert_type(client.lookup("http://h.example/a"), Entry | None)
    assert_type(client.search("a", limit=3), list[Entry])
    assert_type(client.get_bytes("0" * 64), bytes)
    assert_type(client.buckets(), dict[str, int])
    assert_type(client.used_on("http://h.example/", limit=3), ItemList[Use])
    client.search(url_contains=3)  # type: ignore[arg-type]
    client.store("http://h.example/a", b"", 5)  # type: ignore[arg-type]
    client.buckets(1)  # type: ignore[call-arg]
    client.lookup("http://h.example/a")["width"]  # type: ignore[index]

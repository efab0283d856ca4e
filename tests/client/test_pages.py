"""How the client reads the pages of a long list, also of services that send strange ones."""

import asyncio
import json

import httpx
import pytest

from imgcache_scrapy import AsyncImgCacheClient, ProtocolError
from imgcache_scrapy.client.answers import Answer
from imgcache_scrapy.client.entries import entry_of

ENTRY = {
    "url": "http://h.example/a.png",
    "content_hash": "ab" * 32,
    "content_type": "image/png",
    "file_size_bytes": 1,
    "original_filename": None,
    "width": None,
    "height": None,
    "perceptual_hash": None,
    "client_name": "me",
    "lookup_time": "2026-01-31T12:00:00+00:00",
    "created_at": "2026-01-31T12:00:00+00:00",
}


@pytest.mark.parametrize(
    ("link", "query"),
    [
        ("", None),
        ('</images/search?a=b%26c&after=1_2>; rel="next"', {"a": "b&c", "after": "1_2"}),
        ("<?after=1>;rel=next", {"after": "1"}),
        ('</x?a=1>; rel="prev", </x?a=2>; title="b"; REL="last Next"', {"a": "2"}),
        ('<https://evil.example/steal?after=>; rel="next"', {"after": ""}),
        ("<http://[/?after=1#a?b>; rel=next", {"after": "1"}),
        ('</x?a=1>; rel="prev"', None),
        ('</x?a=1>; rel="nextest"', None),
        ('</x?a=1>; title="rel=next"', None),
        ("</x?a=1>", None),
        ("rel=next", None),
        ("<" * 50_000, None),
    ],
)
def test_a_link_gives_the_query_of_the_next_page(link, query):
    """Only the link with the relation `next` counts, and of its address only the query."""
    assert Answer(200, json.dumps([ENTRY]).encode(), link).page(entry_of).after == query


def test_pages_are_asked_for_at_the_address_of_the_service():
    """A link to another host does not lead the client and its token there."""
    asked = []

    def answer(request):
        asked.append(str(request.url))
        page = len(asked)
        link = (
            {"Link": f'<https://evil.example/steal?after={page}>; rel="next"'} if page < 3 else {}
        )
        entry = ENTRY | {"url": f"http://h.example/{page}"}
        return httpx.Response(200, json=[entry], headers=link)

    async def search():
        async with AsyncImgCacheClient(
            "http://cache", token="secret", transport=httpx.MockTransport(answer)
        ) as client:
            return await client.search("a", limit=None)

    assert len(asyncio.run(search())) == 3
    assert asked == [
        "http://cache/images/search?url_contains=a",
        "http://cache/images/search?after=1",
        "http://cache/images/search?after=2",
    ]


def test_an_empty_page_with_a_next_one_is_refused():
    """The client would ask for ever."""
    with pytest.raises(ProtocolError, match="empty page"):
        Answer(200, b"[]", '</images/search?after=1>; rel="next"').page(entry_of)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("call", ["search", "similar"])
def test_a_circle_of_pages_is_refused(call, length):
    """The client would ask for ever, and keep all entries."""
    asked = []

    def answer(request):
        asked.append(str(request.url))
        assert len(asked) < 20
        link = f'</x?after={len(asked) % length}>; rel="next"'
        return httpx.Response(200, json=[ENTRY], headers={"Link": link})

    async def read():
        transport = httpx.MockTransport(answer)
        async with AsyncImgCacheClient("http://cache", transport=transport) as client:
            arguments = ["a"] if call == "search" else ["0" * 16, 64]
            return await getattr(client, call)(*arguments)

    with pytest.raises(ProtocolError, match="read before"):
        asyncio.run(read())
    assert len(asked) <= length + 1


@pytest.mark.parametrize("method", ["history", "captures"])
def test_a_history_of_something_else_is_refused(method):
    """Each entry must have the key or the hash that was asked for."""

    def answer(request):
        if request.url.path == "/images/lookup":
            return httpx.Response(200, json={"entries": {}, "failures": {}})
        other = ENTRY | {"key": "http://h.example/other", "content_hash": "cd" * 32}
        return httpx.Response(200, json=[ENTRY, other])

    async def ask():
        transport = httpx.MockTransport(answer)
        async with AsyncImgCacheClient("http://cache", transport=transport) as client:
            asked = {"history": ENTRY["url"], "captures": ENTRY["content_hash"]}
            await getattr(client, method)(asked[method])

    with pytest.raises(ProtocolError, match="something else"):
        asyncio.run(ask())

"""`fetch` within one client: single flight, limits on time and memory, cookies and passwords."""

import asyncio
import pickle
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgcache_scrapy import (
    AsyncImgCacheClient,
    FetchError,
    ImgCacheClient,
    InvalidRequestError,
    UnavailableError,
)
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from tests.support.originals import Original, status
from tests.support.pictures import picture
from tests.support.reference_service import serving
from tests.support.site import Site, redirect, respond
from tests.support.sites import compressed, with_cookie
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def web() -> Iterator[Site]:
    """Return a site without answers."""
    site = Site()
    yield site
    site.close()


async def test_calls_for_one_key_make_one_request(web, tmp_path):
    """Twenty calls share a request, its image or its error; one that wants it anew asks, too."""
    may_answer = threading.Event()

    def held(answer):
        def wait(handler):
            may_answer.wait(PATIENCE)
            answer(handler) if callable(answer) else respond(handler, answer)

        return wait

    web.answers["/a.png"], web.answers["/none"] = held(picture()), held(status(500))
    async with AsyncImgCacheClient(str(tmp_path), PATIENCE) as client:
        for path in ("/a.png", "/none"):
            may_answer.clear()
            url = web.url + path
            calls = [asyncio.create_task(client.fetch(f"{url}#{n}", "me")) for n in range(20)]
            anew = asyncio.create_task(client.fetch(url, "me", max_age=0))
            await asyncio.to_thread(wait_until, lambda path=path: web.asked[path])
            calls[0].cancel()
            may_answer.set()
            done = await asyncio.gather(*calls[1:], return_exceptions=True)
            last = (await asyncio.gather(anew, return_exceptions=True))[0]
            assert web.asked[path] == 2
            if path == "/a.png":
                assert {each.status for each in done} == {"cached"}
                assert last.status == "cached"
            else:
                assert {each.reason for each in (*done, last)} == {"http_500"}
        assert calls[0].cancelled()


def test_threads_share_a_request(web, tmp_path):
    """A blocking client is one client for all its threads: one of them has downloaded."""
    web.answers["/a.png"] = picture()
    with ImgCacheClient(str(tmp_path), PATIENCE) as client, ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: client.fetch(f"{web.url}/a.png", "me"), range(16)))
    assert sorted(each.status for each in done) == ["cached"] * 15 + ["downloaded"]
    assert web.asked["/a.png"] == 1


async def test_closing_waits_for_a_fetch(web, tmp_path):
    """What was begun is stored; later calls are refused."""
    may_answer = threading.Event()

    def answer(handler):
        may_answer.wait(PATIENCE)
        respond(handler, picture())

    web.answers["/a.png"] = answer
    client = AsyncImgCacheClient(str(tmp_path), PATIENCE)
    call = asyncio.create_task(client.fetch(f"{web.url}/a.png", "me"))
    await asyncio.to_thread(wait_until, lambda: web.asked)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="closed"):
        await client.fetch(f"{web.url}/b.png", "me")
    may_answer.set()
    await closing
    assert (await call).status == "downloaded"


def test_a_site_that_does_not_end_is_left(web, tmp_path):
    """One deadline counts for all redirects; the size counts while the body is read."""
    ended = threading.Event()

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while not ended.wait(0.05):
                handler.wfile.write(b"\x89PNG")
        except OSError:
            pass

    def endless(handler):
        handler.send_response(302 if handler.path == "/moved" else 200)
        handler.send_header("Location", "/a.png")
        handler.end_headers()
        try:
            while not ended.is_set():
                handler.wfile.write(bytes(2**20))
        except OSError:
            ended.set()

    web.answers |= {"/drip": drip, "/hop": redirect("/drip"), "/big": endless}
    web.answers |= {"/moved": endless, "/a.png": picture()}
    with ImgCacheClient(str(tmp_path), 1) as client:
        with pytest.raises(FetchError, match="within 1 s") as late:
            client.fetch(f"{web.url}/hop", "me")
        assert late.value.reason == "timeout"
    with ImgCacheClient(str(tmp_path), PATIENCE) as client:
        with pytest.raises(FetchError, match=str(MAX_IMAGE_BYTES)) as large:
            client.fetch(f"{web.url}/big", "me")
        assert (large.value.reason, large.value.http_status) == ("too_large", 200)
        wait_until(ended.is_set)
        ended.clear()
        # The body of a redirect is not read.
        assert client.fetch(f"{web.url}/moved", "me").status == "downloaded"


def test_a_small_body_that_becomes_large_is_bounded(web, tmp_path):
    """A bomb of 200 KB, which would have 200 MB, takes little more than the limit in memory."""
    web.answers["/bomb"] = compressed(bytes(2 * MAX_IMAGE_BYTES), "gzip")
    with ImgCacheClient(str(tmp_path), PATIENCE) as client:
        tracemalloc.start()
        try:
            with pytest.raises(FetchError) as failed:
                client.fetch(f"{web.url}/bomb", "me")
            assert tracemalloc.get_traced_memory()[1] < 1.5 * MAX_IMAGE_BYTES
        finally:
            tracemalloc.stop()
    assert failed.value.reason == "too_large"


def test_cookies_and_passwords_go_nowhere(web, tmp_path):
    """No cookie is kept; a password is sent to its site, and is in no entry and no error."""
    seen, body = [], picture()
    web.answers["/a.png"] = with_cookie(body, seen)
    web.answers["/moved"] = redirect("/a.png")
    secret = web.url.replace("//", "//me:secret@")
    with ImgCacheClient(str(tmp_path), PATIENCE) as client:
        for path in ("/a.png?1", "/a.png?2", "/moved"):
            entry = client.fetch(secret + path, "me").entry
            assert "secret" not in repr(entry)
        assert seen == [None] * 3
        assert web.headers["/moved"][0]["Authorization"].startswith("Basic ")
        assert client.fetch(f"{web.url}/moved", "me").status == "cached"
        with pytest.raises(FetchError) as failed:
            client.fetch(f"{secret}/none", "me")
        assert "secret" not in str(failed.value)
        again = pickle.loads(pickle.dumps(failed.value))
        assert (again.reason, again.http_status, str(again)) == (
            *("http_404", 404),
            str(failed.value),
        )


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_a_header_of_a_body_is_refused(web, tmp_path, name):
    """The request has no body; HTTP libraries would fail, or the site would wait for one."""
    with (
        ImgCacheClient(str(tmp_path), PATIENCE) as client,
        pytest.raises(InvalidRequestError, match=f"the header {name} cannot be sent"),
    ):
        client.fetch(f"{web.url}/a.png", "me", headers={name: "5"})
    assert web.asked.total() == 0


def test_the_reference_service(web):
    """A service without claims and failures keeps images; a 304 leaves the capture as it is."""
    body = picture()
    web.answers["/a.png"] = Original(body, headers={"Content-Type": "image/png"})
    with serving(strict=True) as url, ImgCacheClient(url, PATIENCE) as client:
        statuses = [client.fetch(f"{web.url}/a.png", "me", max_age=age) for age in (None, None, 0)]
        assert [each.status for each in statuses] == ["downloaded", "cached", "cached"]
        assert {each.data for each in statuses} == {body}
        for _ in range(2):
            with pytest.raises(FetchError):
                client.fetch(f"{web.url}/none", "me")
        assert web.asked["/none"] == 2

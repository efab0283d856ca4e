"""The route of thumbnails, over a real service."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from uuid import uuid4

import pytest
from PIL import Image

from imgcache_scrapy.core.entry import content_hash_of, thumbnail_key
from tests.support.pictures import encoded, noise, picture
from tests.support.service import http_client

UNKNOWN_HASH = "0" * 64
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


def store(http, data, **fields):
    """Store an image under a new URL, and return its hash."""
    url = f"http://{uuid4().hex}.example/image"
    answer = http.post(
        "/images", data={"url": url, "client_name": "me", **fields}, files={"file": ("f", data)}
    )
    return answer.json()["content_hash"]


def test_a_thumbnail_is_a_small_webp(http):
    """A thumbnail is a WebP of at most 15 KB and 320 pixels, which browsers keep and never run."""
    content_hash = store(http, encoded(noise(900, 600, seed=11), "PNG"))
    for method in ("GET", "HEAD", "GET"):
        answer = http.request(method, f"/thumbnails/{content_hash}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/webp"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "immutable" in answer.headers["cache-control"]
        assert int(answer.headers["content-length"]) <= 15_000
    assert max(Image.open(BytesIO(answer.content)).size) <= 320
    etag = answer.headers["etag"]
    again = http.get(f"/thumbnails/{content_hash}", headers={"If-None-Match": etag})
    assert (again.status_code, again.headers["etag"]) == (304, etag)


@pytest.mark.parametrize(
    ("data", "words"),
    [(SVG, "format"), (picture(12)[:300], "broken"), (b"nothing", "format")],
)
def test_what_cannot_be_decoded_says_why(http, data, words):
    """A picture without a thumbnail is a problem with its reason; the original is never sent."""
    content_hash = store(http, data)
    for _ in range(2):
        answer = http.get(f"/thumbnails/{content_hash}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert words in answer.json()["detail"]


def test_unknown_and_invalid_hashes(http):
    """A hash without an image is 404, another text 422, and another bucket has no thumbnail."""
    assert http.get(f"/thumbnails/{UNKNOWN_HASH}").status_code == 404
    assert http.get("/thumbnails/..%2Fcache_id").status_code in {404, 422}
    assert http.get("/thumbnails/abc").status_code == 422
    bucket = uuid4().hex
    content_hash = store(http, picture(13), bucket=bucket)
    address = f"/thumbnails/{content_hash}"
    assert http.get(address, params={"bucket": bucket}).status_code == 200
    assert http.get(address, params={"bucket": "another"}).status_code == 404


def test_a_thumbnail_goes_with_its_image(service):
    """After a delete or a block, neither the route nor the storage has the thumbnail."""
    with http_client(service.url) as http:
        deleted, blocked = store(http, picture(14)), store(http, picture(15))
        files = [service.folder / "blobs" / thumbnail_key(each) for each in (deleted, blocked)]
        for content_hash, file in zip((deleted, blocked), files, strict=True):
            assert http.get(f"/thumbnails/{content_hash}").status_code == 200
            assert file.exists()
        assert http.delete(f"/images/{deleted}").status_code == 204
        assert http.post("/blocked", json={"content_hash": blocked}).status_code == 200
        for content_hash, file in zip((deleted, blocked), files, strict=True):
            assert http.get(f"/thumbnails/{content_hash}").status_code == 404
            assert not file.exists()


def test_pages_of_other_sites_see_no_thumbnail(http):
    """A page of another site cannot show a thumbnail, so that it cannot find out what is here."""
    content_hash = store(http, picture(16))
    for site in ("cross-site", "same-site"):
        answer = http.get(f"/thumbnails/{content_hash}", headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403


def test_many_requests_at_the_same_time(http):
    """Requests of a whole screen at once are answered, and stores beside them, too."""
    hashes = [store(http, picture(seed, side=200)) for seed in range(100, 120)]

    def get(content_hash):
        return http.get(f"/thumbnails/{content_hash}").content

    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(get, hashes * 2))
        stored = list(threads.map(lambda seed: store(http, picture(seed)), range(130, 140)))
    assert found[:20] == found[20:]
    assert len(set(found)) == 20
    assert stored == [content_hash_of(picture(seed)) for seed in range(130, 140)]

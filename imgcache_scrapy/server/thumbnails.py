"""The route of thumbnails."""

from typing import Annotated, Any

from fastapi import FastAPI, Header, Response

from imgcache_scrapy.core.errors import NotFoundError
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.images import image_headers
from imgcache_scrapy.server.parameters import FAILURES, AnyBucket, ContentHash
from imgcache_scrapy.server.problems import documented
from imgcache_scrapy.server.ranges import etag_matches

_TYPE = "image/webp"
# Another number tells browsers that thumbnails are made in another way.
_VERSION = 1


def add_thumbnails(app: FastAPI, images: AsyncImageCache) -> None:
    """Add the route that returns thumbnails."""
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "A small WebP of the image.",
            "content": {_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "The client already has the thumbnail."},
        **documented(NotFoundError, *FAILURES),
    }

    async def get_thumbnail(
        content_hash: ContentHash,
        bucket: AnyBucket = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        thumbnail = await images.thumbnail(content_hash, bucket)
        etag = f'"{content_hash}-{_VERSION}"'
        headers = image_headers(_TYPE, etag, "same-origin")
        if etag_matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        return Response(thumbnail, headers=headers, media_type=_TYPE)

    for add in (app.get, app.head):
        add("/thumbnails/{content_hash}", response_class=Response, responses=responses)(
            get_thumbnail
        )

"""The route that records a capture of an image that the cache has, without its bytes."""

from typing import Annotated, Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from imgcache_scrapy.core.errors import NotFoundError, ReadOnlyError, TooLargeError
from imgcache_scrapy.core.limits import HASH_PATTERN
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.capture_fields import CaptureFields
from imgcache_scrapy.server.metrics import Metrics
from imgcache_scrapy.server.parameters import FAILURES
from imgcache_scrapy.server.problems import TOO_SLOW, documented
from imgcache_scrapy.server.schemas import Entry


class Claim(CaptureFields):
    """The body of a claim.

    Attributes:
        content_hash: the content hash of the image.
        headers: headers of the site's response.
    """

    content_hash: Annotated[str, Field(pattern=HASH_PATTERN)]
    headers: dict[str, str] = Field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `AsyncImageCache.claim`.

        Raises:
            InvalidRequestError: the final URL is not a URL.
        """
        return {"content_hash": self.content_hash, **self.capture_arguments(self.headers)}


def add_claims(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the route that records captures without bytes."""

    @app.post(
        "/images/claim",
        response_model=Entry,
        responses={
            **documented(NotFoundError, TooLargeError, ReadOnlyError, *FAILURES),
            **TOO_SLOW,
        },
    )
    async def claim(claim: Claim) -> Response:
        entry = await images.claim(**claim.arguments())
        if entry is None:
            raise NotFoundError("the cache does not have the bytes of this image: store them")
        metrics.count_store(entry)
        return JSONResponse(entry)

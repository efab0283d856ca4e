"""The routes that record captures of images that the cache has, without their bytes."""

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from imgcache_scrapy.core import entry
from imgcache_scrapy.core.errors import (
    BlockedError,
    ImgCacheError,
    NotFoundError,
    ReadOnlyError,
    TooLargeError,
)
from imgcache_scrapy.core.limits import HASH_PATTERN, MAX_BATCH_CLAIMS
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


class Claims(BaseModel):
    """The body of a request with several claims.

    Attributes:
        claims: the claims.
    """

    claims: Annotated[list[Claim], Field(max_length=MAX_BATCH_CLAIMS)]


def add_claims(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the routes that record captures without bytes."""

    @app.post(
        "/images/claim",
        response_model=Entry,
        responses={
            **documented(NotFoundError, TooLargeError, ReadOnlyError, *FAILURES),
            **TOO_SLOW,
        },
    )
    async def claim(claim: Claim) -> Response:
        found = await images.claim(**claim.arguments())
        if found is None:
            raise NotFoundError("the cache does not have the bytes of this image: store them")
        metrics.count_store(found)
        return JSONResponse(found)

    @app.post(
        "/images/claims",
        response_model=dict[str, list[Entry | None]],
        responses={**documented(TooLargeError, ReadOnlyError, *FAILURES), **TOO_SLOW},
    )
    async def claim_many(body: Claims) -> Response:
        asked = [claim.arguments() for claim in body.claims]
        answers = await asyncio.gather(*(_claimed(images, arguments) for arguments in asked))
        failures = [each for each in answers if isinstance(each, ImgCacheError)]
        if failures and len(failures) == len(answers):
            raise failures[0]
        entries = [None if isinstance(each, ImgCacheError) else each for each in answers]
        for found in filter(None, entries):
            metrics.count_store(found)
        return JSONResponse({"entries": entries})


async def _claimed(
    images: AsyncImageCache, arguments: dict[str, Any]
) -> entry.Entry | ImgCacheError | None:
    # A store of an image that is blocked, or whose claim alone fails, tells why.
    try:
        return await images.claim(**arguments)
    except BlockedError:
        return None
    except ImgCacheError as error:
        return error

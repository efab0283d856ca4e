"""The drop-ins: Scrapy's FilesPipeline and ImagesPipeline with the cache in front."""

from abc import abstractmethod
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from scrapy import Request
from scrapy.http import Response
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.images import ImageException, ImagesPipeline
from scrapy.pipelines.media import FileInfo, MediaPipeline
from scrapy.utils.defer import ensure_awaitable

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES
from imgcache_scrapy.core.formats import has_image_suffix
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.conversion import Converted, Converter, encoded
from imgcache_scrapy.plugin.media import CachedMediaPipeline, with_entry
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome


class DropInPipeline(CachedMediaPipeline):
    """What the drop-ins share: Scrapy's own pipeline delivers what the cache or the site gave.

    All of Scrapy's settings and hooks hold; a file that is up to date locally needs no lookup.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_unset = self.crawler.settings.get("MEDIA_ALLOW_REDIRECTS") is None
        self.follows_redirects = self.allow_redirects or is_unset

    @abstractmethod
    def takes(self, refusal: ImageFailed, request: Request) -> bool:
        """Tell whether Scrapy's pipeline is to have what the cache refuses."""

    async def deliver(self, outcome: Outcome, request: Request, item: Any) -> FileInfo:
        """Have Scrapy's pipeline write the files of the response."""
        entry, response, error = outcome.entry, outcome.response, outcome.error
        assert response is not None  # noqa: S101 - see needs_bytes
        if error is not None and outcome.fate == "rejected" and not self.takes(error, request):
            raise error
        if entry is None:
            # The hook decides about a bad status, too: it may know what to do with a 404.
            refusal = None if outcome.is_image else error
            return await self._written(response, request, item, refusal)
        # After a redirect the response is another request's.
        request.meta[meta.ENTRY] = response.meta[meta.ENTRY] = entry
        result = await self._written(response, request, item)
        return with_entry({**result, "status": outcome.status}, entry)

    async def _written(
        self, response: Response, request: Request, item: Any, refusal: ImageFailed | None = None
    ) -> FileInfo:
        if response.status in ACCEPTED_STATUSES:
            response = response.replace(status=200)  # Scrapy's pipelines take no other
        try:
            return await ensure_awaitable(
                self.media_downloaded(response, request, self.spiderinfo, item=item)
            )
        except ImageException as failure:
            raise ImageFailed("too_small", str(failure), fate="rejected") from failure
        except Exception as failure:
            raise refusal or ImageFailed("processing", str(failure)) from failure


class ImgCacheFilesPipeline(DropInPipeline, FilesPipeline):
    """Scrapy's FilesPipeline with the cache in front: original bytes in `FILES_STORE`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.urls_field, self.result_field = self.files_urls_field, self.files_result_field

    def takes(self, refusal: ImageFailed, request: Request) -> bool:
        """A file of any other kind, unless a picture was asked for."""
        return refusal.reason in {"html", "not_image"} and not has_image_suffix(request.url)


class ImgCacheImagesPipeline(DropInPipeline, ImagesPipeline):
    """Scrapy's ImagesPipeline with the cache in front: JPEG and thumbnails in `IMAGES_STORE`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.urls_field, self.result_field = self.images_urls_field, self.images_result_field
        self._converter = Converter()
        self._converted: dict[Response, list[Converted]] = {}

    async def image_downloaded(
        self,
        response: Response,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        *,
        item: Any = None,
    ) -> str:
        """As Scrapy's, but converts in a thread, unless a subclass has its own way to convert."""
        if self.session.settings.enabled and self._converts_as_scrapy:
            images = super().get_images(response, request, info, item=item)
            self._converted[response] = await self._converter.convert(images)
        return await super().image_downloaded(response, request, info, item=item)

    def get_images(
        self,
        response: Response,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        *,
        item: Any = None,
    ) -> Iterator[tuple[str, Any, BytesIO]]:
        """As Scrapy's; what was converted already is given as it is."""
        converted = self._converted.pop(response, None)
        if converted is not None:
            return iter(converted)
        return super().get_images(response, request, info, item=item)

    def convert_image(
        self, image: Any, size: tuple[int, int] | None = None, *, response_body: BytesIO
    ) -> tuple[Any, BytesIO]:
        """As Scrapy's, but lets the event loop run meanwhile in the commonest case."""
        if size or image.format is not None or image.mode != "RGB":
            return super().convert_image(image, size, response_body=response_body)
        return image, encoded(image)

    @property
    def _converts_as_scrapy(self) -> bool:
        own = type(self)
        return (
            own.get_images is ImgCacheImagesPipeline.get_images
            and own.convert_image is ImgCacheImagesPipeline.convert_image
        )

    def takes(self, refusal: ImageFailed, request: Request) -> bool:  # noqa: ARG002
        """Formats that Pillow alone knows."""
        return refusal.reason == "not_image"

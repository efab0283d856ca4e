"""Drop-in replacements for Scrapy's FilesPipeline and ImagesPipeline that use the cache."""

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
from imgcache_scrapy.plugin.conversion import Converted, Converter, encode_jpeg
from imgcache_scrapy.plugin.media import CachedMediaPipeline, with_entry
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome


class DropInPipeline(CachedMediaPipeline):
    """The base of the drop-ins: Scrapy's own pipeline writes the files of each response.

    All of Scrapy's settings and hooks work. A file that is up to date locally needs no lookup.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_unset = self.crawler.settings.get("MEDIA_ALLOW_REDIRECTS") is None
        self.follows_redirects = self.allow_redirects or is_unset

    @abstractmethod
    def accepts_refused(self, refusal: ImageFailed, request: Request) -> bool:
        """Return whether Scrapy's pipeline gets a response that the cache refused."""

    async def deliver(self, outcome: Outcome, request: Request, item: Any) -> FileInfo:
        """Let Scrapy's pipeline write the files of the response."""
        entry, response, error = outcome.entry, outcome.response, outcome.error
        assert response is not None  # noqa: S101 - see needs_bytes
        if (
            error is not None
            and outcome.fate == "rejected"
            and not self.accepts_refused(error, request)
        ):
            raise error
        if entry is None:
            # A bad status also goes to the hook, because a subclass may handle a 404, for example.
            refusal = None if outcome.is_image else error
            return await self._write_files(response, request, item, refusal)
        # After a redirect, response.meta belongs to another request.
        request.meta[meta.ENTRY] = response.meta[meta.ENTRY] = entry
        result = await self._write_files(response, request, item)
        return with_entry({**result, "status": outcome.status}, entry)

    async def _write_files(
        self, response: Response, request: Request, item: Any, refusal: ImageFailed | None = None
    ) -> FileInfo:
        if response.status in ACCEPTED_STATUSES:
            response = response.replace(status=200)  # Scrapy's pipelines accept only 200
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

    def accepts_refused(self, refusal: ImageFailed, request: Request) -> bool:
        """Accept files that are not pictures, unless the URL is that of a picture."""
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
        """Do the same as Scrapy, but convert in a thread if no subclass changes the conversion."""
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
        """Do the same as Scrapy, but return already converted files without converting again."""
        converted = self._converted.pop(response, None)
        if converted is not None:
            return iter(converted)
        return super().get_images(response, request, info, item=item)

    def convert_image(
        self, image: Any, size: tuple[int, int] | None = None, *, response_body: BytesIO
    ) -> tuple[Any, BytesIO]:
        """Do the same as Scrapy; in the most common case, release the interpreter lock."""
        if size or image.format is not None or image.mode != "RGB":
            return super().convert_image(image, size, response_body=response_body)
        return image, encode_jpeg(image)

    @property
    def _converts_as_scrapy(self) -> bool:
        own = type(self)
        return (
            own.get_images is ImgCacheImagesPipeline.get_images
            and own.convert_image is ImgCacheImagesPipeline.convert_image
        )

    def accepts_refused(self, refusal: ImageFailed, request: Request) -> bool:  # noqa: ARG002
        """Accept unknown formats, because Pillow may know them."""
        return refusal.reason == "not_image"

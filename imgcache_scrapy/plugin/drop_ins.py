"""Drop-in replacements for Scrapy's FilesPipeline and ImagesPipeline that use the cache."""

import asyncio
from collections.abc import Generator, Iterator
from io import BytesIO
from itertools import chain
from typing import Any, ClassVar

from itemadapter import ItemAdapter
from scrapy import Request
from scrapy.http import Response
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.images import ImagesPipeline
from scrapy.pipelines.media import MediaPipeline
from scrapy.utils.defer import ensure_awaitable
from twisted.internet.defer import Deferred

from imgcache_scrapy.plugin.conversion import Converter
from imgcache_scrapy.plugin.file_names.named_files import NamedFilesPipeline
from imgcache_scrapy.plugin.item_requests import bad_url_reason, item_request
from imgcache_scrapy.plugin.local_files import (
    blocks_nothing,
    dated_file,
    is_blocked,
    is_of_writing,
    note_use,
    remove_file,
)


class DropInPipeline(NamedFilesPipeline):
    """The base of the drop-ins: Scrapy's own pipeline writes the files of each response.

    All of Scrapy's settings and hooks work. A file that is up to date locally needs no lookup.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._imgcache_follow_redirects()

    def get_media_requests(self, item: Any, info: MediaPipeline.SpiderInfo) -> list[Request]:
        """Do the same as Scrapy; but if it cannot request a URL, only this URL fails."""
        try:
            return super().get_media_requests(item, info)  # type: ignore[safe-super]
        except (TypeError, ValueError):
            urls = self._imgcache_urls(item)
            if not self._imgcache.is_enabled or not isinstance(urls, list):
                raise
            return [item_request(url) for url in urls]

    def media_to_download(
        self, request: Request, info: MediaPipeline.SpiderInfo, *, item: Any = None
    ) -> Any:
        """Do the same as Scrapy; but the file of a blocked image is not up to date."""
        if bad_url_reason(request) is not None:
            return None
        found = super().media_to_download(request, info, item=item)
        if not self._imgcache.is_enabled:
            return found
        if isinstance(found, Deferred) and blocks_nothing(self._imgcache.flow):
            # Without a task: its steps would delay all others of the loop.
            return found.addCallback(self._imgcache_noted, request)
        checked = self._imgcache_unless_blocked(found, request)
        return _AwaitableDeferred.fromFuture(asyncio.ensure_future(checked))

    async def _imgcache_unless_blocked(self, found: Any, request: Request) -> Any:
        result = await ensure_awaitable(found)
        if result and await is_blocked(self._imgcache.flow, request):
            return None
        return self._imgcache_noted(result, request)

    def _imgcache_noted(self, result: Any, request: Request) -> Any:
        if result:
            note_use(self._imgcache.flow, request)
        return result

    def _onsuccess(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Do the same as Scrapy, but hold a local file to the same age as a capture."""
        if self._imgcache.is_enabled:
            request = kwargs["request"] if "request" in kwargs else args[0]
            result = dated_file(self._imgcache.flow.session, result, request)
        return super()._onsuccess(result, *args, **kwargs)  # type: ignore[misc]

    async def file_downloaded(
        self,
        response: Response,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        *,
        item: Any = None,
    ) -> Any:
        """Do the same as Scrapy, but leave no part of a file, which the next crawl would use."""
        written = super().file_downloaded(response, request, info, item=item)  # type: ignore[misc]
        try:
            return await ensure_awaitable(written)
        except OSError as error:
            if self._imgcache.is_enabled and is_of_writing(error):
                path = self.file_path(request, response=response, info=info, item=item)
                remove_file(self, path)
            raise

    def _imgcache_urls(self, item: Any) -> Any:
        raise NotImplementedError


class _AwaitableDeferred(Deferred[Any]):
    """A Deferred that a hook can await before it has fired: with a folder, Scrapy's has fired."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.asFuture(asyncio.get_running_loop()).__await__()


class ImgCacheFilesPipeline(DropInPipeline, FilesPipeline):
    """Scrapy's FilesPipeline with the cache in front: original bytes in `FILES_STORE`."""

    _imgcache_ignored: ClassVar = {
        "IMGCACHE_URLS_FIELD": "set FILES_URLS_FIELD",
        "IMGCACHE_RESULT_FIELD": "set FILES_RESULT_FIELD",
        "IMGCACHE_MIN_WIDTH": "use ImgCacheImagesPipeline and IMAGES_MIN_WIDTH",
        "IMGCACHE_MIN_HEIGHT": "use ImgCacheImagesPipeline and IMAGES_MIN_HEIGHT",
    }

    def _imgcache_urls(self, item: Any) -> Any:
        return ItemAdapter(item).get(self.files_urls_field)

    def _imgcache_result_field(self) -> str:
        return self.files_result_field


class ImgCacheImagesPipeline(DropInPipeline, ImagesPipeline):
    """Scrapy's ImagesPipeline with the cache in front: JPEG and thumbnails in `IMAGES_STORE`."""

    _imgcache_ignored: ClassVar = {
        f"IMGCACHE_{name}": f"set IMAGES_{name}"
        for name in ("URLS_FIELD", "RESULT_FIELD", "MIN_WIDTH", "MIN_HEIGHT")
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._imgcache_converter = Converter(self)

    async def image_downloaded(
        self,
        response: Response,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        *,
        item: Any = None,
    ) -> str:
        """Do the same as Scrapy, but convert in a thread if no subclass changes the conversion."""
        if not self._imgcache.is_enabled or self._imgcache_has_own_conversion():
            return await super().image_downloaded(response, request, info, item=item)
        path = self.file_path(request, response=response, info=info, item=item)
        async with self._imgcache_converter.converting(path, response, request, info):
            return await super().image_downloaded(response, request, info, item=item)

    def get_images(
        self,
        response: Response,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        *,
        item: Any = None,
    ) -> Iterator[tuple[str, Any, BytesIO]]:
        """Do the same as Scrapy; give the names to files that are already converted."""
        converted = self._imgcache_converter.take(response)
        if converted is None:
            yield from super().get_images(response, request, info, item=item)
            return
        thumb_paths = (
            self.thumb_path(request, thumb_id, response=response, info=info, item=item)
            for thumb_id in self.thumbs
        )
        for path, (picture, content) in zip(
            chain([converted.path], thumb_paths), converted.files, strict=False
        ):
            yield path, picture, content
        if converted.error is not None:
            raise converted.error

    def thumb_path(
        self,
        request: Request,
        thumb_id: str,
        response: Response | None = None,
        info: MediaPipeline.SpiderInfo | None = None,
        *,
        item: Any = None,
    ) -> str:
        """Return the path of a thumbnail: that of its picture in a folder, if IMGCACHE_PATH is set.

        Otherwise, it is the same as in Scrapy.
        """
        if self._imgcache.names is None:
            return super().thumb_path(request, thumb_id, response, info, item=item)
        return f"thumbs/{thumb_id}/{self.file_path(request, response, info, item=item)}"

    def _imgcache_has_own_conversion(self) -> bool:
        own, inherited = type(self), super().get_images
        return (
            own.get_images is not ImgCacheImagesPipeline.get_images
            or getattr(inherited, "__func__", None) is not ImagesPipeline.get_images
            or own.convert_image is not ImagesPipeline.convert_image
            or not {"get_images", "convert_image"}.isdisjoint(vars(self))
        )

    def _imgcache_urls(self, item: Any) -> Any:
        return ItemAdapter(item).get(self.images_urls_field)

    def _imgcache_result_field(self) -> str:
        return self.images_result_field

"""CachedMediaPipeline: the base of all pipelines; it puts the cache in front of downloads."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from scrapy import Request, Spider
from scrapy.exceptions import DropItem, NotConfigured, ScrapyDeprecationWarning
from scrapy.pipelines.media import MediaPipeline
from twisted.python.failure import Failure

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.plugin.item_results import collecting
from imgcache_scrapy.plugin.settings import warn_of_ignored
from imgcache_scrapy.plugin.source import ImageSource

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class CachedMediaPipeline(MediaPipeline):
    """Scrapy's media pipeline with the cache in front of its downloads.

    Scrapy's own code runs the hooks and keeps the results; only the download of an image is
    replaced. All that is ours is in the attribute `_imgcache`, so that attributes and methods of a
    subclass can have any other name.

    Raises:
        ConfigurationError: the pipeline cannot work. Scrapy would otherwise disable it silently,
            and items would leave without their images.
    """

    _imgcache_source = ImageSource
    # Settings that this pipeline does not read, each with what to do instead.
    _imgcache_ignored: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._imgcache = self._imgcache_source(self)

    @classmethod
    def from_crawler(cls, crawler: "Crawler") -> Self:
        """Create the pipeline of a crawl."""
        try:
            pipeline = super().from_crawler(crawler)
        except NotConfigured as error:
            raise ConfigurationError(f"{cls.__name__} cannot work: {error}") from error
        warn_of_ignored(crawler.settings, cls.__name__, cls._imgcache_ignored)
        return pipeline

    async def process_item(self, item: Any, spider: Spider | None = None) -> Any:  # noqa: ARG002
        """Do the same as Scrapy, and what the settings ask for with all results of the item.

        Raises:
            DropItem: the item has no image, and `IMGCACHE_DROP_EMPTY` is set.
        """
        with self._imgcache.processing(item) as results:
            processed = await super().process_item(item)
            if self._imgcache.is_enabled:
                results.complete(processed, self._imgcache_result_field())
                if self._imgcache.uses is not None:
                    self._imgcache.uses.note(item, results.found)
        drops_empty = self._imgcache.is_enabled and self._imgcache.settings.drop_empty
        if drops_empty and not results.paths:
            raise DropItem("The item has no image.")
        return processed

    async def _process_request(
        self, request: Request, info: MediaPipeline.SpiderInfo, item: Any
    ) -> Any:
        if not self._imgcache.is_enabled:
            return await super()._process_request(request, info, item)
        with (
            collecting(request, partial(self._imgcache.begin, request, item)) as collected,
            self._imgcache.counting(request, info, collected.fail),
        ):
            collected.result = await super()._process_request(request, info, item)
        return collected.result

    async def _check_media_to_download(
        self, request: Request, info: MediaPipeline.SpiderInfo, item: Any
    ) -> Any:
        """Do the same as Scrapy, but find the image in the cache or fetch and keep it."""
        if not self._imgcache.is_enabled:
            return await super()._check_media_to_download(request, info, item)
        try:
            return await self._imgcache.result(request, info, item)
        except Exception as error:
            return self._imgcache_failed(error, request, info)

    def _imgcache_follow_redirects(self) -> None:
        """Follow redirects, unlike Scrapy, unless a setting says whether to do so."""
        settings, name = self.crawler.settings, "MEDIA_ALLOW_REDIRECTS"
        names = [name, f"{type(self).__name__.upper()}_{name}"]
        if self._imgcache.is_enabled and all(settings.get(name) is None for name in names):
            self._handle_statuses(allow_redirects=True)

    def _imgcache_result_field(self) -> str:
        """Return the field of an item that has the results; empty if there is none."""
        return ""

    def _imgcache_failed(
        self, error: Exception, request: Request, info: MediaPipeline.SpiderInfo
    ) -> Any:
        """Call `media_failed` as Scrapy does, and return what it makes of the failure.

        Scrapy logs a traceback of what is raised here. A failure of the site or of the cache is
        returned instead: the hook has told it in one line.
        """
        self._imgcache.note_failure(error, request)
        try:
            failure: Any = self.media_failed(Failure(error), request, info)
            if isinstance(failure, Failure):
                warnings.warn(
                    f"{type(self).__name__}.media_failed returned a Failure instance. This is"
                    " deprecated, raise an exception instead, e.g. failure.raiseException().",
                    category=ScrapyDeprecationWarning,
                    stacklevel=2,
                )
                failure.raiseException()
        except Exception as raised:
            if self._imgcache.is_told(raised, error, request):
                return Failure()
            raise
        return None

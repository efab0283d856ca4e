"""NamedFilesPipeline: the base of the drop-ins; it names files by IMGCACHE_PATH."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from scrapy import Request, signals
from scrapy.http import Response
from scrapy.pipelines.files import FilesPipeline, FSFilesStore
from scrapy.pipelines.images import ImagesPipeline
from scrapy.pipelines.media import MediaPipeline
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.request import RequestFingerprinterProtocol

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.plugin.file_names.at_hand import OutcomesAtHand
from imgcache_scrapy.plugin.file_names.extensions import extension_of
from imgcache_scrapy.plugin.file_names.names import ANY_EXTENSION, Name, Names
from imgcache_scrapy.plugin.file_names.path_index import PathIndex
from imgcache_scrapy.plugin.item_requests import bad_url_reason
from imgcache_scrapy.plugin.media import CachedMediaPipeline
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome
from imgcache_scrapy.plugin.reservation import KeyLocks, Reservation, may_wait
from imgcache_scrapy.plugin.settings import project_data_path
from imgcache_scrapy.plugin.source import ImageSource

_INDEX = "imgcache-paths.sqlite3"
# What Scrapy's ImagesPipeline writes, whatever the picture was.
_IMAGES_EXTENSION = "jpg"
_SCRAPYS_FILE_PATHS = (FilesPipeline.file_path, ImagesPipeline.file_path)


class NamedSource(ImageSource):
    """Gives each picture of each item its own path, if IMGCACHE_PATH is set.

    Scrapy keeps one result for each URL. Here it keeps one for each URL and path, and a picture
    that many items show is fetched once all the same.

    Attributes:
        names: the names of the pictures; None if Scrapy's `file_path` names them, or a subclass's.
    """

    def __init__(self, pipeline: MediaPipeline) -> None:
        super().__init__(pipeline)
        self.names: Names | None = None
        template = self.settings.path
        if template is None or not self.is_enabled:
            return
        if has_own_file_path(pipeline):
            self.log.info("%s.file_path names files, not IMGCACHE_PATH", type(pipeline).__name__)
            return
        index = PathIndex(Path(project_data_path(_INDEX)).absolute(), self.log)
        self.names = Names(template, _store_name(pipeline), pipeline.MEDIA_NAME, index)  # type: ignore[attr-defined]
        self._at_hand = OutcomesAtHand()
        self._turns = KeyLocks()
        self._urls: RequestFingerprinterProtocol = pipeline._fingerprinter  # noqa: SLF001
        pipeline._fingerprinter = _NameFingerprinter(self._urls, self.names)  # noqa: SLF001
        pipeline.crawler.signals.connect(self.names.close, signals.spider_closed)

    def begin(self, request: Request, item: Any, index: int) -> None:
        """Start the name of a request."""
        if self.names is not None:
            self.names.begin(request, item, index, self._picture_key(request))

    def count(self, request: Request, outcome: Outcome) -> None:
        """Count the fate of a request's URL; another item may still get its image."""
        name = self._name(request)
        if name is None or not name.problem:
            super().count(request, outcome)
        else:
            self.flow.session.tally.count_later(self.url_key(request), outcome)

    async def deliver(
        self, outcome: Outcome, request: Request, info: MediaPipeline.SpiderInfo, item: Any
    ) -> Any:
        """Let the pipeline write the file of a response under its own path."""
        response, name = outcome.response, self._name(request)
        if name is None or response is None or not _is_file(response):
            return await super().deliver(outcome, request, info, item)
        assert self.names is not None  # noqa: S101 - there is a name
        entry = outcome.entry
        content_hash = content_hash_of(response.body) if entry is None else entry["content_hash"]
        await self.names.claim(name, self._extension(response, outcome), content_hash)
        is_written = False
        try:
            result = await super().deliver(outcome, request, info, item)
            is_written = result is not None
        finally:
            await self.names.settle(name, is_written=is_written)
        return result

    async def _find_or_fetch(self, request: Request, reservation: Reservation) -> Outcome:
        name = self._name(request)
        if name is None:
            return await super()._find_or_fetch(request, reservation)
        if name.problem and bad_url_reason(request) is None:
            raise ImageFailed("hook", name.problem)
        key = self._urls.fingerprint(request)
        async with self._turn(key):
            outcome = self._at_hand.get(key, request)
            if outcome is None:
                try:
                    outcome = await super()._find_or_fetch(request, reservation)
                except Exception as error:
                    self._at_hand.put(key, Outcome.failed(ImageFailed.of(error)))
                    raise
                self._at_hand.put(key, outcome)
            return outcome

    def guess_extension(self, request: Request, response: Response | None) -> None:
        """Guess the extension of a file, for a hook that asks for its path before it is known."""
        name = self._name(request)
        if name is not None and name.extension == ANY_EXTENSION:
            name.extension = self._extension(response or Response(request.url))

    @asynccontextmanager
    async def _turn(self, key: bytes) -> AsyncIterator[None]:
        """Wait until no other item's task gets the image of this URL."""
        if not may_wait():
            yield
            return
        async with self._turns.lock(key.hex()):
            yield

    def _picture_key(self, request: Request) -> str:
        """Return the cache key of a request, also of one that has none."""
        if bad_url_reason(request) is None:
            with suppress(InvalidRequestError, ImageFailed):
                return self.image_url(request).key
        return self.url_key(request)

    def _name(self, request: Request) -> Name | None:
        return None if self.names is None else self.names.get(request)

    def _extension(self, response: Response, outcome: Outcome | None = None) -> str:
        if self.pipeline.MEDIA_NAME == "image":  # type: ignore[attr-defined]
            return _IMAGES_EXTENSION
        return extension_of(response, None if outcome is None else outcome.entry)


class NamedFilesPipeline(CachedMediaPipeline):
    """Names files by IMGCACHE_PATH; a `file_path` of a subclass is preferred to it."""

    _imgcache_source = NamedSource
    _imgcache: NamedSource

    def file_path(
        self,
        request: Request,
        response: Response | None = None,
        info: Any = None,
        *,
        item: Any = None,
    ) -> str:
        """Return the path of a file: as IMGCACHE_PATH says, else the same as Scrapy."""
        names = self._imgcache.names
        if names is None:
            return super().file_path(request, response, info, item=item)  # type: ignore[safe-super]
        self._imgcache.guess_extension(request, response)
        return names.path(request)

    def media_to_download(
        self, request: Request, info: MediaPipeline.SpiderInfo, *, item: Any = None
    ) -> Any:
        """Do the same as Scrapy; a file that is another picture's is not up to date."""
        if self._imgcache.names is None:
            return super().media_to_download(request, info, item=item)  # type: ignore[safe-super]
        return self._imgcache_local_file(request, info, item)

    async def _imgcache_local_file(
        self, request: Request, info: MediaPipeline.SpiderInfo, item: Any
    ) -> Any:
        assert self._imgcache.names is not None  # noqa: S101 - see the caller
        if not await self._imgcache.names.find(request):
            return None
        result = super().media_to_download(request, info, item=item)  # type: ignore[safe-super]
        return await ensure_awaitable(result)


class _NameFingerprinter:
    """Gives requests with the same URL and the same path the same result."""

    def __init__(self, urls: RequestFingerprinterProtocol, names: Names) -> None:
        self._urls = urls
        self._names = names

    def fingerprint(self, request: Request) -> bytes:
        """Return the fingerprint of a request and its name."""
        name = self._names.get(request)
        return self._urls.fingerprint(request) + (b"" if name is None else name.identity)


def has_own_file_path(pipeline: MediaPipeline) -> bool:
    """Return whether a class of the project names the files of a pipeline."""
    own = type(pipeline).file_path is not NamedFilesPipeline.file_path
    inherited = super(NamedFilesPipeline, pipeline).file_path  # type: ignore[misc]
    is_scrapys = getattr(inherited, "__func__", None) in _SCRAPYS_FILE_PATHS
    return own or not is_scrapys or "file_path" in vars(pipeline)


def _is_file(response: Response) -> bool:
    return response.status in ACCEPTED_STATUSES and bool(response.body)


def _store_name(pipeline: Any) -> str:
    """Return what identifies the store of a pipeline."""
    if isinstance(pipeline.store, FSFilesStore):
        return str(Path(pipeline.store.basedir).absolute())
    settings = pipeline.crawler.settings
    return str(settings["IMAGES_STORE" if pipeline.MEDIA_NAME == "image" else "FILES_STORE"])

"""The embedded cache: an engine in this process, without server and HTTP."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from imgcache_scrapy.core.concurrency import Limiter
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.forks import ForkObserver, no_fork
from imgcache_scrapy.core.text import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from imgcache_scrapy.client.transport import Transport
    from imgcache_scrapy.engine.cache import ImageCache

# While some stores run, those of the next batches wait in the cache, so that they go together.
_MAX_CALLS = 128


def embedded_transport(
    folder: Path, timeout: float | None, max_bytes: int | None = None
) -> "Transport":
    """Return the transport to the cache in a folder; the first call opens the cache.

    Args:
        folder: the folder of the cache; the first store creates it if it is missing.
        timeout: seconds for one call; None for no limit.
        max_bytes: the size of all images together that stores keep; None for no limit.

    Raises:
        ConfigurationError: the folder cannot be created.
    """
    # Imported here, because the client of a service needs no engine. The first call would be too
    # late, because an import in a thread blocks the event loop.
    with no_fork:
        from imgcache_scrapy.engine.absent import (  # noqa: PLC0415
            AbsentCache,
            can_create,
            import_for,
        )
        from imgcache_scrapy.engine.async_cache import AsyncImageCache  # noqa: PLC0415
        from imgcache_scrapy.engine.cache import ImageCache  # noqa: PLC0415

    try:
        import_for(folder)
        if not folder.is_dir() and not can_create(folder):
            raise PermissionError("it is no folder, or cannot be created")
    except OSError as error:
        raise ConfigurationError(
            f"a cache cannot be created in {folder}: {reason_of(error)}"
        ) from error
    return AsyncImageCache(
        open_cache=lambda: _shared.acquire(folder, ImageCache.in_folder),
        close_cache=lambda _: _shared.release(folder),
        limiter=Limiter(_MAX_CALLS, timeout),
        absent=AbsentCache(folder, is_open=lambda: _shared.has(folder)),
        max_bytes=max_bytes,
    )


class _SharedCaches(ForkObserver):
    """Opens one thread-safe cache per folder and process; closes it after its last user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[ImageCache, int]] = {}
        self.observe_forks()

    def after_fork_in_child(self) -> None:
        """Forget the caches of the parent, so that the new process opens its own."""
        self._lock = threading.Lock()
        self._open = {}

    def acquire(self, folder: Path, open_cache: "Callable[[Path], ImageCache]") -> "ImageCache":
        with self._lock:
            cache, users = self._open.get(folder) or (open_cache(folder), 0)
            self._open[folder] = (cache, users + 1)
        return cache

    def has(self, folder: Path) -> bool:
        """Return whether the cache for a folder is open."""
        return folder in self._open

    def release(self, folder: Path) -> None:
        with self._lock:
            cache, users = self._open.pop(folder)
            if users > 1:
                self._open[folder] = (cache, users - 1)
            else:
                cache.close()


_shared = _SharedCaches()

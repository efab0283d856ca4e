"""SyncThreads: sync many files and folders at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_HELPERS = 4


class SyncThreads:
    """A few threads that help to sync; any number of threads may use it.

    Syncs that run at the same time share one write of the file system's journal, so that many take
    little longer than one.
    """

    def __init__(self) -> None:
        self._helpers = ThreadPoolExecutor(_HELPERS, "imgcache-sync")

    def sync(self, sync: Callable[[str], None], paths: Sequence[str]) -> dict[str, OSError]:
        """Sync paths.

        Args:
            sync: syncs one path.
            paths: the paths.

        Returns:
            The errors of those paths that cannot be synced.
        """
        # This thread takes its share: a single path needs no helper.
        first, *others = [paths[start :: _HELPERS + 1] for start in range(_HELPERS + 1)]
        tasks = [self._helpers.submit(_errors, sync, share) for share in others if share]
        return _errors(sync, first) | {
            path: error for task in tasks for path, error in task.result().items()
        }

    def close(self) -> None:
        """Stop the threads."""
        self._helpers.shutdown()


def _errors(sync: Callable[[str], None], paths: Sequence[str]) -> dict[str, OSError]:
    errors = {}
    for path in paths:
        try:
            sync(path)
        except OSError as error:
            errors[path] = error
    return errors

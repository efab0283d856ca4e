"""Start decoders and the workers of services quickly: in forks that have imported their modules.

Only the programs of `forking.start` do so: the same process forks for them and for their children.
The children run the same functions, with the same arguments, pipes and limits.
"""

import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver, spawn
from multiprocessing.process import BaseProcess
from typing import Any

import uvicorn._subprocess

from tests.support.forked_decoder import ReceivedFiles, fork_decoders, set_environment
from tests.support.forking import FORKING


def fork_children() -> None:
    """Let this process, a fork, start its decoders and workers in forks, too."""
    # The process that forks runs already; a fork does not know that.
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    # A child must not run the main module of this process.
    spawn.get_preparation_data = lambda _: {"sys_path": sys.path}  # type: ignore[assignment]
    fork_decoders()
    uvicorn._subprocess.spawn = _Workers  # type: ignore[assignment]


class _Workers:
    """What uvicorn uses of the context of `multiprocessing`."""

    @staticmethod
    def Process(target: Callable[..., None], kwargs: dict[str, Any]) -> BaseProcess:  # noqa: N802
        setting = dict(os.environ), os.getcwd(), ReceivedFiles(1, 2)  # noqa: PTH109
        return FORKING.Process(target=_work, args=(*setting, target, kwargs))


def _work(
    environment: dict[str, str],
    folder: str,
    files: ReceivedFiles,
    target: Callable[..., None],
    kwargs: dict[str, Any],
) -> None:
    set_environment(environment)
    os.chdir(folder)
    for number, file in enumerate(files.numbers, start=1):
        os.dup2(file, number)
    # This file is in another place here, and nothing reads it.
    target(**kwargs | {"stdin_fileno": None})

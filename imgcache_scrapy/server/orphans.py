"""End a worker process whose parent was killed, so that it does not serve on its own."""

import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from threading import Thread

_SECONDS_TO_END = 30


def end_with_parent() -> None:
    """End this process when its parent process has ended; do nothing in a process of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=[parent], name="imgcache-parent", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    # Requests that are running may end.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_TO_END)
    os.kill(os.getpid(), signal.SIGKILL)

"""Tools for concurrent calls: Batcher and Limiter."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.deadline import timeout
from imgcache_scrapy.core.errors import ImgCacheError, UnavailableError
from imgcache_scrapy.core.forks import FORKED

T = TypeVar("T")
Question = TypeVar("Question", bound=Hashable)
Reply = TypeVar("Reply")

_Waiting: TypeAlias = list[tuple[Question, list[asyncio.Future[Reply | None]]]]

logger = logging.getLogger(__name__)

# Resume at most this many waiters of a call per loop iteration: all at once would block the loop.
_RESUMED_TOGETHER = 8


class Batcher(Generic[Question, Reply]):
    """Collects questions while a call is running, and sends them together in the next call.

    There is no timer: if no call is running, a question is sent at once. If a question is asked
    again while a call with the same question is running, it waits for the next call, because the
    reply may have changed.

    If a call fails because of some of its questions, its halves are asked separately, so that only
    these questions fail.

    Args:
        call: answers a list of questions; a question that is missing from its result has no reply,
            and one whose result is an exception fails with it.
        max_batch: maximum number of questions in one call.
        max_calls: maximum number of calls that run at the same time.
        is_common: whether an error of a call concerns all its questions.
    """

    def __init__(
        self,
        call: Callable[[list[Question]], Awaitable[Mapping[Question, Reply | Exception]]],
        *,
        max_batch: int,
        max_calls: int = 1,
        is_common: Callable[[Exception], bool] = lambda error: isinstance(error, ImgCacheError),
    ) -> None:
        self._call = call
        self._is_common = is_common
        self._max_batch = max_batch
        self._max_calls = max_calls
        self._waiting: dict[Question, list[asyncio.Future[Reply | None]]] = {}
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> Reply | None:
        """Ask one question.

        Returns:
            The reply; None if the question has no reply.

        Raises:
            Exception: the error of this question, or of the whole call.
        """
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question, []).append(reply)
        if self._running < self._max_calls:
            self._running += 1
            self._start(self._run())
        return await reply

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            while self._waiting:
                questions = list(islice(self._waiting, self._max_batch))
                waiting = {each: self._waiting.pop(each) for each in questions}
                found = await self._found(questions)
                # The next call starts before the waiters resume, which may take the loop long.
                groups = batches(waiting.items(), _RESUMED_TOGETHER)
                _resume(next(groups), found)
                if len(waiting) > _RESUMED_TOGETHER:
                    self._start(_resume_others(groups, found))
        finally:
            # Here and not in a done callback: a question asked before the callback runs would
            # otherwise wait for a call that nobody starts.
            self._running -= 1

    async def _found(self, questions: list[Question]) -> Mapping[Question, Reply | Exception]:
        try:
            return await self._call(questions)
        except Exception as error:
            if len(questions) == 1 or self._is_common(error):
                return dict.fromkeys(questions, error)
        half = len(questions) // 2
        return {**await self._found(questions[:half]), **await self._found(questions[half:])}


def _resume(
    waiting: _Waiting[Question, Reply], found: Mapping[Question, Reply | Exception]
) -> None:
    """Give the waiters of some questions their answers."""
    for question, replies in waiting:
        answer = found.get(question)
        for reply in replies:
            if reply.done():  # The caller may have been cancelled.
                continue
            if isinstance(answer, Exception):
                reply.set_exception(answer)
            else:
                reply.set_result(answer)


async def _resume_others(
    groups: Iterable[_Waiting[Question, Reply]], found: Mapping[Question, Reply | Exception]
) -> None:
    for waiting in groups:
        _resume(waiting, found)
        await asyncio.sleep(0)


class Limiter:
    """Bounds the number of calls to a cache that run at the same time, and the time of each.

    Args:
        max_calls: maximum number of running calls; further calls wait without a time limit.
        seconds: time for one call from the moment it has a slot, without the time in which the
            event loop stands still; None for no limit.
    """

    def __init__(self, max_calls: int, seconds: float | None) -> None:
        self._max_calls = max_calls
        self._seconds = seconds
        self._slots = asyncio.Semaphore(max_calls)
        self._is_closed = False
        self._process: int | None = None

    @property
    def is_inherited(self) -> bool:
        """Whether a call ran before this process was forked."""
        return self._process not in {None, os.getpid()}

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run a call as soon as a slot is free.

        Raises:
            UnavailableError: the call exceeded the timeout or raised an unexpected exception, or
                the limiter is closed, or was used before this process was forked.
            ImgCacheError: the error that the call raised.
        """
        if self._is_closed:
            raise UnavailableError("the client is closed")
        self._process = self._process or os.getpid()
        if self.is_inherited:
            raise UnavailableError(FORKED)
        async with self._slots:
            try:
                async with timeout(self._seconds):
                    return await call()
            except ImgCacheError:
                raise
            except TimeoutError as error:
                raise UnavailableError(
                    f"the cache did not answer within {self._seconds} s"
                ) from error
            except Exception as error:
                logger.exception("The cache failed: %s", type(error).__name__)
                raise UnavailableError("the cache failed; see its log for the reason") from error

    def close(self) -> None:
        """Refuse all further calls."""
        self._is_closed = True

    async def finish(self) -> None:
        """Refuse further calls, and wait for the calls that have started."""
        self.close()
        for _ in range(self._max_calls):
            await self._slots.acquire()

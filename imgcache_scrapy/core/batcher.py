"""Batcher: sends the questions that arrive at the same time together, in one call."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from itertools import chain, islice
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Reply = TypeVar("Reply")

# Resume at most this many waiters per loop iteration: resuming all of them at once blocks the loop.
_RESUMED_TOGETHER = 8


class Batcher(Generic[Question, Reply]):
    """Collects questions while a call is running, and sends them together in the next call.

    There is no timer: while no call is running, a question is sent at once. A question that is
    asked again while a call with the same question is running waits for the next call, because
    the reply may have changed.

    Args:
        call: answers a list of questions; a question that is missing in its result has no reply.
        max_batch: maximum number of questions in one call.
        max_calls: maximum number of calls that run at the same time.
    """

    def __init__(
        self,
        call: Callable[[list[Question]], Awaitable[Mapping[Question, Reply]]],
        *,
        max_batch: int,
        max_calls: int = 1,
    ) -> None:
        self._call = call
        self._max_batch = max_batch
        self._max_calls = max_calls
        self._waiting: dict[Question, list[asyncio.Future[Reply | None]]] = {}
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> Reply | None:
        """Ask one question.

        Returns:
            The reply, None if there is none.

        Raises:
            Exception: what the call raised, for every question in it.
        """
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question, []).append(reply)
        if self._running < self._max_calls:
            self._running += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await reply

    async def _run(self) -> None:
        try:
            while self._waiting:
                questions = list(islice(self._waiting, self._max_batch))
                await self._answer({each: self._waiting.pop(each) for each in questions})
        finally:
            # Not when the task is done: a question asked in between must start the next call.
            self._running -= 1

    async def _answer(self, waiting: dict[Question, list["asyncio.Future[Reply | None]"]]) -> None:
        try:
            found = await self._call(list(waiting))
        except Exception as error:
            for reply in chain.from_iterable(waiting.values()):
                if not reply.done():  # The caller may have been cancelled.
                    reply.set_exception(error)
        else:
            for number, (question, replies) in enumerate(waiting.items(), 1):
                for reply in replies:
                    if not reply.done():
                        reply.set_result(found.get(question))
                if number % _RESUMED_TOGETHER == 0:
                    await asyncio.sleep(0)

"""How calls that come at the same time are joined, bounded and made once."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from itertools import islice
from typing import Generic, Self, TypeVar

from imgcache_scrapy.errors import UnavailableError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")


class Joined(Generic[K, V]):
    """Joins questions: what is asked while a call is under way goes out together in the next.

    There is no timer: a question that finds nothing under way goes out at once. One that is
    asked anew while its like is under way waits for the next call, since its answer may have
    changed meanwhile.

    Args:
        call: answers many questions at once; a question that is missing in its answer has none.
        limit: how many questions go into one call.
        calls: how many calls may be under way.
    """

    def __init__(
        self, call: Callable[[list[K]], Awaitable[Mapping[K, V]]], *, limit: int, calls: int = 1
    ) -> None:
        self._call = call
        self._limit = limit
        self._calls = calls
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: K) -> V | None:
        """Ask one question.

        Returns:
            Its answer, None where it has none.

        Raises:
            Exception: what the call raised, for every question in it.
        """
        answer = self._waiting.get(question)
        if answer is None:
            answer = self._waiting[question] = asyncio.get_running_loop().create_future()
            # Whoever asked may be gone when the call fails.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._under_way < self._calls:
            self._under_way += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(answer)

    async def _run(self) -> None:
        try:
            while self._waiting:
                questions = list(islice(self._waiting, self._limit))
                answers = {question: self._waiting.pop(question) for question in questions}
                await self._answer(answers)
        finally:
            # At once, and not when the task is done: who asks in between starts the next.
            self._under_way -= 1

    async def _answer(self, answers: dict[K, "asyncio.Future[V | None]"]) -> None:
        try:
            found = await self._call(list(answers))
        except Exception as error:
            for answer in answers.values():
                answer.set_exception(error)
        else:
            for question, answer in answers.items():
                answer.set_result(found.get(question))


class Once(Generic[K, V]):
    """Does a thing once per key: whoever comes later, or meanwhile, gets the same outcome.

    Args:
        remembered: how many outcomes are kept, the ones used last.
    """

    def __init__(self, *, remembered: int) -> None:
        self._remembered = remembered
        self._outcomes: OrderedDict[K, asyncio.Future[V]] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """Give the outcome of the key, by doing it where it was not done yet.

        Args:
            key: names the thing.
            make: does it; should return its failures, since what it raises is kept alive.
        """
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = self._outcomes[key] = asyncio.get_running_loop().create_future()
            # A task would keep alive whatever its context saw.
            task = asyncio.create_task(self._make(make, outcome))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        self._outcomes.move_to_end(key)
        return await asyncio.shield(outcome)

    async def _make(self, make: Callable[[], Awaitable[V]], outcome: "asyncio.Future[V]") -> None:
        try:
            outcome.set_result(await make())
        except BaseException as error:
            outcome.set_exception(error)
            outcome.exception()  # whoever asked may be gone
            if not isinstance(error, Exception):
                raise
        self._forget()

    def _forget(self) -> None:
        surplus = len(self._outcomes) - self._remembered
        if surplus > 0:
            oldest = list(islice(self._outcomes.items(), surplus))
            for key in [key for key, outcome in oldest if outcome.done()]:
                del self._outcomes[key]


class Seen(Generic[K]):
    """Remembers which keys came, in bounded memory: the last ones, up to twice as many as told.

    Args:
        remembered: how many are remembered at least.
    """

    def __init__(self, *, remembered: int) -> None:
        self._remembered = remembered
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def add(self, key: K) -> bool:
        """Note a key.

        Returns:
            Whether it is new, as far as is remembered.
        """
        digest = hash(key)
        if digest in self._recent or digest in self._older:
            return False
        if len(self._recent) >= self._remembered:
            self._recent, self._older = set(), self._recent
        self._recent.add(digest)
        return True


class Calls:
    """Bounds how many calls are under way, and how long each may take once it is.

    Args:
        count: how many may be under way; the others wait in line, as long as that takes.
        timeout: seconds for one call; None for no limit.
    """

    def __init__(self, count: int, timeout: float | None) -> None:
        self._count = count
        self._timeout = timeout
        self._slots = asyncio.Semaphore(count)

    async def make(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call when it is its turn.

        Raises:
            UnavailableError: it took too long.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    return await call()
            except TimeoutError as error:
                raise UnavailableError(
                    f"the cache gave no answer within {self._timeout} s"
                ) from error

    async def finish(self) -> None:
        """Wait until no call is under way, and let no other begin."""
        for _ in range(self._count):
            await self._slots.acquire()


class Room:
    """Bounds what is in memory at a time, by count and by bytes; who finds it full waits in line.

    Args:
        count: how many may be inside.
        size: how many bytes may be inside; one alone may be larger.
    """

    def __init__(self, *, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._inside: dict[Place, int] = {}
        self._line: OrderedDict[Place, asyncio.Future[None]] = OrderedDict()

    async def enter(self, expected: int, *, at_once: bool = False) -> "Place":
        """Wait for a place for something of about this many bytes.

        Args:
            expected: how many bytes.
            at_once: do not wait, however full it is.
        """
        place = Place(self, expected)
        if at_once or (not self._line and self._has_room(expected)):
            self._inside[place] = expected
            return place
        turn = self._line[place] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except BaseException:
            self._line.pop(place, None)
            self._inside.pop(place, None)
            self._admit()
            raise
        return place

    def _has_room(self, size: int) -> bool:
        if not self._inside:
            return True
        full = sum(self._inside.values()) + size > self._size
        return len(self._inside) < self._count and not full

    def _resize(self, place: "Place", size: int) -> None:
        if place in self._inside:
            self._inside[place] = size
            self._admit()

    def _leave(self, place: "Place") -> None:
        if self._inside.pop(place, None) is not None:
            self._admit()

    def _admit(self) -> None:
        while self._line:
            place, turn = next(iter(self._line.items()))
            if not self._has_room(place.expected):
                return
            del self._line[place]
            self._inside[place] = place.expected
            if not turn.done():
                turn.set_result(None)


class Place:
    """A place in a `Room`; leave it as soon as the bytes are gone."""

    def __init__(self, room: Room, expected: int) -> None:
        self.expected = expected
        self._room = room

    def holds(self, size: int) -> None:
        """Correct the number of bytes, now that it is known."""
        self._room._resize(self, size)  # noqa: SLF001

    def leave(self) -> None:
        """Make room for the next; harmless when repeated."""
        self._room._leave(self)  # noqa: SLF001

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

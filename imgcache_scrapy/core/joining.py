"""How calls that come at the same time are joined, bounded and made once."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from functools import partial
from itertools import chain, islice
from typing import Any, Generic, Self, TypeVar

from imgcache_scrapy.core.errors import UnavailableError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

# So many who waited go on in one turn of the event loop: many make it stall.
_AT_ONCE = 8


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
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: K) -> V | None:
        """Ask one question.

        Returns:
            Its answer, None where it has none.

        Raises:
            Exception: what the call raised, for every question in it.
        """
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question, []).append(answer)
        if self._under_way < self._calls:
            self._under_way += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                questions = list(islice(self._waiting, self._limit))
                await self._answer(
                    {question: self._waiting.pop(question) for question in questions}
                )
        finally:
            # At once, and not when the task is done: who asks in between starts the next.
            self._under_way -= 1

    async def _answer(self, asked: dict[K, list["asyncio.Future[V | None]"]]) -> None:
        try:
            found = await self._call(list(asked))
        except Exception as error:
            for answer in chain.from_iterable(asked.values()):
                if not answer.done():  # Whoever asked may be gone.
                    answer.set_exception(error)
        else:
            for number, (question, answers) in enumerate(asked.items(), 1):
                for answer in answers:
                    if not answer.done():
                        answer.set_result(found.get(question))
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)


class Once(Generic[K, V]):
    """Does a thing once per key: whoever comes later, or meanwhile, gets the same outcome.

    Args:
        remembered: how many outcomes are kept, the ones used last.
    """

    def __init__(self, *, remembered: int) -> None:
        self._remembered = remembered
        self._outcomes: OrderedDict[K, V] = OrderedDict()
        self._under_way: dict[K, asyncio.Task[V]] = {}

    async def do_all(
        self, things: Iterable[tuple[K, Callable[[], Coroutine[Any, Any, V]]]]
    ) -> list[V]:
        """Give the outcomes of keys, by doing at once what was not done yet.

        Args:
            things: each with the key that names it, and what does it, in a task of its own. It
                should return its failures: what it raises is raised here, and not remembered.
        """
        found: list[V | asyncio.Task[V]] = []
        for key, make in things:
            if key in self._outcomes:
                self._outcomes.move_to_end(key)
                found.append(self._outcomes[key])
            else:
                found.append(self._under_way.get(key) or self._begin(key, make))
        if under_way := [each for each in found if isinstance(each, asyncio.Task)]:
            await asyncio.wait(under_way)
        return [each.result() if isinstance(each, asyncio.Task) else each for each in found]

    def _begin(self, key: K, make: Callable[[], Coroutine[Any, Any, V]]) -> "asyncio.Task[V]":
        task = self._under_way[key] = asyncio.create_task(make())
        task.add_done_callback(partial(self._end, key))
        return task

    def _end(self, key: K, task: "asyncio.Task[V]") -> None:
        del self._under_way[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._outcomes[key] = task.result()
        if len(self._outcomes) > self._remembered:
            self._outcomes.popitem(last=False)


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

"""What callers share: one call for many questions, one doing per key, one room for all."""

import asyncio
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.joining import Calls, Joined, Once, Room, Seen


@pytest.fixture
def anyio_backend():
    return "asyncio"


pytestmark = pytest.mark.anyio


async def settled():
    """Let every task run until nothing but what a test holds back is left."""
    for _ in range(20):
        await asyncio.sleep(0)


class Service:
    """Answers questions in upper case, while `open` is set; remembers each call."""

    def __init__(self):
        self.calls = []
        self.open = asyncio.Event()
        self.error = None

    async def __call__(self, questions):
        self.calls.append(questions)
        await self.open.wait()
        if self.error:
            raise self.error
        return {question: question.upper() for question in questions if question != "unknown"}


def asking(joined, questions):
    return [asyncio.create_task(joined.ask(question)) for question in questions]


async def test_a_lone_question_goes_out_at_once():
    """Nobody waits for company: a question that finds nothing under way is a call of its own."""
    service = Service()
    service.open.set()
    joined = Joined(service, limit=10)
    assert await joined.ask("a") == "A"
    assert await joined.ask("b") == "B"
    assert service.calls == [["a"], ["b"]]


async def test_a_question_without_answer_is_answered_with_none():
    """What the call leaves out has no answer, which is an answer."""
    service = Service()
    service.open.set()
    assert await Joined(service, limit=10).ask("unknown") is None


async def test_questions_join_while_a_call_is_under_way():
    """What is asked during a call goes out together in the next one, the same question once."""
    service = Service()
    joined = Joined(service, limit=10)
    first = asking(joined, "a")
    await settled()
    later = asking(joined, "bcb")
    await settled()
    assert service.calls == [["a"]]
    service.open.set()
    assert await asyncio.gather(*first, *later) == ["A", "B", "C", "B"]
    assert service.calls == [["a"], ["b", "c"]]


async def test_no_call_has_more_questions_than_the_limit():
    """Many questions make several calls, one after the other and in the order of asking."""
    service = Service()
    joined = Joined(service, limit=3)
    service.open.set()
    answers = await asyncio.gather(*asking(joined, "abcdefgh"))
    assert answers == list("ABCDEFGH")
    assert service.calls == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]


async def test_a_question_asked_anew_while_under_way_is_asked_again():
    """An answer that is already on its way may be outdated, so it serves nobody who asks later."""
    service = Service()
    joined = Joined(service, limit=10)
    first = asking(joined, "a")
    await settled()
    second = asking(joined, "a")
    await settled()
    service.open.set()
    assert await asyncio.gather(*first, *second) == ["A", "A"]
    assert service.calls == [["a"], ["a"]]


async def test_those_who_waited_go_on_a_few_at_a_time():
    """However many have an answer, the event loop has its turns in between."""
    service, gone_on = Service(), []
    joined = Joined(service, limit=100)

    async def ask(question):
        gone_on.append(await joined.ask(question))

    tasks = [asyncio.create_task(ask(str(number))) for number in range(40)]
    await settled()
    service.open.set()
    most = before = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        most, before = max(most, len(gone_on) - before), len(gone_on)
    assert len(gone_on) == 40
    assert 1 <= most <= 8


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_question_is_answered_whenever_it_comes(calls):
    """Also one that comes at the very moment in which the call before it is over."""
    service = Service()
    service.open.set()
    joined = Joined(service, limit=10, calls=calls)
    for steps in range(20):
        first = asyncio.create_task(joined.ask("a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await joined.ask("b") == "B"
            assert await first == "A"


async def test_so_many_calls_are_under_way_at_a_time():
    """A second call goes out beside the first, a third waits for one of them."""
    service = Service()
    joined = Joined(service, limit=1, calls=2)
    tasks = asking(joined, "abc")
    await settled()
    assert service.calls == [["a"], ["b"]]
    service.open.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_an_error_reaches_every_asker_and_no_later_one():
    """Everybody in a failing call hears why; the next question is asked as if nothing was."""
    service = Service()
    joined = Joined(service, limit=10)
    service.error = RuntimeError("down")
    service.open.set()
    outcomes = await asyncio.gather(*asking(joined, "aab"), return_exceptions=True)
    assert outcomes == [service.error] * 3
    service.error = None
    assert await joined.ask("a") == "A"


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_an_asker_who_gives_up_disturbs_nobody(gone):
    """One of three askers is cancelled, the others of that call and of the next get answers."""
    service = Service()
    joined = Joined(service, limit=10)
    tasks = asking(joined, "a")
    await settled()
    tasks += asking(joined, "bb")
    await settled()
    tasks[gone].cancel()
    await settled()
    service.open.set()
    async with asyncio.timeout(5):  # Else a lost answer would be waited for.
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    expected = ["A", "B", "B"]
    assert isinstance(outcomes.pop(gone), asyncio.CancelledError)
    del expected[gone]
    assert outcomes == expected
    assert await joined.ask("c") == "C"


async def test_a_failure_that_nobody_waits_for_is_silent(caplog):
    """A failing call whose askers are all gone leaves no complaint of the event loop."""
    service = Service()
    service.error = RuntimeError("down")
    joined = Joined(service, limit=10)
    (task,) = asking(joined, "a")
    await settled()
    task.cancel()
    service.open.set()
    await settled()
    assert task.cancelled()
    assert not caplog.records


class Maker:
    """Makes numbered outcomes, while `open` is set."""

    def __init__(self):
        self.made = 0
        self.open = asyncio.Event()

    async def __call__(self):
        self.made += 1
        number = self.made
        await self.open.wait()
        return number


async def test_a_thing_is_done_once_for_all_who_ask():
    """Those who come meanwhile and those who come later share the outcome of the first."""
    once, make = Once(remembered=10), Maker()
    meanwhile = [asyncio.create_task(once.do_all([("key", make)] * 2)) for _ in range(5)]
    await settled()
    make.open.set()
    assert await asyncio.gather(*meanwhile) == [[1, 1]] * 5
    assert await once.do_all([("other", make), ("key", make)]) == [2, 1]


async def test_things_are_done_at_the_same_time():
    """A slow one does not keep those that are asked for with it from beginning."""
    once, slow, quick = Once(remembered=10), Maker(), Maker()
    both = asyncio.create_task(once.do_all([("slow", slow), ("quick", quick)]))
    await settled()
    assert (slow.made, quick.made) == (1, 1)
    slow.open.set()
    quick.open.set()
    assert await both == [1, 1]


async def test_a_thing_goes_on_without_whoever_asked_first():
    """The first asker's cancellation ends its waiting and nothing else."""
    once, make = Once(remembered=10), Maker()
    first, second = (asyncio.create_task(once.do_all([("key", make)])) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    make.open.set()
    assert await second == [1]
    assert first.cancelled()
    assert make.made == 1


async def test_what_was_raised_is_raised_and_the_thing_tried_again():
    """Who asks meanwhile hears of it too; who asks later has it done anew."""
    once, tries = Once(remembered=10), []

    async def fail():
        tries.append(1)
        raise RuntimeError("broken")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            await once.do_all([("key", fail), ("key", fail)])
    assert tries == [1, 1]


async def test_only_so_many_outcomes_are_remembered():
    """Beyond the bound it is the outcome used longest ago that is forgotten."""
    once, make = Once(remembered=2), Maker()
    make.open.set()
    for key in ("a", "b", "a", "c"):
        await once.do_all([(key, make)])
    assert make.made == 3
    assert await once.do_all([("a", make), ("c", make)]) == [1, 3]
    assert await once.do_all([("b", make)]) == [4]


async def test_more_can_be_asked_for_than_is_remembered():
    """Everything asked for at once has its outcome, in its place."""
    once, make = Once(remembered=2), Maker()
    make.open.set()
    assert await once.do_all([(key, make) for key in range(10)]) == list(range(1, 11))


async def test_what_is_under_way_is_never_forgotten():
    """A slow thing is done once, however many others come and go meanwhile."""
    once, slow, quick = Once(remembered=2), Maker(), Maker()
    quick.open.set()
    first = asyncio.create_task(once.do_all([("slow", slow)]))
    for key in range(10):
        await once.do_all([(key, quick)])
    again = asyncio.create_task(once.do_all([("slow", slow)]))
    await settled()
    slow.open.set()
    assert await asyncio.gather(first, again) == [[1], [1]]


class Guests:
    """Whoever enters a room, in order; each task stays until its place is left from outside."""

    def __init__(self, **limits):
        self.room = Room(**limits)
        self.inside = {}

    async def arrive(self, name, size):
        task = asyncio.create_task(self._enter(name, size))
        await settled()
        return task

    async def _enter(self, name, size):
        self.inside[name] = await self.room.enter(size)

    async def leave(self, name):
        self.inside.pop(name).leave()
        await settled()

    def names(self):
        return "".join(self.inside)


async def test_calls_wait_for_their_turn_without_timing_out():
    """The time of a call begins with its turn, and one that takes too long is told so."""
    calls = Calls(1, 0.2)
    started = []

    async def call(seconds):
        started.append(seconds)
        await asyncio.sleep(seconds)
        return seconds

    waits = [calls.make(partial(call, seconds)) for seconds in (0.15, 0.15, 5, 0.15)]
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert started == [0.15, 0.15, 5, 0.15]
    assert [answers[0], answers[1], answers[3]] == [0.15] * 3
    assert isinstance(answers[2], UnavailableError)


async def test_finishing_waits_for_the_calls_under_way():
    """What was begun is over when it returns."""
    calls, ended = Calls(2, None), []

    async def call():
        await settled()
        ended.append(True)

    tasks = [asyncio.create_task(calls.make(call)) for _ in range(5)]
    await asyncio.sleep(0)
    await calls.finish()
    assert len(ended) == 5
    await asyncio.gather(*tasks)


async def test_who_enters_at_once_finds_no_room_full():
    """Who holds a place must not wait for another; what it brings counts all the same."""
    room = Room(count=1, size=10)
    first = await room.enter(10)
    second = await room.enter(10, at_once=True)
    waiting = asyncio.create_task(room.enter(1))
    first.leave()
    await settled()
    assert not waiting.done()
    second.leave()
    (await waiting).leave()


async def test_a_room_holds_so_many():
    """One more than the count waits until somebody leaves."""
    guests = Guests(count=2, size=100)
    for name in "abc":
        await guests.arrive(name, 1)
    assert guests.names() == "ab"
    await guests.leave("a")
    assert guests.names() == "bc"


async def test_a_room_holds_so_many_bytes():
    """It may be filled to the last byte, and one byte more waits."""
    guests = Guests(count=9, size=100)
    await guests.arrive("a", 60)
    await guests.arrive("b", 40)
    await guests.arrive("c", 1)
    assert guests.names() == "ab"
    await guests.leave("b")
    assert guests.names() == "ac"


async def test_those_who_wait_enter_in_the_order_they_came():
    """A small one does not overtake a large one, however much room there is for it."""
    guests = Guests(count=9, size=100)
    for name, size in [("a", 60), ("b", 80), ("c", 1), ("d", 1)]:
        await guests.arrive(name, size)
    assert guests.names() == "a"
    await guests.leave("a")
    assert guests.names() == "bcd"


async def test_one_larger_than_the_room_enters_alone():
    """It waits until the room is empty, and while it is inside nobody else enters."""
    guests = Guests(count=9, size=100)
    for name, size in [("a", 1), ("giant", 1000), ("b", 1)]:
        await guests.arrive(name, size)
    assert guests.names() == "a"
    await guests.leave("a")
    assert guests.names() == "giant"
    await guests.leave("giant")
    assert guests.names() == "b"


async def test_a_corrected_size_counts():
    """Fewer bytes than expected let others in, more keep them out."""
    guests = Guests(count=9, size=100)
    for name, size in [("a", 90), ("b", 50)]:
        await guests.arrive(name, size)
    guests.inside["a"].holds(50)
    await settled()
    assert guests.names() == "ab"
    guests.inside["b"].holds(60)
    await guests.leave("a")
    await guests.arrive("c", 41)
    assert guests.names() == "b"


async def test_a_place_is_left_once():
    """Leaving again, or correcting the size of a place already left, changes nothing."""
    guests = Guests(count=1, size=100)
    await guests.arrive("a", 1)
    place = guests.inside["a"]
    await guests.leave("a")
    await guests.arrive("b", 1)
    await guests.arrive("c", 1)
    place.leave()
    place.holds(0)
    await settled()
    assert guests.names() == "b"


async def test_a_block_leaves_its_place():
    """A place used in a `with` block is left at its end, even by an error."""
    guests = Guests(count=1, size=100)
    await guests.arrive("a", 1)
    await guests.arrive("b", 1)
    with pytest.raises(RuntimeError), guests.inside.pop("a"):
        raise RuntimeError
    await settled()
    assert guests.names() == "b"


async def test_who_gives_up_in_line_is_passed_over():
    """A cancelled waiter never enters, and the turn goes to the next."""
    guests = Guests(count=1, size=100)
    await guests.arrive("a", 1)
    waiting = await guests.arrive("b", 1)
    await guests.arrive("c", 1)
    waiting.cancel()
    await settled()
    await guests.leave("a")
    assert guests.names() == "c"


async def test_who_gives_up_at_the_head_of_the_line_lets_the_others_in():
    """Those who only waited behind a large one enter when it gives up, not when somebody leaves."""
    guests = Guests(count=9, size=100)
    await guests.arrive("a", 60)
    waiting = await guests.arrive("large", 80)
    await guests.arrive("b", 40)
    waiting.cancel()
    await settled()
    assert guests.names() == "ab"


async def test_who_gives_up_with_the_turn_in_hand_gives_it_on():
    """A waiter that is let in and cancelled in the same moment does not keep its place."""
    guests = Guests(count=1, size=100)
    await guests.arrive("a", 1)
    waiting = await guests.arrive("b", 1)
    await guests.arrive("c", 1)
    guests.inside.pop("a").leave()
    waiting.cancel()
    await settled()
    assert guests.names() == "c"


visits = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3)), max_size=30)


@given(visits=visits, gone=st.sets(st.integers(0, 29)))
def test_everybody_gets_in_within_the_bounds_and_in_order(visits, gone):
    """Whatever the sizes and cancellations: bounds hold, nobody overtakes or is forgotten."""

    async def crowd():
        room, inside, entered = Room(count=3, size=100), {}, []

        async def visit(number, size, stay):
            with await room.enter(size):
                entered.append(number)
                inside[number] = size
                assert len(inside) == 1 or (len(inside) <= 3 and sum(inside.values()) <= 100)
                for _ in range(stay):
                    await asyncio.sleep(0)
                del inside[number]

        tasks = [asyncio.create_task(visit(i, *visits[i])) for i in range(len(visits))]
        await asyncio.sleep(0)
        leaving = [i for i in gone if i < len(tasks) and i not in entered]
        for number in leaving:
            tasks[number].cancel()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {i for i, outcome in enumerate(outcomes) if outcome is not None} == set(leaving)
        assert all(earlier < later for earlier, later in pairwise(entered))

    asyncio.run(crowd())


@given(keys=st.lists(st.integers(0, 30), max_size=200))
def test_seen_keys_are_remembered_within_bounds(keys):
    """None of the last five different keys is new, and no more than ten are remembered."""
    seen, last = Seen(remembered=5), {}
    for key in keys:
        is_new = seen.add(key)
        assert not (is_new and key in list(last)[-5:])
        assert is_new or key in last
        if is_new:
            last.pop(key, None)
            last[key] = None
        assert len(seen._recent) <= 5
        assert len(seen._older) <= 5

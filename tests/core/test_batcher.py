"""Batcher: one call for many questions."""

import asyncio

import pytest

from imgcache_scrapy.core.concurrency import Batcher
from imgcache_scrapy.core.errors import UnavailableError
from tests.support.waiting import PATIENCE, settled


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


def asking(batcher, questions):
    return [asyncio.create_task(batcher.ask(question)) for question in questions]


async def test_a_lone_question_goes_out_at_once():
    """Nobody waits for company: a question that finds nothing under way is a call of its own."""
    service = Service()
    service.open.set()
    batcher = Batcher(service, max_batch=10)
    assert await batcher.ask("a") == "A"
    assert await batcher.ask("b") == "B"
    assert service.calls == [["a"], ["b"]]


async def test_a_question_without_answer_is_answered_with_none():
    """What the call leaves out has no answer, which is an answer."""
    service = Service()
    service.open.set()
    assert await Batcher(service, max_batch=10).ask("unknown") is None


async def test_questions_join_while_a_call_is_under_way():
    """What is asked during a call goes out together in the next one, the same question once."""
    service = Service()
    batcher = Batcher(service, max_batch=10)
    first = asking(batcher, "a")
    await settled()
    later = asking(batcher, "bcb")
    await settled()
    assert service.calls == [["a"]]
    service.open.set()
    assert await asyncio.gather(*first, *later) == ["A", "B", "C", "B"]
    assert service.calls == [["a"], ["b", "c"]]


async def test_no_call_has_more_questions_than_the_limit():
    """Many questions make several calls, one after the other and in the order of asking."""
    service = Service()
    batcher = Batcher(service, max_batch=3)
    service.open.set()
    answers = await asyncio.gather(*asking(batcher, "abcdefgh"))
    assert answers == list("ABCDEFGH")
    assert service.calls == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]


async def test_a_question_asked_anew_while_under_way_is_asked_again():
    """An answer that is already on its way may be outdated, so it serves nobody who asks later."""
    service = Service()
    batcher = Batcher(service, max_batch=10)
    first = asking(batcher, "a")
    await settled()
    second = asking(batcher, "a")
    await settled()
    service.open.set()
    assert await asyncio.gather(*first, *second) == ["A", "A"]
    assert service.calls == [["a"], ["a"]]


async def test_those_who_waited_go_on_a_few_at_a_time():
    """However many have an answer, the event loop has its turns in between."""
    service, gone_on = Service(), []
    batcher = Batcher(service, max_batch=100)

    async def ask(question):
        gone_on.append(await batcher.ask(question))

    tasks = [asyncio.create_task(ask(str(number))) for number in range(40)]
    await settled()
    service.open.set()
    most = before = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        most, before = max(most, len(gone_on) - before), len(gone_on)
    assert len(gone_on) == 40
    assert 1 <= most <= 8


async def test_the_next_call_does_not_wait_for_those_who_go_on():
    """What those who waited do next takes the loop long; the next call has started by then."""
    service = Service()
    service.open.set()
    batcher, calls_seen = Batcher(service, max_batch=20), []

    async def ask(question):
        await batcher.ask(question)
        calls_seen.append(len(service.calls))

    await asyncio.gather(*(ask(str(number)) for number in range(40)))
    assert calls_seen == [2] * 40


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_question_is_answered_whenever_it_comes(calls):
    """Also one that comes at the very moment in which the call before it is over."""
    service = Service()
    service.open.set()
    batcher = Batcher(service, max_batch=10, max_calls=calls)
    for steps in range(20):
        first = asyncio.create_task(batcher.ask("a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            assert await batcher.ask("b") == "B"
            assert await first == "A"


async def test_so_many_calls_are_under_way_at_a_time():
    """A second call goes out beside the first, a third waits for one of them."""
    service = Service()
    batcher = Batcher(service, max_batch=1, max_calls=2)
    tasks = asking(batcher, "abc")
    await settled()
    assert service.calls == [["a"], ["b"]]
    service.open.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_an_error_reaches_every_asker_and_no_later_one():
    """Everybody in a failing call hears why; the next question is asked as if nothing was."""
    service = Service()
    batcher = Batcher(service, max_batch=10)
    service.error = RuntimeError("down")
    service.open.set()
    outcomes = await asyncio.gather(*asking(batcher, "aab"), return_exceptions=True)
    assert outcomes == [service.error] * 3
    service.error = None
    assert await batcher.ask("a") == "A"


async def test_a_question_that_fails_costs_no_other_its_answer():
    """A failed call is taken apart until only the guilty fail, by few further calls."""
    calls = []

    async def answer(questions):
        calls.append(questions)
        if "bad" in questions:
            raise ValueError
        return {question: question.upper() for question in questions}

    batcher = Batcher(answer, max_batch=32)
    questions = [*map(str, range(20)), "bad", *map(str, range(20, 31))]
    outcomes = await asyncio.gather(*asking(batcher, questions), return_exceptions=True)
    assert type(outcomes.pop(20)) is ValueError
    assert outcomes == [question for question in questions if question != "bad"]
    assert len(calls) == 11


async def test_an_error_of_all_is_not_asked_again():
    """If a call fails for all its questions, there is no second call."""
    service = Service()
    service.error = UnavailableError("down")
    service.open.set()
    outcomes = await asyncio.gather(
        *asking(Batcher(service, max_batch=10), "abc"), return_exceptions=True
    )
    assert outcomes == [service.error] * 3
    assert len(service.calls) == 1


async def test_a_question_may_have_an_error_for_an_answer():
    """An exception in the result of a call is raised for its question only."""
    error = ValueError("b")

    async def answer(questions):
        return {question: error if question == "b" else question for question in questions}

    outcomes = await asyncio.gather(
        *asking(Batcher(answer, max_batch=10), "abc"), return_exceptions=True
    )
    assert outcomes == ["a", error, "c"]


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_an_asker_who_gives_up_disturbs_nobody(gone):
    """One of three askers is cancelled, the others of that call and of the next get answers."""
    service = Service()
    batcher = Batcher(service, max_batch=10)
    tasks = asking(batcher, "a")
    await settled()
    tasks += asking(batcher, "bb")
    await settled()
    tasks[gone].cancel()
    await settled()
    service.open.set()
    async with asyncio.timeout(PATIENCE):  # Else a lost answer would be waited for.
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    expected = ["A", "B", "B"]
    assert isinstance(outcomes.pop(gone), asyncio.CancelledError)
    del expected[gone]
    assert outcomes == expected
    assert await batcher.ask("c") == "C"


async def test_a_failure_that_nobody_waits_for_is_silent(caplog):
    """A failing call whose askers are all gone leaves no complaint of the event loop."""
    service = Service()
    service.error = RuntimeError("down")
    batcher = Batcher(service, max_batch=10)
    (task,) = asking(batcher, "a")
    await settled()
    task.cancel()
    service.open.set()
    await settled()
    assert task.cancelled()
    assert not caplog.records

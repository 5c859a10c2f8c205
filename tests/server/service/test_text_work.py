"""Work on threads: results, errors, and functions that do not end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hfstream.server.service.text_work import AT_ONCE, TextWork
from tests.helpers.scripted_engine import eventually


def endless() -> None:
    while True:
        pass


async def test_results_and_errors_are_handed_on() -> None:
    work = TextWork()
    assert await work.run(divmod, 7, 2, seconds=60) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await work.run(divmod, 7, 0, seconds=60)


def threads() -> int:
    return sum(thread.name == "hfstream-text" for thread in threading.enumerate())


async def test_a_function_that_does_not_end_is_interrupted() -> None:
    work = TextWork()
    running = [asyncio.create_task(work.run(endless, seconds=0.2)) for _ in range(2 * AT_ONCE)]
    assert await work.run(divmod, 7, 2, seconds=60) == (3, 1)
    done = await asyncio.gather(*running, return_exceptions=True)
    assert [type(each) for each in done] == [TimeoutError] * len(running)
    assert eventually(lambda: threads() == 0)


async def test_a_task_that_is_cancelled_ends_its_work() -> None:
    work = TextWork()
    task = asyncio.create_task(work.run(endless, seconds=60))
    while not threads():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert eventually(lambda: threads() == 0)

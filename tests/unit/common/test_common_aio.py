from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from components.common import aio


async def stubborn(losses: int) -> None:
    """Lose some cancellations, as `asyncio.wait_for` may before Python 3.12."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            losses -= 1
            if losses < 0:
                raise


async def failing() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise RuntimeError


async def test_tasks_end_however_often_they_must_be_asked() -> None:
    several = [asyncio.create_task(stubborn(n)) for n in range(3)] + [asyncio.create_task(failing())]
    await asyncio.sleep(0)
    ending = asyncio.create_task(aio.cancel_and_wait(several))
    ended, _ = await asyncio.wait({ending}, timeout=10)
    assert ended
    assert all(task.done() for task in several)


async def test_nothing_to_end_is_no_wait() -> None:
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await aio.cancel_and_wait([done])
    await aio.cancel_and_wait([])


async def test_a_task_is_known_until_it_ends() -> None:
    known: set[asyncio.Task[int]] = set()
    go_on = asyncio.Event()

    async def work() -> int:
        await go_on.wait()
        return 7

    task = aio.spawn(known, work(), "work")
    assert known == {task}
    assert task.get_name() == "work"
    go_on.set()
    assert await task == 7
    await asyncio.sleep(0)
    assert known == set()


async def test_a_failure_that_nobody_awaits_is_logged() -> None:
    with capture_logs() as lines:
        await aio.logged(failing_at_once(), "work")
    assert [(line["event"], line["task"]) for line in lines] == [("task_failed", "work")]


async def failing_at_once() -> None:
    raise ZeroDivisionError


async def test_work_is_repeated_after_a_failure_that_has_a_name() -> None:
    rounds: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        rounds.put_nowait(1)
        raise ZeroDivisionError

    with capture_logs() as lines:
        task = asyncio.create_task(aio.every(lambda: 0, work, failed="work_failed"))
        async with asyncio.timeout(10):
            for _ in range(3):
                await rounds.get()
        await aio.cancel_and_wait([task])
    assert {line["event"] for line in lines} == {"work_failed"}


async def test_a_failure_without_a_name_ends_the_repetition() -> None:
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(aio.every(0, failing_at_once), 10)


async def test_the_first_round_waits_unless_it_comes_at_once() -> None:
    rounds: list[str] = []
    late = asyncio.create_task(aio.every(3600, lambda: rounds.append("late")))
    soon = asyncio.create_task(aio.every(3600, lambda: rounds.append("soon"), at_once=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await aio.cancel_and_wait([late, soon])
    assert rounds == ["soon"]

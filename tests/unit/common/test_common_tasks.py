from __future__ import annotations

import asyncio

from components.common import tasks


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
    ending = asyncio.create_task(tasks.end(several))
    ended, _ = await asyncio.wait({ending}, timeout=10)
    assert ended
    assert all(task.done() for task in several)


async def test_nothing_to_end_is_no_wait() -> None:
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await tasks.end([done])
    await tasks.end([])

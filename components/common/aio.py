"""Tasks of an event loop: begun beside other work, repeated, and ended; `periodic.py` is the counterpart for threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from components.common import log

T = TypeVar("T")
_AGAIN_SECONDS = 0.2
logger = log.get(__name__)


def spawn(tasks: set[asyncio.Task[T]], work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Run a coroutine beside the caller, and return its task, which is in `tasks` until it ends.

    The event loop itself holds its tasks weakly: without a set to be in, one may be collected before its end.
    """
    task = asyncio.create_task(work, name=name)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def logged(work: Awaitable[None], name: str) -> None:
    """Do some work whose failure nobody awaits: an exception is logged with this name."""
    try:
        await work
    except Exception:
        logger.exception("task_failed", task=name)


async def every(
    seconds: float | Callable[[], float],
    work: Callable[[], Awaitable[None] | None],
    *,
    at_once: bool = False,
    failed: str = "",
) -> None:
    """Repeat some work until cancelled.

    Args:
        seconds: from the end of a round to the next; a function is asked each time.
        work: one round.
        at_once: the first round comes without a wait.
        failed: the event that is logged for a round that raises; without one, the exception ends the repetition.
    """

    async def pause() -> None:
        await asyncio.sleep(seconds() if callable(seconds) else seconds)

    if not at_once:
        await pause()
    while True:
        try:
            result = work()
            if result is not None:
                await result
        except Exception:
            if not failed:
                raise
            logger.exception(failed)
        await pause()


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until all have ended; their exceptions are dropped.

    The cancellation is repeated: before Python 3.12, `asyncio.wait_for` loses a cancellation that meets the end of what it waits
    for, and a task that is asked once would then run on.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                # The exception is read here; otherwise asyncio would complain that it was never retrieved.
                task.exception()

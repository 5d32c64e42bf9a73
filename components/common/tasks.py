"""Cancellation of tasks, repeated until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.2


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
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

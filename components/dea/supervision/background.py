"""Work in the background of an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from components.common import aio, log

logger = log.get(__name__)


class Background:
    """Coroutines that run beside those that began them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in the background; its exceptions are logged."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                logger.exception("task_failed", task=name)

        task = asyncio.create_task(guarded(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel all work, and wait until it has ended."""
        await aio.cancel_and_wait(self._tasks)

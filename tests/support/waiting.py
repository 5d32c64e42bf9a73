"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


def until(
    condition: Callable[[], Any],
    what: str,
    seconds: float = 60,
    *,
    pause: float = 0.02,
    despite: tuple[type[Exception], ...] = (),
) -> Any:
    """Return the first true value of a condition.

    Args:
        condition: asked again and again.
        what: the condition in words, for the error.
        seconds: the time that it has.
        pause: seconds from one question to the next.
        despite: errors of the condition that count as no.

    Raises:
        AssertionError: it was not true in time.
    """
    deadline = time.monotonic() + seconds
    last = ""
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except despite as error:
            last = f" ({error})"
        time.sleep(pause)
    raise AssertionError(f"not within {seconds:g} s: {what}{last}")


async def until_async(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]], what: str, seconds: float = 60
) -> Any:
    """Return the first true value of a condition, which may be a coroutine.

    Raises:
        AssertionError: it was not true in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")

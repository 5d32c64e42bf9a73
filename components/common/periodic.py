"""A thread that repeats work, for daemons whose work blocks; `aio.every` is its counterpart on an event loop."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from components.common import log

logger = log.get(__name__)


class Interval:
    """The rule for a part of a round that is due less often than the rounds. Pure: it is told the time.

    Args:
        seconds: from one time to the next.
        last: the time of the last one; by default the first question finds it due.
    """

    def __init__(self, seconds: float, last: float = -math.inf) -> None:
        self._seconds = seconds
        self._last = last

    def due(self, now: float) -> bool:
        """Return whether the interval has passed; if so, the next one begins now."""
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class Periodic:
    """Work that a thread repeats until it is stopped; a round that raises is logged, and the next one follows.

    Args:
        name: of the thread.
        seconds: from the end of a round to the next; also before the first.
        work: one round.
        failed: the event that is logged for a round that raises.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], None], failed: str) -> None:
        self._seconds = seconds
        self._work = work
        self._failed = failed
        self._ending = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)

    @property
    def ending(self) -> bool:
        """Return whether no round follows the present one."""
        return self._ending.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait within a round; return True at once where no further round follows."""
        return self._ending.wait(seconds)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Begin the next round at once, or another one after the present."""
        self._wake.set()

    def leave(self) -> None:
        """End after the present round; return at once."""
        self._ending.set()
        self._wake.set()

    def stop(self, seconds: float = 5.0) -> None:
        """End after the present round; wait for it at most this long."""
        self.leave()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _repeat(self) -> None:
        while not self.ending:
            self._wake.wait(self._seconds)
            self._wake.clear()
            if self.ending:
                return
            try:
                self._work()
            except Exception:
                logger.exception(self._failed)

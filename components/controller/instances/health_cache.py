"""A cache of health managers' recent answers (pure; times are arguments)."""

from __future__ import annotations

import threading
from collections.abc import Mapping

# At this number of answers the old ones are removed.
MOST = 10_000


class HealthCache:
    """The numbers of healthy instances by id, from answers about the same version within `seconds`.

    Any number of threads may use it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[int, tuple[str, int, float]] = {}
        self._lock = threading.Lock()

    def of(self, wanted: Mapping[int, str], now: float) -> dict[int, int]:
        """Return the known numbers for those versions by id.

        Args:
            wanted: id to version.
            now: seconds of any monotonic clock.
        """
        found: dict[int, int] = {}
        with self._lock:
            for id_, version in wanted.items():
                known = self._known.get(id_)
                if known is not None and known[0] == version and now - known[2] < self._seconds:
                    found[id_] = known[1]
        return found

    def keep(self, answers: Mapping[int, tuple[str, int]], now: float) -> None:
        """Store answers: id to version and number of healthy instances."""
        with self._lock:
            if len(self._known) >= MOST:
                self._known = {i: k for i, k in self._known.items() if now - k[2] < self._seconds}
            for id_, (version, healthy) in answers.items():
                self._known[id_] = version, healthy, now

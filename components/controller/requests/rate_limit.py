"""Token buckets of one process (pure; times are arguments). `shared_rate_limit` has those of all processes."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from components.controller.config import RateLimit
from components.controller.errors import ApiError, Code

# Beyond this number, the least recently used keys are dropped: a dropped one has a full bucket again.
MOST_KEYS = 20_000


class TooManyError(ApiError):
    """An error that is answered as 429 with `Retry-After`: `seconds` until the next request may pass, at least 1."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(Code.TOO_MANY_REQUESTS, self.seconds)


class RateLimiter:
    """A bucket for each key: `burst` at once, filled again by `per_minute`; `per_minute` 0 lets everything through."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self.share(1)
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def share(self, among: int) -> None:
        """Divide the limit among that many processes; each still lets at least one request through."""
        self._rate = self._limit.per_minute / 60 / max(among, 1)
        self._burst = max(1.0, self._limit.burst / max(among, 1))

    def take(self, key: str, now: float) -> float:
        """Take one token; return 0.0 when there was one, else the seconds until there will be.

        Args:
            key: of the bucket.
            now: seconds of any monotonic clock.
        """
        if not self._rate:
            return 0.0
        with self._lock:
            level = self._level(key, now)
            if level < 1:
                return (1 - level) / self._rate
            self._keep(key, level - 1, now)
            return 0.0

    def give_back(self, key: str, now: float) -> None:
        """Put one token back, for a request that does not count."""
        if not self._rate:
            return
        with self._lock:
            self._keep(key, min(self._level(key, now) + 1, self._burst), now)

    def _level(self, key: str, now: float) -> float:
        level, at = self._levels.get(key, (self._burst, now))
        return min(self._burst, level + max(0.0, now - at) * self._rate)

    def _keep(self, key: str, level: float, now: float) -> None:
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        while len(self._levels) > MOST_KEYS:
            self._levels.popitem(last=False)


class Welcome:
    """The keys of recent successes; beyond `MOST_KEYS` the oldest are dropped."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: str, now: float) -> None:
        """Record a success; `now` is seconds of any monotonic clock."""
        with self._lock:
            self._last[key] = now
            self._last.move_to_end(key)
            while len(self._last) > MOST_KEYS:
                self._last.popitem(last=False)

    def knows(self, key: str, now: float) -> bool:
        """Return whether a key has a recent success."""
        with self._lock:
            at = self._last.get(key)
        return at is not None and now - at < self._seconds

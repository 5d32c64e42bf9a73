"""The router's numbers for `/varz` (section 3.5), from nginx's counters read every two seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

WINDOW_SECONDS = 60.0
_CLASSES = ("responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx", "responses_xxx")


class Stats:
    """Totals since this process began to read, and rates over the last minute.

    nginx's counters begin again at zero with every nginx start; the totals here go on.
    """

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._totals: dict[str, float] = {}
        self._history: deque[tuple[float, dict[str, float]]] = deque()
        self._now: dict[str, float] = {}

    def add(self, counters: Mapping[str, float], now: float) -> None:
        """Take in one reading."""
        restarted = counters.get("requests", 0) < self._last.get("requests", 0)
        for name in ("requests", "bad_requests", "latency_ms", "retries", "ejections", *_CLASSES):
            value = counters.get(name, 0)
            grown = value if restarted else value - self._last.get(name, 0)
            self._totals[name] = self._totals.get(name, 0) + max(grown, 0)
        self._last = dict(counters)
        self._now = {name: counters.get(name, 0) for name in ("client_connections", "workers")}
        self._history.append((now, dict(self._totals)))
        while self._history[0][0] < now - WINDOW_SECONDS:
            self._history.popleft()

    def varz(self) -> dict[str, object]:
        """Give the numbers by their names of section 3.5; latency is a sum of milliseconds and its samples over a minute."""
        whole = {name: int(self._totals.get(name, 0)) for name in ("requests", "bad_requests", *_CLASSES)}
        rate, latency, samples = 0.0, 0.0, 0
        if len(self._history) > 1:
            (then, old), (now, new) = self._history[0], self._history[-1]
            samples = int(new["requests"] - old["requests"])
            latency = new["latency_ms"] - old["latency_ms"]
            rate = samples / max(now - then, 0.001)
        return {
            **whole,
            "requests_per_sec": round(rate, 1),
            "latency": {"value": round(latency, 3), "samples": samples},
            "retries": int(self._totals.get("retries", 0)),
            "ejections": int(self._totals.get("ejections", 0)),
            "client_connections": int(self._now.get("client_connections", 0)),
        }

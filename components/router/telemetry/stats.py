"""The router's numbers for `/varz` (protocol 3.5, and ours), from the counters of nginx's workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from components.router.telemetry.counters import BOUNDS, CLASSES, CounterReading, Numbers

Tags = Callable[[tuple[str, int]], Mapping[str, Any]]
Url = Callable[[tuple[str, int]], str | None]

WINDOW_SECONDS = 60.0
_TOP = 10


def describe(numbers: Numbers) -> dict[str, object]:
    """Return one endpoint's or application's numbers by name; `latency_buckets` is not cumulative, the last is the rest."""
    bounds = [*(str(b) for b in BOUNDS), "more"]
    return {
        "requests": int(numbers.requests),
        **{f"responses_{name}": int(n) for name, n in zip(CLASSES, numbers.status, strict=True) if n},
        "latency": {"value": round(numbers.latency_ms, 3), "samples": int(numbers.requests)},
        "latency_buckets": {b: int(n) for b, n in zip(bounds, numbers.buckets, strict=True) if n},
        "bytes_in": int(numbers.bytes_in),
        "bytes_out": int(numbers.bytes_out),
        "retries": int(numbers.retries),
        "ejections": int(numbers.ejections),
        "open": int(numbers.open),
        "websockets": int(numbers.websockets),
    }


class Stats:
    """Totals, rates over the last minute, and each application's and endpoint's numbers.

    Args:
        most_endpoints: beyond that, `/varz` has only the applications and the number of omitted endpoints.
    """

    def __init__(self, most_endpoints: int = 2000) -> None:
        self._most = most_endpoints
        self._history: deque[tuple[float, float, float]] = deque()
        self._totals = CounterReading()
        self._rates: dict[str, float] = {}
        self._connections = 0.0
        self.reading = CounterReading()

    def add(self, totals: CounterReading, connections: float, now: float) -> None:
        """Add a reading of the totals, and nginx's number of connected clients."""
        self._totals, self._connections = totals, connections
        self._history.append((now, totals.total.requests, totals.total.latency_ms))
        while self._history[0][0] < now - WINDOW_SECONDS:
            self._history.popleft()

    def add_reading(self, reading: CounterReading, seconds: float) -> None:
        """Add a reading of everything, `seconds` after the one before."""
        before = self.reading.apps
        self._rates = {
            app: max(0.0, n.requests - before[app].requests if app in before else 0.0) / max(seconds, 0.001)
            for app, n in reading.apps.items()
        }
        self.reading = reading

    def varz(self, tags: Tags = lambda _: {}, url: Url = lambda _: None) -> dict[str, object]:
        """Return the numbers by their names of protocol 3.5; latency is a sum of milliseconds and its samples over a minute.

        Args:
            tags: returns the tags registered for an address and port.
            url: returns a host that is served there.
        """
        total = self._totals.total
        rate, latency, samples = 0.0, 0.0, 0
        if len(self._history) > 1:
            (then, requests, spent), (now, requests_now, spent_now) = self._history[0], self._history[-1]
            samples = int(requests_now - requests)
            latency = spent_now - spent
            rate = samples / max(now - then, 0.001)
        responses = dict(zip(CLASSES, total.status, strict=True))
        return {
            "requests": int(total.requests),
            "bad_requests": int(self._totals.bad_requests),
            "limited_requests": int(self._totals.limited),
            **{f"responses_{c}": int(responses[c]) for c in ("2xx", "3xx", "4xx", "5xx")},
            "responses_xxx": int(responses["xxx"] + responses["1xx"]),
            "requests_per_sec": round(rate, 1),
            "latency": {"value": round(latency, 3), "samples": samples},
            "bytes_in": int(total.bytes_in),
            "bytes_out": int(total.bytes_out),
            "retries": int(total.retries),
            "ejections": int(total.ejections),
            "client_connections": int(self._connections),
            "app_connections": int(sum(n.open for n in self.reading.apps.values())),
            "websockets": int(total.websockets),
            "websockets_told": int(self._totals.told),
            "websockets_ended": int(self._totals.ended),
            **self._by_app(url),
            "tags": self._by_tag(tags),
        }

    def _by_app(self, url: Url) -> dict[str, object]:
        reading = self.reading
        top = sorted(self._rates.items(), key=lambda pair: -pair[1])[:_TOP]
        members: dict[str, object] = {
            "apps": {app: describe(n) for app, n in reading.apps.items()},
            "top10_app_requests": [
                # The connection of the caller is not counted: no client uses it.
                {"url": self._url_of(app, url), "app": app, "rps": round(rps, 2), "clients": []}
                for app, rps in top
                if rps
            ],
        }
        count = sum(len(e) for e in reading.endpoints.values())
        if count > self._most:
            members["endpoints_omitted"] = count
        else:
            members["endpoints"] = {
                peer: {"app": app, "instance": reading.instances.get(peer, ""), **describe(n)}
                for app, endpoints in reading.endpoints.items()
                for peer, n in endpoints.items()
            }
        return members

    def _url_of(self, app: str, url: Url) -> str:
        """Return one of an application's hosts; empty for other endpoints."""
        peer = next(iter(self.reading.endpoints.get(app, ())), None) if app != "0" else None
        return (url(_split(peer)) or "") if peer else ""

    def _by_tag(self, tags: Tags) -> dict[str, dict[str, object]]:
        """Return the numbers by tag and value; all endpoints of an application have the tags of one."""
        sums: dict[str, dict[str, Numbers]] = {}
        for app, endpoints in self.reading.endpoints.items():
            parts: Iterable[tuple[str, Numbers]] = endpoints.items()
            if app != "0":
                parts = [(next(iter(endpoints)), self.reading.apps[app])]
            elif len(endpoints) > self._most:
                continue
            for peer, numbers in parts:
                for key, value in tags(_split(peer)).items():
                    if isinstance(value, str | int | float):
                        sums.setdefault(key, {}).setdefault(str(value), Numbers()).add(numbers)
        shown = ("requests", "latency", *(f"responses_{name}" for name in CLASSES))
        return {
            key: {value: {k: v for k, v in describe(n).items() if k in shown} for value, n in values.items()}
            for key, values in sums.items()
        }


def _split(peer: str) -> tuple[str, int]:
    address, _, port = peer.rpartition(":")
    return address.strip("[]"), int(port)


class UsageSampler:
    """The requests of each application since the last sample (`ingot.router.usage`)."""

    def __init__(self) -> None:
        self._sent: dict[str, float] | None = None
        self._at = 0.0

    def sample(self, reading: CounterReading, now: float) -> tuple[float, dict[str, int]] | None:
        """Return the seconds and requests by application id since the last `mark_sent`; None before the first.

        Requests served without an application's id are not counted.
        """
        if self._sent is None:
            return None
        requests = {
            app: int(n.requests - self._sent.get(app, 0.0))
            for app, n in reading.apps.items()
            if app not in ("", "0")
        }
        return now - self._at, {app: n for app, n in requests.items() if n > 0}

    def mark_sent(self, reading: CounterReading, now: float) -> None:
        """Begin the next sample with this reading; the numbers before it are published."""
        self._sent = {app: n.requests for app, n in reading.apps.items()}
        self._at = now


def cumulative(numbers: Numbers) -> list[tuple[str, float]]:
    """Return the latency histogram in Prometheus' form: upper bound in seconds, requests up to it."""
    sums = [0.0]
    for n in numbers.buckets:
        sums.append(sums[-1] + n)
    bounds = [*(f"{b / 1000:g}" for b in BOUNDS), "+Inf"]
    return [(bound, high) for bound, (_, high) in zip(bounds, pairwise(sums), strict=True)]

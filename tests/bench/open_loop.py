"""Load at a fixed rate: requests are sent when they are due, whether or not earlier ones have been answered.

A latency counts from the time when the request was due, so a server that pauses is charged for all requests of the pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from tests.bench.machine import percentile

TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request; it is counted under `group`, and `done` gets its answer."""

    group: str
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    done: Callable[[bool], None] = lambda _good: None


@dataclass(slots=True)
class Outcome:
    """Latencies in seconds by group, failures by group and reason, and the largest delay of the generator itself."""

    latencies: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    late: float = 0.0

    def add(self, other: Outcome) -> None:
        """Add another run's figures to this one."""
        for group, values in other.latencies.items():
            self.latencies.setdefault(group, []).extend(values)
        for reason, number in other.failures.items():
            self.failures[reason] = self.failures.get(reason, 0) + number
        self.late = max(self.late, other.late)

    def of(self, *groups: str) -> list[float]:
        """Return the latencies of some groups."""
        return [v for g in groups for v in self.latencies.get(g, [])]


def shape(values: list[float]) -> dict[str, float | int]:
    """Return the usual figures, in milliseconds."""
    marks = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
    return {"requests": len(values), **{k: round(percentile(values, s) * 1000, 1) for k, s in marks.items()}}


async def run(next_call: Callable[[], Call], rate: float, seconds: float) -> Outcome:
    """Send `rate` requests a second for the given time, and wait for the answers."""
    outcome = Outcome()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def send(call: Call, due: float) -> None:
            good = False
            try:
                async with session.request(
                    call.method, call.url, headers=call.headers, json=call.body, allow_redirects=False
                ) as reply:
                    await reply.read()
                    status = reply.status
                good = status < 400
                if not good:
                    _count(outcome, f"{call.group}: status {status}")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                _count(outcome, f"{call.group}: {type(error).__name__}")
            # A failed request counts with its time: leaving it out would flatter the others.
            outcome.latencies.setdefault(call.group, []).append(time.perf_counter() - due)
            call.done(good)

        begun = time.perf_counter()
        tasks = []
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            pause = due - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            outcome.late = max(outcome.late, time.perf_counter() - due)
            tasks.append(asyncio.create_task(send(next_call(), due)))
        await asyncio.gather(*tasks)
    return outcome


def _count(outcome: Outcome, reason: str) -> None:
    outcome.failures[reason] = outcome.failures.get(reason, 0) + 1

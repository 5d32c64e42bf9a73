"""Alerts by webhook: each beginning and each end is posted once, by the health manager that speaks for all.

Every manager sees every alert. One that does not speak keeps those of the last seconds, and sends them when it
begins to speak: the one before may have died without sending them. A receiver recognises repetitions by `key` and `state`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from prometheus_client import Counter, Gauge

from components.common import aio, log
from components.health_manager.alerts import Alert
from components.health_manager.config import Webhook

# The most alerts that wait for one receiver; beyond it the oldest goes.
_LIMIT = 1000
_TIMEOUT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# An alert that was not accepted for so long is of no use any more.
_TOO_OLD = 3600.0
SENT = Counter("ingot_hm_webhook_total", "Alerts for webhooks, by what became of them.", ["result"])
WAITING = Gauge("ingot_hm_webhook_queue_length", "Alerts that wait to be sent.")
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class _Due:
    body: dict[str, Any]
    at: float


def body(alert: Alert, sender: str) -> dict[str, Any]:
    """Return the body of a post: `key` names the alert, `state` is `begun` or `over`, `since` is seconds since 1970."""
    return {
        "key": f"{alert.kind}/{alert.subject}",
        "alert": alert.kind,
        "subject": alert.subject,
        "state": "over" if alert.over else "begun",
        "since": int(alert.since),
        "facts": alert.facts,
        "sender": sender,
    }


class _Receiver:
    """One URL, its queue, and the task that empties it."""

    def __init__(self, hook: Webhook) -> None:
        self._hook = hook
        # A URL may be a secret in itself: only its host is ever shown.
        self._host = urlsplit(hook.url).hostname or ""
        self._queue: deque[_Due] = deque()
        self._more = asyncio.Event()
        self._trouble = ""

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, due: _Due) -> None:
        if len(self._queue) >= _LIMIT:
            self._queue.popleft()
            SENT.labels("dropped").inc()
            logger.warning("webhook_full", host=self._host)
        self._queue.append(due)
        self._more.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        pause = _FIRST_PAUSE
        while True:
            if not self._queue:
                self._more.clear()
                await self._more.wait()
                continue
            due = self._queue[0]
            if time.monotonic() - due.at > _TOO_OLD:
                result = "dropped"
            else:
                result = await self._post(session, due.body)
            if result == "":
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            SENT.labels(result).inc()
            # The queue may have dropped it meanwhile.
            if self._queue and self._queue[0] is due:
                self._queue.popleft()

    async def _post(self, session: aiohttp.ClientSession, content: dict[str, Any]) -> str:
        """Send one alert; return `sent`, `refused` where repeating does not help, or an empty text where it does."""
        headers = {self._hook.header: self._hook.secret} if self._hook.secret else {}
        try:
            async with session.post(
                self._hook.url, json=content, headers=headers, allow_redirects=False
            ) as reply:
                status = reply.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return self._failed("", type(error).__name__)
        if status < 300:
            self._trouble = ""
            return "sent"
        again = status >= 500 or status in (408, 425, 429)
        return self._failed("" if again else "refused", f"status {status}")

    def _failed(self, result: str, reason: str) -> str:
        if reason != self._trouble or result:
            self._trouble = reason
            logger.warning("webhook_failed", host=self._host, reason=reason, repeated=not result)
        return result


class Webhooks:
    """The sender of alerts: it takes them without waiting, and sends them while this manager speaks.

    Args:
        hooks: the receivers.
        sender: the name of this manager's machine.
        memory: seconds for which a manager that does not speak keeps alerts.
    """

    def __init__(self, hooks: list[Webhook], sender: str, memory: float) -> None:
        self._receivers = [_Receiver(h) for h in hooks]
        self._sender = sender
        self._memory = memory
        self._unsaid: deque[_Due] = deque(maxlen=_LIMIT)
        self._speaks = False
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        for result in ("sent", "refused", "dropped"):
            SENT.labels(result)

    async def start(self) -> None:
        """Begin to send."""
        if self._receivers:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
            self._session = aiohttp.ClientSession(timeout=timeout)
            self._tasks = [asyncio.create_task(r.run(self._session), name="webhook") for r in self._receivers]

    async def stop(self) -> None:
        """End; the next manager that speaks sends the rest."""
        await aio.cancel_and_wait(self._tasks)
        if self._session is not None:
            await self._session.close()

    def tell(self, alert: Alert) -> None:
        """Take the beginning or the end of an alert."""
        if self._receivers:
            due = _Due(body(alert, self._sender), time.monotonic())
            self._unsaid.append(due)
            if self._speaks:
                self._flush(due.at)

    def speak(self, *, speaks: bool) -> None:
        """Set whether this manager is the one that sends."""
        if speaks and not self._speaks:
            self._flush(time.monotonic())
        self._speaks = speaks
        WAITING.set(sum(map(len, self._receivers)))

    def _flush(self, now: float) -> None:
        while self._unsaid:
            due = self._unsaid.popleft()
            if now - due.at <= self._memory:
                for receiver in self._receivers:
                    receiver.put(due)

"""The logs of running stagings, kept in memory for requests meanwhile."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Any

from components.common.bus.client import Incoming
from components.common.digits import whole_number

_LIVE_LINES, _LIVE_APPS = 2000, 200


class LiveLogs:
    """The lines of running stagings, received over the bus."""

    def __init__(self) -> None:
        self._lines: OrderedDict[int, tuple[str, deque[str]]] = OrderedDict()
        self._lock = threading.Lock()

    async def receive(self, message: Incoming[Any]) -> None:
        """Store a line: `{"task_id", "line"}` on `ingot.staging.<app id>.log`."""
        app = whole_number(message.subject.split(".")[2])
        body = message.body if isinstance(message.body, dict) else {}
        if app is not None:
            self.add(app, str(body.get("task_id", "")), str(body.get("line", "")))

    def add(self, app_id: int, task: str, line: str) -> None:
        """Store a line; the first line of a new task drops those of the previous task."""
        with self._lock:
            known, lines = self._lines.pop(app_id, ("", deque[str](maxlen=_LIVE_LINES)))
            if known != task:
                lines = deque[str](maxlen=_LIVE_LINES)
            lines.append(line)
            self._lines[app_id] = (task, lines)
            while len(self._lines) > _LIVE_APPS:
                self._lines.popitem(last=False)

    def text(self, app_id: int) -> str:
        """Return the lines of a staging so far."""
        with self._lock:
            return "\n".join(self._lines.get(app_id, ("", deque[str]()))[1])

    def forget(self, app_id: int) -> None:
        """Drop an application's lines."""
        with self._lock:
            self._lines.pop(app_id, None)

"""The log: one JSON object a line on standard output, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections import deque
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

MASK = "***"
KEPT_LINES = 2000
LONGEST_KEPT = 8192
# A key that holds one of these words holds a secret.
_SECRET_WORDS = ("password", "secret", "token", "credential", "authorization", "api_key")


# User and password before the host of a URL.
_LOGIN = re.compile(r"://([^\s/:@\"']*):[^\s/@\"']+@")


class Ring:
    """The last lines of this process, as they were written; a line longer than `LONGEST_KEPT` characters is cut.

    Args:
        size: how many lines are kept.
    """

    def __init__(self, size: int = KEPT_LINES) -> None:
        self._lines: deque[tuple[float, int, str]] = deque(maxlen=size)
        self._guard = threading.Lock()

    def keep(self, at: float, level: int, text: str) -> None:
        """Keep a line written at that time (seconds since 1970)."""
        with self._guard:
            self._lines.append((at, level, text[:LONGEST_KEPT]))

    def lines(
        self, *, since: float = 0, limit: int = 200, level: str | None = None, contains: str | None = None
    ) -> list[str]:
        """Return the newest matching lines, oldest first.

        Args:
            since: seconds since 1970; older lines are left out.
            limit: at most so many.
            level: this one and worse.
            contains: a text that must be in the line, in any case.
        """
        least = logging.getLevelNamesMapping().get((level or "").upper(), 0)
        wanted = (contains or "").lower()
        with self._guard:
            known = list(self._lines)
        found: list[str] = []
        for at, number, text in reversed(known):
            if at < since or len(found) >= limit:
                break
            if number >= least and wanted in text.lower():
                found.append(text)
        return found[::-1]


# The ring of this process.
RING = Ring()


class _Output(logging.StreamHandler[TextIO]):
    """Standard output, with a copy of every line in the ring."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        RING.keep(record.created, record.levelno, text)
        return text


def mask(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that names a secret, and passwords in URLs, at any depth; a structlog processor."""
    return {k: MASK if _secret(k) else _masked(v) for k, v in event.items()}


def configure(component: str, level: str = "info", **bound: object) -> None:
    """Send structlog's and the standard library's records to standard output as JSON lines.

    Args:
        component: in every line as `component`.
        level: debug, info, warning or error.
        bound: further facts in every line (index, release, ...).
    """
    number = getattr(logging, level.upper())
    always = {"component": component, **bound}

    def identify(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        # Not context variables: threads start without those.
        return {**always, **event}

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        identify,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Without the frames' variables: they may hold secrets under any name.
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
        mask,
    ]
    handler = _Output(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # The library logs every reconnect attempt as an error of its own; the bus logs them once.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def _secret(key: str) -> bool:
    lowered = key.lower()
    return any(word in lowered for word in _SECRET_WORDS)


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {k: MASK if _secret(str(k)) else _masked(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(v) for v in value]
    if isinstance(value, str) and "://" in value:
        return _LOGIN.sub(rf"://\1:{MASK}@", value)
    return value

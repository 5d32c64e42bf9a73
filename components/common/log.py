"""Logs: one JSON object a line on standard output, secrets masked whatever a caller passes."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

MASK = "***"
# A key that holds one of these words holds a secret.
_SECRET_WORDS = ("password", "secret", "token", "credential", "authorization", "api_key")


def mask(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that names a secret, at any depth; a structlog processor."""
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
        # Without the frames' variables: those may hold secrets under any name.
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
        mask,
    ]
    handler = logging.StreamHandler(sys.stdout)
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
    # The library announces every reconnect attempt as an error of its own; the bus logs them once, in our words.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of a module."""
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
    return value

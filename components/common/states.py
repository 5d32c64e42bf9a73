"""The states of an instance, as messages, rows and replies have them."""

from __future__ import annotations

from enum import StrEnum


class InstanceState(StrEnum):
    """The state of an instance; STOPPING and DELETED never leave the DEA."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    CRASHED = "CRASHED"
    DELETED = "DELETED"


LIVE = frozenset({InstanceState.STARTING, InstanceState.RUNNING})

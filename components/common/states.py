"""The states of applications, packages and instances, in the words of the wire and of ccdb; pure."""

from __future__ import annotations

from enum import StrEnum


class AppState(StrEnum):
    """The state that its owner wants of an application (protocol 1.7)."""

    STARTED = "STARTED"
    STOPPED = "STOPPED"


class PackageState(StrEnum):
    """The state of a package: whether a droplet is built from it (protocol 1.7)."""

    PENDING = "PENDING"
    STAGED = "STAGED"
    FAILED = "FAILED"


class InstanceState(StrEnum):
    """The state of an instance at its DEA; STOPPING and DELETED are never on the wire."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    CRASHED = "CRASHED"
    DELETED = "DELETED"


# The states in which an instance has a process.
LIVE = (InstanceState.STARTING, InstanceState.RUNNING)


class IndexState(StrEnum):
    """The state of an index without a live instance (protocol 1.10 and 5)."""

    DOWN = "DOWN"
    FLAPPING = "FLAPPING"

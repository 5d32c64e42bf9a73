"""The errors of a DEA."""

from __future__ import annotations

from components.common.errors import IngotError


class DeaError(IngotError):
    """Root of the DEA's errors."""


class NoRoomError(DeaError):
    """A start was refused: the text names what is lacking."""


class StartError(DeaError):
    """An instance could not be started; the text is for its owner."""


class DiskQuotaError(DeaError):
    """A disk quota cannot be set; the text has the reason and the remedy."""


class DropletError(StartError):
    """A droplet could not be fetched, or has another digest than expected."""


class TransitionError(DeaError):
    """An instance cannot go from the state it is in to the one asked for."""

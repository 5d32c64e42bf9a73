"""The root of Ingot's errors and the errors that several packages share."""

from __future__ import annotations

from collections.abc import Sequence


class IngotError(Exception):
    """Root of Ingot's errors; never raised itself."""


class ConfigError(IngotError):
    """A configuration file has problems; all of them are in `problems`, one sentence each."""

    def __init__(self, problems: Sequence[str], source: str = "configuration") -> None:
        super().__init__(f"{source}: " + "; ".join(problems))
        self.problems = tuple(problems)
        self.source = source


class BusError(IngotError):
    """The message bus could not do what was asked."""


class BusUnavailableError(BusError):
    """There is no connection to the bus at this moment; it is being re-established."""


class MessageError(IngotError):
    """A bus message is not what the contract says; `subject` and the reason are in the text."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject}: {reason}")
        self.subject = subject
        self.reason = reason

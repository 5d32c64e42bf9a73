"""The failure of staging: always in a named stage, with a reason and a remedy."""

from __future__ import annotations

from components.common.errors import IngotError


class StagingError(IngotError):
    """One staging task failed.

    Args:
        stage: download, unpack, detect, compile, pack, upload or queue.
        reason: the failure, in a sentence without its full stop.
        remedy: the action for the developer, or the operator.
        retry: nothing is wrong with the application, and the same request may succeed later.
    """

    def __init__(self, stage: str, reason: str, remedy: str = "", *, retry: bool = False) -> None:
        super().__init__(f"{stage} failed: {reason}." + (f" {remedy}" if remedy else ""))
        self.stage = stage
        self.reason = reason
        self.remedy = remedy
        self.retry = retry

    def with_log(self, tail: str) -> str:
        """Return the text for the developer: the failure, then the last lines of the log."""
        return f"{self}\n{tail}" if tail else str(self)

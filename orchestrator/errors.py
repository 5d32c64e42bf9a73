"""The errors that parts of the orchestrator raise for each other."""

from __future__ import annotations

from components.common.errors import IngotError


class RefusedError(IngotError):
    """A request that is refused; the text names the field and the remedy.

    Args:
        text: for the operator.
        status: of the API's answer: 400 invalid, 404 names something unknown, 409 not now.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class StepError(IngotError):
    """A step failed; the text has the findings. The job ends as `failed` unless its kind can go on."""


class EngineStopping(BaseException):
    """The orchestrator ends. Steps must not catch it: the next process continues the job from this step."""

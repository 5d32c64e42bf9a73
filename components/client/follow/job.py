"""Following a job of the orchestrator until it ends. Pure functions decide the lines that are shown.

A roll restarts the routers, the controllers and the orchestrator itself, so an answer that does not come is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from components.client.errors import ApiError, ClientError, UnreachableError
from components.client.orchestrator_api import Job, OrchestratorApi, OrchestratorError
from components.client.output import console
from components.client.units import format_seconds

ENDED = frozenset({"succeeded", "failed"})
# How long the orchestrator may be away, in seconds: a roll replaces it and the routers before it one after the other.
PATIENCE = 300.0
_PERIOD = 0.5
_PASSING = frozenset({502, 503, 504})


class JobError(ClientError):
    """A job failed; the hint is the orchestrator's remedy."""


class AwayError(ClientError):
    """The orchestrator did not answer for longer than a roll takes; the job may go on."""


def passing(error: ClientError) -> bool:
    """Return whether an error is due to a platform that is being changed, and passes by itself."""
    if isinstance(error, OrchestratorError):
        return error.status in _PASSING or error.from_router
    return isinstance(error, UnreachableError) or (isinstance(error, ApiError) and error.status in _PASSING)


def phases(job: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of each kind of step, in the order of the steps."""
    spent: dict[str, float] = {}
    for step in job.get("steps") or []:
        if step.get("seconds") is not None:
            spent[step["name"]] = spent.get(step["name"], 0.0) + float(step["seconds"])
    return {name: round(seconds, 3) for name, seconds in spent.items()}


def step_line(step: Mapping[str, Any]) -> str:
    """Return a line for a step that ended."""
    seconds = format_seconds(float(step.get("seconds") or 0))
    line = f"{step['name']:<12} {seconds:>8}  {' '.join(step.get('machines') or [])}".rstrip()
    if step.get("state") == "failed":
        line += f"  failed: {step.get('message') or 'no reason given'}"
    return line


@dataclass(slots=True)
class StepReport:
    """The parts of a job that were shown already, and the new ones."""

    _shown: set[int] = field(default_factory=set)

    def news(self, job: Mapping[str, Any], before: str | None = None) -> list[str]:
        """Return a line for every step that ended since the last look; only for those before the step of that name, if given."""
        lines = []
        for number, step in enumerate(job.get("steps") or []):
            if step["name"] == before:
                break
            if step.get("state") in {"done", "failed"} and number not in self._shown:
                self._shown.add(number)
                lines.append(step_line(step))
        return lines

    @staticmethod
    def now(job: Mapping[str, Any], last: str) -> str:
        """Return the present activity: the step under way and the last line of progress."""
        for step in job.get("steps") or []:
            if step.get("state") == "running":
                words = [step["name"], *(step.get("machines") or [])]
                return " ".join(words) + (f": {last}" if last else "")
        return str(job.get("state") or "")


@dataclass(slots=True)
class JobFollower:
    """Asks for a job again and again, and shows it on standard error.

    Args:
        api: the orchestrator.
        patience: seconds without any answer after which following ends.
    """

    api: OrchestratorApi
    patience: float = field(default_factory=lambda: PATIENCE)
    period: float = _PERIOD
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    screen: Console = field(default_factory=lambda: console(error=True))

    def follow(self, number: int) -> Job:
        """Wait until a job has ended, and return it as it stands then, however it ended.

        Raises:
            AwayError: the orchestrator was away too long.
            ApiError: it does not let us look.
        """
        report, status, after, last = StepReport(), None, 0, ""
        if self.screen.is_terminal:
            status = self.screen.status(Text(f"job {number}"))
            status.start()
        try:
            while True:
                page = self._ask(partial(self.api.log, number, after), number, status)
                job = self._ask(partial(self.api.job, number), number, status)
                for row in page.get("lines") or []:
                    after, last = max(after, int(row["n"])), str(row["text"])
                    if status is None:
                        # Lines of a step come after the earlier steps.
                        self._print(report.news(job, before=row.get("step")))
                        self.screen.print(Text(f"  | {last}", style="dim"))
                self._print(report.news(job))
                if job.get("state") in ENDED:
                    return job
                if status is not None:
                    status.update(Text(report.now(job, last)))
                self.sleep(self.period)
        finally:
            if status is not None:
                status.stop()

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self.screen.print(Text(line))

    def lines(self, number: int, show: Callable[[Mapping[str, Any]], None]) -> str:
        """Show every line of a job's log as it comes, until the job has ended; return its state."""
        after = 0
        while True:
            page = self._ask(partial(self.api.log, number, after), number, None)
            for row in page.get("lines") or []:
                after = max(after, int(row["n"]))
                show(row)
            # A page may be full; further pages are requested until one is empty.
            if page.get("state") in ENDED and not page.get("lines"):
                return str(page["state"])
            if not page.get("lines"):
                self.sleep(self.period)

    def _ask(
        self, question: Callable[[], dict[str, Any]], number: int, status: Status | None
    ) -> dict[str, Any]:
        begun: float | None = None
        while True:
            try:
                return question()
            except (ApiError, UnreachableError) as error:
                if not passing(error):
                    raise
                begun = self.clock() if begun is None else begun
                if self.clock() - begun > self.patience:
                    raise AwayError(
                        f"the orchestrator no longer answers: {error.message}",
                        f"job {number} may go on without you; look again later: `ingot jobs log {number} --follow`",
                    ) from error
                if status is not None:
                    status.update(Text("the orchestrator does not answer at the moment"))
                self.sleep(self.period)


def raise_for_failure(job: Mapping[str, Any]) -> None:
    """Raise an error for a failed job.

    Raises:
        JobError: it failed.
    """
    if job.get("state") == "failed":
        number = job.get("id")
        raise JobError(
            f"job {number} ({job.get('kind')}) failed: {job.get('message') or 'no reason given'}",
            str(job.get("way_out") or f"`ingot jobs log {number}` shows what it did"),
        )

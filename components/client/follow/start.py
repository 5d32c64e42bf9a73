"""The wait until an application runs as often as it should, or cannot. The decisions are pure."""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from components.client.api import Api
from components.client.errors import ApiError, UnreachableError, away

_PERIODS = (0.15, 0.25, 0.4, 0.6, 1.0)
# Asking for crashes may take the controller two seconds, so it is not done while all may yet be well.
_CRASHES_AFTER = 1.0


class StartOutcome(enum.Enum):
    """The decision of a caller that waits, from a snapshot of the application."""

    RUNNING = "running"
    WAIT = "wait"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class AppSnapshot:
    """An application at one moment.

    Attributes:
        wanted: how many instances there should be.
        states: state → how many are in it.
        crashes: ids of instances that crashed since the wait began, newest last.
        ids: the index and the time of the state of each instance, which differ between it and its successor.
    """

    wanted: int
    states: Counter[str] = field(default_factory=Counter)
    crashes: tuple[str, ...] = ()
    ids: frozenset[tuple[str, str]] = frozenset()

    @property
    def running(self) -> int:
        """Return how many instances run."""
        return self.states["RUNNING"]

    def outcome(self) -> StartOutcome:
        """Return the decision: all run; one crashed and none runs, or one flaps; or wait on."""
        if self.running >= self.wanted:
            return StartOutcome.RUNNING
        if self.states["FLAPPING"] or (self.crashes and not self.running):
            return StartOutcome.CRASHED
        return StartOutcome.WAIT

    def text(self) -> str:
        """Return `1/2 running, 1 starting`."""
        others = [
            f"{count} {state.lower()}" for state, count in sorted(self.states.items()) if state != "RUNNING"
        ]
        return ", ".join([f"{self.running}/{self.wanted} running", *others])


@dataclass(frozen=True, slots=True)
class _Settling:
    """Instances that all run since `begun` and must go on for some seconds."""

    ids: frozenset[tuple[str, str]]
    begun: float
    seconds: float


@dataclass(slots=True)
class StartFollower:
    """Asks the controller again and again.

    Args:
        api: the controller.
        name: the application.
        wanted: how many instances should run.
        settle: called once when all run; returns the seconds they must run on before they count.
        known_crashes: returns the ids of the instances that had crashed before; called only when needed.
        show: called with every snapshot.
    """

    api: Api
    name: str
    wanted: int
    known_crashes: Callable[[], Collection[str]] = tuple
    settle: Callable[[], float] = lambda: 0.0
    show: Callable[[str], None] = lambda _text: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait(self, seconds: float) -> tuple[StartOutcome, AppSnapshot]:
        """Wait at most `seconds`; the outcome is WAIT where the time ran out first."""
        begun = self.clock()
        attempt = 0
        snapshot = AppSnapshot(self.wanted)
        settling: _Settling | None = None
        while True:
            try:
                snapshot = self._look(self.clock() - begun)
            except (ApiError, UnreachableError) as error:
                # A controller that is being replaced is no failure.
                if not away(error):
                    raise
            self.show(snapshot.text())
            outcome = snapshot.outcome()
            if outcome is StartOutcome.RUNNING:
                if settling is None:
                    settling = _Settling(snapshot.ids, self.clock(), self.settle())
                    seconds += settling.seconds
                elif settling.ids != snapshot.ids:
                    # An instance was replaced since the last look.
                    snapshot = self._look(self.clock() - begun, crashes=True)
                    settling = _Settling(snapshot.ids, self.clock(), settling.seconds)
                if snapshot.crashes:
                    outcome = StartOutcome.CRASHED
                elif self.clock() - settling.begun < settling.seconds:
                    outcome = StartOutcome.WAIT
            left = seconds - (self.clock() - begun)
            if outcome is not StartOutcome.WAIT or left <= 0:
                return outcome, snapshot
            self.sleep(min(_PERIODS[min(attempt, len(_PERIODS) - 1)], left))
            attempt += 1

    def _look(self, waited: float, *, crashes: bool = False) -> AppSnapshot:
        listed = self.api.instances(self.name)
        states = Counter(str(item.get("state", "DOWN")) for item in listed)
        ids = frozenset((str(item.get("index")), str(item.get("since"))) for item in listed)
        if not crashes and (states["RUNNING"] >= self.wanted or waited < _CRASHES_AFTER):
            return AppSnapshot(self.wanted, states, ids=ids)
        crashed = sorted(self.api.crashes(self.name), key=lambda item: int(item.get("since") or 0))
        known = self.known_crashes() if crashed else ()
        fresh = [str(item["instance"]) for item in crashed if item.get("instance") not in known]
        return AppSnapshot(self.wanted, states, tuple(fresh), ids)

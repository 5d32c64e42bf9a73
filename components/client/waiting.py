"""Wait until an application runs as often as it should, or is known never to. The judgement is pure."""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from components.client.api import Api
from components.client.errors import ApiError, UnreachableError, away

_PERIODS = (0.15, 0.25, 0.4, 0.6, 1.0)
# Asking for crashes may take the controller two seconds, so not while all may yet be well.
_CRASHES_AFTER = 1.0


class Verdict(enum.Enum):
    """What a picture of an application means to who waits."""

    RUNNING = "running"
    WAIT = "wait"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Picture:
    """An application at one moment.

    Attributes:
        wanted: how many instances there should be.
        states: state → how many are in it.
        crashes: ids of instances that crashed since the wait began, newest last.
    """

    wanted: int
    states: Counter[str] = field(default_factory=Counter)
    crashes: tuple[str, ...] = ()

    @property
    def running(self) -> int:
        """How many run."""
        return self.states["RUNNING"]

    def verdict(self) -> Verdict:
        """Judge: all run; or one crashed and none runs, or one flaps; or wait on."""
        if self.running >= self.wanted:
            return Verdict.RUNNING
        if self.states["FLAPPING"] or (self.crashes and not self.running):
            return Verdict.CRASHED
        return Verdict.WAIT

    def text(self) -> str:
        """Write `1/2 running, 1 starting`."""
        others = [
            f"{count} {state.lower()}" for state, count in sorted(self.states.items()) if state != "RUNNING"
        ]
        return ", ".join([f"{self.running}/{self.wanted} running", *others])


@dataclass(slots=True)
class Waiter:
    """Asks the controller again and again.

    Args:
        api: the controller.
        name: the application.
        wanted: how many instances should run.
        known_crashes: gives the ids of the instances that had crashed before; asked once it matters.
        show: told of every picture.
    """

    api: Api
    name: str
    wanted: int
    known_crashes: Callable[[], Collection[str]] = tuple
    show: Callable[[str], None] = lambda _text: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait(self, seconds: float) -> tuple[Verdict, Picture]:
        """Wait at most so long; the verdict is WAIT where the time ran out first."""
        begun = self.clock()
        attempt = 0
        picture = Picture(self.wanted)
        while True:
            try:
                picture = self._look(self.clock() - begun)
            except (ApiError, UnreachableError) as error:
                # A controller that is being replaced is no reason to give up.
                if not away(error):
                    raise
            self.show(picture.text())
            verdict = picture.verdict()
            left = seconds - (self.clock() - begun)
            if verdict is not Verdict.WAIT or left <= 0:
                return verdict, picture
            self.sleep(min(_PERIODS[min(attempt, len(_PERIODS) - 1)], left))
            attempt += 1

    def _look(self, waited: float) -> Picture:
        states = Counter(str(item.get("state", "DOWN")) for item in self.api.instances(self.name))
        if states["RUNNING"] >= self.wanted or waited < _CRASHES_AFTER:
            return Picture(self.wanted, states)
        crashes = sorted(self.api.crashes(self.name), key=lambda item: int(item.get("since") or 0))
        known = self.known_crashes() if crashes else ()
        fresh = [str(item["instance"]) for item in crashes if item.get("instance") not in known]
        return Picture(self.wanted, states, tuple(fresh))

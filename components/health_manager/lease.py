"""The lease that decides which health manager leads: a row of ccdb, taken through any controller (docs/platform.md).

`LeaseState` decides, without I/O; `Lease` sends the requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from components.common import log
from components.health_manager.controllers import ControllerReply, Controllers, ControllersError

NEVER = float("-inf")
_PATH = "/v2/leases/health_manager"
# A leader stops this long before its lease ends: a request under way must not outlive it.
_MARGIN = 0.5
logger = log.get(__name__)


@dataclass(slots=True)
class LeaseState:
    """The known state of the lease.

    Time is counted from before the request was sent, so this side always ends first. `token` grows with every change
    of holder; it is shown, so that an operator can distinguish terms of leadership.
    """

    holder: str
    ttl: float
    until: float = NEVER
    since: float = NEVER
    token: int = -1
    other: str = ""
    other_until: float = NEVER
    # Whether this manager sends the alerts: the last leader does, also while no controller can be reached and no
    # manager leads.
    speaks: bool = False

    def leads(self, now: float) -> bool:
        """Return whether this manager may act."""
        return now < self.until

    def someone_else_leads(self, now: float) -> bool:
        """Return whether another manager is known to lead."""
        return now < self.other_until

    def granted(self, token: int, sent: float, now: float) -> None:
        """Record that the lease is granted or renewed. An answer that came too late gives no time."""
        if not self.leads(now):
            self.since = now
        self.token, self.until = token, sent + self.ttl - _MARGIN
        self.other, self.other_until = "", NEVER
        self.speaks = True

    def refused(self, holder: str, token: int, expires_in: float, now: float) -> None:
        """Record that another manager holds the lease: stop at once."""
        self.token, self.until = token, NEVER
        self.other, self.other_until = holder, now + expires_in
        self.speaks = False

    def released(self) -> None:
        """Record that the lease is given back."""
        self.until = NEVER
        self.speaks = False

    def wait(self, renew: float, now: float) -> float:
        """Return the seconds until the next attempt: earlier when another manager's lease is about to end."""
        if self.someone_else_leads(now):
            return max(min(renew, self.other_until - now + 0.05), 0.1)
        return renew if self.leads(now) else min(renew, 0.5)


class Lease:
    """The holder of a lease: it takes, renews and gives it back.

    Args:
        controllers: the client of the controllers.
        state: the state that decides.
        renew: seconds between attempts.
        turned: called whenever leading begins or ends.
    """

    def __init__(
        self, controllers: Controllers, state: LeaseState, renew: float, turned: Callable[[bool], None]
    ) -> None:
        self._controllers = controllers
        self._renew = renew
        self._turned = turned
        self._led = False
        self.state = state

    async def run(self) -> None:
        """Hold the lease, or try to take it, until cancelled."""
        trouble = ""
        while True:
            try:
                await self._attempt()
                trouble = ""
            except ControllersError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    logger.warning("lease_unreachable", reason=trouble)
            self.check()
            await asyncio.sleep(self.state.wait(self._renew, time.monotonic()))

    def check(self) -> None:
        """Report when leading has begun or ended."""
        leads = self.state.leads(time.monotonic())
        if leads != self._led:
            self._led = leads
            self._turned(leads)

    async def release(self) -> None:
        """Release the lease, so that another manager need not wait for its end."""
        if not self.state.leads(time.monotonic()):
            return
        self.state.released()
        with contextlib.suppress(ControllersError):
            await self._controllers.call("DELETE", _PATH, body={"holder": self.state.holder}, timeout=1.0)

    async def _attempt(self) -> None:
        sent = time.monotonic()
        body = {"holder": self.state.holder, "ttl": round(self.state.ttl)}
        answer = await self._controllers.call("PUT", _PATH, body=body, timeout=self.state.ttl / 5)
        self._take(answer, sent)

    def _take(self, answer: ControllerReply, sent: float) -> None:
        now = time.monotonic()
        body = answer.body or {}
        holder, token, left = body.get("holder"), body.get("token"), body.get("expires_in")
        if not isinstance(holder, str) or not isinstance(token, int) or not isinstance(left, int | float):
            raise ControllersError(f"{_PATH}: status {answer.status}, not a lease")
        if answer.status == 200 and holder == self.state.holder:
            self.state.granted(token, sent, now)
        elif answer.status == 409 and holder != self.state.holder:
            self.state.refused(holder, token, left, now)
        else:
            raise ControllersError(f"{_PATH}: status {answer.status} contradicts its holder")

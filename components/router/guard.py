"""The check of registrations: the platform's hosts by the subject they came on, applications' by the address they name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from prometheus_client import Counter

from components.common import log
from components.common.bus.platform_hosts import PLATFORM_REGISTER, PLATFORM_UNREGISTER
from components.router.deas import DeaAddresses
from components.router.errors import RouteError
from components.router.routes import Endpoint
from components.router.table import Table

REFUSED = Counter(
    "ingot_router_refused_platform_registrations_total",
    "Registrations of a host of the platform by a sender that may only register applications.",
)
STRANGE = Counter(
    "ingot_router_refused_addresses_total", "Registrations of an application at an address that is no DEA's."
)
# A registration is repeated every few seconds, or as often as its sender likes: one line stands for all until the
# next.
LOG_SECONDS = 60.0
_PLATFORM = (PLATFORM_REGISTER, PLATFORM_UNREGISTER)

logger = log.get(__name__)


class Complaints:
    """Refusals of one kind: each is counted, and now and then one is logged, with the number since the last.

    Args:
        event: its name in the log.
        counter: counts them for `/metrics`.
        clock: seconds that only grow.

    Attributes:
        count: their number.
    """

    def __init__(self, event: str, counter: Counter, clock: Callable[[], float]) -> None:
        self._event = event
        self._counter = counter
        self._clock = clock
        self._next_line = clock()
        self._unsaid = 0
        self.count = 0

    def add(self, subject: str, hosts: Sequence[str], endpoint: Endpoint) -> None:
        """Count a refusal."""
        self._counter.inc()
        self.count += 1
        self._unsaid += 1
        now = self._clock()
        if now < self._next_line:
            return
        logger.warning(
            self._event,
            subject=subject,
            hosts=list(hosts)[:20],
            address=endpoint.address,
            port=endpoint.port,
            app=endpoint.app,
            since_last_line=self._unsaid,
        )
        self._next_line, self._unsaid = now + LOG_SECONDS, 0


class Guard:
    """The check of a registration's subject and address: any sender can forge the other members of a message.

    Args:
        table: knows the platform's hosts and their endpoints.
        deas: knows the addresses that serve applications.
        clock: seconds that only grow.

    Attributes:
        platform: registrations of the platform's hosts that were refused.
        strange: registrations of applications that were refused, because no DEA is at their address.
    """

    def __init__(self, table: Table, deas: DeaAddresses, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._deas = deas
        self.platform = Complaints("platform_registration_refused", REFUSED, clock)
        self.strange = Complaints("address_of_no_dea_refused", STRANGE, clock)

    def registered(self, subject: str, hosts: Sequence[str], endpoint: Endpoint) -> list[str]:
        """Return the hosts that may be registered on this subject.

        Raises:
            RouteError: a sender registers as the platform a host that is not the platform's.
        """
        good = self.unregistered(subject, hosts)
        others = [host for host in hosts if host not in good]
        if subject in _PLATFORM:
            if others:
                raise RouteError(f"{', '.join(others)}: not a host of the platform (platform_hosts)")
            return good
        if not all(self._known(host, endpoint) for host in others):
            self.platform.add(subject, others, endpoint)
        if good and not self._deas.allow(endpoint.address):
            self.strange.add(subject, good, endpoint)
            return []
        return good

    def unregistered(self, subject: str, hosts: Sequence[str]) -> list[str]:
        """Return the hosts that may be unregistered on this subject; others stay as they are."""
        platform = subject in _PLATFORM
        return [host for host in hosts if (host in self._table.platform) == platform]

    def _known(self, host: str, endpoint: Endpoint) -> bool:
        # Controllers and orchestrator send it on both subjects, for routers of the release before.
        return any(route.peer == endpoint.peer for route in self._table.routes(host))

"""Keeps the platform's hosts to the platform: which hosts of a registration count, by the subject it came on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from prometheus_client import Counter

from components.common import log
from components.common.platform_hosts import PLATFORM_REGISTER, PLATFORM_UNREGISTER
from components.router.errors import RouteError
from components.router.routes import Endpoint
from components.router.table import Table

REFUSED = Counter(
    "ingot_router_refused_platform_registrations_total",
    "Registrations of a host of the platform by somebody who may only register applications.",
)
# Whoever registers does so every few seconds, or as often as they like: one line says it for all until the next.
LOG_SECONDS = 60.0
_PLATFORM = (PLATFORM_REGISTER, PLATFORM_UNREGISTER)

logger = log.get(__name__)


class Guard:
    """Judges by the subject alone, as permissions on the bus do: what a message says of itself anybody can say.

    Args:
        table: knows the platform's hosts, and who serves them.
        clock: seconds that only grow.

    Attributes:
        refused: how many registrations were refused.
    """

    def __init__(self, table: Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clock = clock
        self._next_line = clock()
        self._unsaid = 0
        self.refused = 0

    def registered(self, subject: str, hosts: Sequence[str], endpoint: Endpoint) -> list[str]:
        """Return the hosts that may be registered on this subject.

        Raises:
            RouteError: somebody registers as the platform what is none of its hosts.
        """
        good = self.unregistered(subject, hosts)
        others = [host for host in hosts if host not in good]
        if subject in _PLATFORM:
            if others:
                raise RouteError(f"{', '.join(others)}: not a host of the platform (platform_hosts)")
        elif not all(self._known(host, endpoint) for host in others):
            self._refuse(subject, others, endpoint)
        return good

    def unregistered(self, subject: str, hosts: Sequence[str]) -> list[str]:
        """Return the hosts that may be unregistered on this subject; others stay as they are."""
        platform = subject in _PLATFORM
        return [host for host in hosts if (host in self._table.platform) == platform]

    def _known(self, host: str, endpoint: Endpoint) -> bool:
        # Controllers and orchestrator say it on both subjects, for routers of the release before.
        return any(route.peer == endpoint.peer for route in self._table.routes(host))

    def _refuse(self, subject: str, hosts: Sequence[str], endpoint: Endpoint) -> None:
        REFUSED.inc()
        self.refused += 1
        self._unsaid += 1
        now = self._clock()
        if now < self._next_line:
            return
        logger.warning(
            "platform_registration_refused",
            subject=subject,
            hosts=list(hosts)[:20],
            address=endpoint.address,
            port=endpoint.port,
            app=endpoint.app,
            since_last_line=self._unsaid,
        )
        self._next_line, self._unsaid = now + LOG_SECONDS, 0

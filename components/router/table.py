"""The route table: pure, with the time from its caller, and a record of changed hosts.

A route's key is (host, address, port) (protocol 3.2). `NginxSync` sends the changes: it takes
the set of changed hosts and sends the present routes of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from components.router.routes import Endpoint

Peer = tuple[str, int]


class _Route:
    """An endpoint and the time of its last confirmation."""

    __slots__ = ("endpoint", "seen")

    def __init__(self, endpoint: Endpoint, seen: float) -> None:
        self.endpoint = endpoint
        self.seen = seen


class Table:
    """Hosts and their endpoints.

    Args:
        max_age: seconds after which a route that was not registered again is pruned.
        platform: the platform's own hosts, which have routes of their own and no wildcard's.
    """

    def __init__(self, max_age: float = 120.0, platform: Iterable[str] = ()) -> None:
        self._max_age = max_age
        self.platform = frozenset(platform)
        # The time of the platform's last registration.
        self._platform_seen = -math.inf
        self._hosts: dict[str, dict[Peer, _Route]] = {}
        self._peers: dict[Peer, set[str]] = {}
        self._changed: set[str] = set()

    def __contains__(self, host: str) -> bool:
        return self.find(host) is not None

    @property
    def hosts(self) -> int:
        """Return the number of hosts; `urls` in the varz."""
        return len(self._hosts)

    @property
    def endpoints(self) -> int:
        """Return the number of different endpoints; `droplets` in the varz."""
        return len(self._peers)

    def names(self) -> list[str]:
        """Return every host, as registered."""
        return list(self._hosts)

    def routes(self, host: str) -> list[Endpoint]:
        """Return the endpoints of one entry, oldest first; empty when there is none."""
        return [r.endpoint for r in self._hosts.get(host, {}).values()]

    def tags(self, peer: Peer) -> Mapping[str, Any]:
        """Return the tags of the endpoint at an address and port; empty when there is none."""
        host = next(iter(self._peers.get(peer, ())), None)
        return {} if host is None else self._hosts[host][peer].endpoint.tags

    def host(self, peer: Peer) -> str | None:
        """Return one of the hosts that are served at an address and port, always the same; None when there is none."""
        return min(self._peers.get(peer, ()), default=None)

    def find(self, host: str) -> str | None:
        """Return the entry that serves a host: its own, or the nearest wildcard above it, which is an application's."""
        if host in self._hosts:
            return host
        if host in self.platform:
            return None
        rest = host
        while "." in rest:
            rest = rest.partition(".")[2]
            if (name := f"*.{rest}") in self._hosts:
                return name
        return None

    def register(
        self, hosts: Iterable[str], endpoint: Endpoint, now: float, *, platform: bool = False
    ) -> None:
        """Add routes or confirm them.

        An existing route keeps its tags and is confirmed. If the same address and port now belong to another instance
        or application, every route of the former is dropped: a port that is used again never serves an old host.

        Args:
            hosts: only the platform's, or none of the platform's.
            endpoint: of these hosts.
            now: the time of the registration.
            platform: whether the platform registers; its routes and applications' do not affect each other.
        """
        self._expel(endpoint, platform=platform)
        if platform:
            self._platform_seen = now
        self._add(hosts, endpoint, now)

    def unregister(self, hosts: Iterable[str], endpoint: Endpoint) -> None:
        """Remove routes; those of another instance that now has the address and port stay."""
        for host in hosts:
            route = self._hosts.get(host, {}).get(endpoint.peer)
            if route is not None and not _differ(route.endpoint.instance, endpoint.instance):
                self._remove(host, endpoint.peer)

    def adopt(self, pairs: Iterable[tuple[str, Endpoint]], now: float, *, platform: bool) -> int:
        """Take over routes that nginx still serves, unless the table has them; they age from now on.

        Args:
            pairs: hosts and their endpoints.
            now: the time.
            platform: whether the platform's hosts are taken over, too.

        Returns:
            the number of routes taken over.
        """
        taken = 0
        for host, endpoint in pairs:
            if host in self.platform and not platform:
                continue
            if endpoint.peer not in self._hosts.get(host, {}) and not self._contested(endpoint):
                self._add([host], endpoint, now)
                taken += 1
        return taken

    def prune(self, now: float) -> int:
        """Remove routes older than the age; return how many.

        The platform's routes age while the platform is heard: where all of it falls silent, as on a bus that does not let its
        subject through, the last known routes are better than none.
        """
        limit, platform_limit = now - self._max_age, self._platform_seen - self._max_age
        stale = [
            (h, p)
            for h, routes in self._hosts.items()
            for p, r in routes.items()
            if r.seen < (platform_limit if h in self.platform else limit)
        ]
        for host, peer in stale:
            self._remove(host, peer)
        return len(stale)

    def refresh(self, now: float) -> None:
        """Confirm all routes: the bus was away, so no registration could arrive."""
        for routes in self._hosts.values():
            for route in routes.values():
                route.seen = now

    def take_changes(self) -> set[str]:
        """Return the hosts that changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    @property
    def changed(self) -> bool:
        """Return whether `take_changes` would return any host."""
        return bool(self._changed)

    def _add(self, hosts: Iterable[str], endpoint: Endpoint, now: float) -> None:
        peer = endpoint.peer
        for host in hosts:
            routes = self._hosts.setdefault(host, {})
            route = routes.get(peer)
            if route is not None:
                route.seen = now
                if route.endpoint.instance is None and endpoint.instance is not None:
                    route.endpoint = endpoint
                    self._changed.add(host)
                continue
            routes[peer] = _Route(endpoint, now)
            self._peers.setdefault(peer, set()).add(host)
            self._changed.add(host)

    def _expel(self, endpoint: Endpoint, *, platform: bool) -> None:
        for host in list(self._peers.get(endpoint.peer, ())):
            if (host in self.platform) != platform:
                continue
            old = self._hosts[host][endpoint.peer].endpoint
            if _differ(old.instance, endpoint.instance) or _differ(old.app, endpoint.app):
                self._remove(host, endpoint.peer)

    def _contested(self, endpoint: Endpoint) -> bool:
        for host in self._peers.get(endpoint.peer, ()):
            present = self._hosts[host][endpoint.peer].endpoint
            if _differ(present.instance, endpoint.instance) or _differ(present.app, endpoint.app):
                return True
        return False

    def _remove(self, host: str, peer: Peer) -> None:
        routes = self._hosts[host]
        del routes[peer]
        if not routes:
            del self._hosts[host]
        hosts = self._peers[peer]
        hosts.discard(host)
        if not hosts:
            del self._peers[peer]
        self._changed.add(host)


def _differ(old: object, new: object) -> bool:
    """Return whether both values are known and differ."""
    return old is not None and new is not None and old != new

"""Who takes part in wiring the droplet share over NFS, in what order, and how far a wiring is. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from components.common.errors import IngotError

SERVER = "nfs"
WRITERS = ("controller", "stager")
READERS = ("dea",)


class WiringError(IngotError):
    """Hosts that cannot be wired; `unknown` where one of them does not exist at all."""

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Wiring:
    """Who takes part.

    Attributes:
        server: the host that exports; None where a filer does that is no host of ours.
        clients: who mounts, those that write first: what they write is what the others read back.
    """

    server: str | None
    clients: tuple[str, ...]


def wiring(groups: Mapping[str, Collection[str]]) -> Wiring:
    """Read it from the inventory.

    Args:
        groups: each host's groups.

    Raises:
        WiringError: there are two servers, or nobody to mount anything.
    """
    servers = sorted(host for host, own in groups.items() if SERVER in own)
    if len(servers) > 1:
        raise WiringError(
            f"group {SERVER} has {', '.join(servers)}; leave the one in it that shall keep the droplets"
        )
    clients: list[str] = []
    for group in (*WRITERS, *READERS):
        clients += sorted(h for h, own in groups.items() if group in own and h not in (*servers, *clients))
    if not clients:
        raise WiringError("the groups controller, stager and dea have no host, so there is nothing to wire")
    return Wiring(servers[0] if servers else None, tuple(clients))


def chosen(found: Wiring, wanted: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Give those clients that are wanted, in the order of wiring; all where none are named.

    Args:
        found: who takes part.
        wanted: names; empty for all.
        known: all hosts of the inventory.

    Raises:
        WiringError: one of them is no client.
    """
    for host in wanted:
        if host not in known:
            raise WiringError(f"hosts: there is no machine {host}", unknown=True)
        if host == found.server:
            raise WiringError(f"hosts: {host} is the server; it has the share as its own directory")
        if host not in found.clients:
            raise WiringError(f"hosts: {host} needs no share; want some of {', '.join(found.clients)}")
    return tuple(host for host in found.clients if not wanted or host in wanted)


def standing(clients: Sequence[str], done: Collection[str], word: str) -> str:
    """Say how far a wiring or unwiring (`word`: `wired`, `unwired`) is."""
    ready = [host for host in clients if host in done]
    waiting = [host for host in clients if host not in done]
    return f"{word}: {', '.join(ready) or 'no host'}; not {word}: {', '.join(waiting) or 'no host'}"

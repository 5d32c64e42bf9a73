"""The hosts of a wiring of the droplet share over NFS, their order, and the progress. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from components.common.errors import IngotError

SERVER = "nfs"
WRITERS = ("controller",)
READERS = ("dea",)
# Earlier releases mounted the share on these too. They fetch and deliver over HTTP.
FORMER = ("stager",)


class WiringError(IngotError):
    """Hosts that cannot be wired; `unknown` where one of them does not exist at all."""

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Wiring:
    """The hosts of a wiring.

    Attributes:
        server: the host that exports; None where a filer outside of the inventory does.
        clients: the hosts that mount, writers first: the others read back what they write.
        former: hosts that need no share, and may have it mounted since an earlier release.
    """

    server: str | None
    clients: tuple[str, ...]
    former: tuple[str, ...] = ()


def wiring(groups: Mapping[str, Collection[str]]) -> Wiring:
    """Return the wiring of an inventory.

    Args:
        groups: each host's groups.

    Raises:
        WiringError: there are two servers, or no host that mounts.
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
        raise WiringError("no host is in the groups controller and dea, so there is nothing to wire")
    former = sorted(
        h for h, own in groups.items() if set(own) & set(FORMER) and h not in (*servers, *clients)
    )
    return Wiring(servers[0] if servers else None, tuple(clients), tuple(former))


def chosen(found: Wiring, wanted: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the named clients, in the order of wiring; all where none are named.

    Args:
        found: the wiring.
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
            raise WiringError(f"hosts: {host} needs no share; name some of {', '.join(found.clients)}")
    return tuple(host for host in found.clients if not wanted or host in wanted)


def standing(clients: Sequence[str], done: Collection[str], word: str) -> str:
    """Return in words how far a wiring or unwiring (`word`: `wired`, `unwired`) is."""
    ready = [host for host in clients if host in done]
    waiting = [host for host in clients if host not in done]
    return f"{word}: {', '.join(ready) or 'no host'}; not {word}: {', '.join(waiting) or 'no host'}"

"""Removals that nodes still have to make, because they were away.

Controllers forget a binding before they ask the gateway to end it, and never ask again (protocol 1.14). So a node that could
not be told is told later: credentials stop working after unbinding also when the node was away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from components.common.bus.service_messages import Credentials
from components.services.base import store


class Removal(msgspec.Struct, frozen=True):
    """One removal: an instance with the credentials of its bindings, or a binding with its own.

    `service_id` is the handle's: an instance's name or a binding's id (empty where no controller learned it).
    """

    node: str
    kind: Literal["unprovision", "unbind"]
    service_id: str = ""
    credentials: list[Credentials] = msgspec.field(default_factory=list)


class PendingRemovals:
    """The pending removals, in a private file of root or the service account (it holds credentials).

    Args:
        path: the file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[Removal] = store.load(path, list[Removal]) or []

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, removal: Removal) -> None:
        """Record a removal, unless it is known."""
        if removal not in self._pending:
            self._pending.append(removal)
            self._save()

    def done(self, removal: Removal) -> None:
        """Forget a removal."""
        if removal in self._pending:
            self._pending.remove(removal)
            self._save()

    def of(self, node: str) -> list[Removal]:
        """Return a node's pending removals, the oldest first."""
        return [r for r in self._pending if r.node == node]

    def nodes(self) -> list[str]:
        """Return the nodes with pending removals."""
        return sorted({r.node for r in self._pending})

    def _save(self) -> None:
        store.save(self._path, self._pending)

"""What is still to be taken away from nodes that were not there when it was asked.

Controllers forget a binding before they ask the gateway to end it, and never ask again (protocol 1.14). So whoever could not
be told is told later: "after unbinding, the credentials open nothing" holds also when the node was away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from components.common.service_messages import Credentials
from components.services.base import store


class Removal(msgspec.Struct, frozen=True):
    """One thing to take away: an instance with the credentials of its bindings, or a binding with its own.

    `service_id` is the handle's: an instance's name or a binding's id (empty where nobody was told of it).
    """

    node: str
    kind: Literal["unprovision", "unbind"]
    service_id: str = ""
    credentials: list[Credentials] = msgspec.field(default_factory=list)


class Removals:
    """What is owed to nodes; kept in a file of root's or the service account's own (it holds credentials).

    Args:
        path: the file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owed: list[Removal] = store.load(path, list[Removal]) or []

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, removal: Removal) -> None:
        """Remember one; nothing new where it is known."""
        if removal not in self._owed:
            self._owed.append(removal)
            self._save()

    def done(self, removal: Removal) -> None:
        """Forget one."""
        if removal in self._owed:
            self._owed.remove(removal)
            self._save()

    def of(self, node: str) -> list[Removal]:
        """Give what is owed to a node, the oldest first."""
        return [r for r in self._owed if r.node == node]

    def nodes(self) -> list[str]:
        """Give the nodes that are owed something."""
        return sorted({r.node for r in self._owed})

    def _save(self) -> None:
        store.save(self._path, self._owed)

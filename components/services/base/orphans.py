"""Orphans: instances and bindings of nodes that no controller knows (protocol 6.6); pure.

A first check finds unknown ones, a second one some minutes later keeps those that are still unknown: objects made during
the first is known by then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from components.common.bus.service_messages import Credentials, NodeHandles
from components.services.base.handles import HandleTable, binding_key


@dataclass(frozen=True, slots=True)
class Orphans:
    """Unknown instances and bindings by node id; bindings without their passwords."""

    instances: dict[str, list[str]] = field(default_factory=dict)
    bindings: dict[str, list[Credentials]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.instances or self.bindings)

    def counts(self) -> dict[str, int]:
        """Return their number."""
        return {
            "instances": sum(map(len, self.instances.values())),
            "bindings": sum(map(len, self.bindings.values())),
        }

    def varz(self) -> dict[str, Any]:
        """Return them in the form for `/varz`: names and users, no passwords."""
        bindings = {n: [list(binding_key(c)) for c in found] for n, found in self.bindings.items()}
        return {"orphan_instances": self.instances, "orphan_bindings": bindings}


def unknown(reports: list[NodeHandles], handles: HandleTable) -> Orphans:
    """Return the difference between the nodes' reports and the controllers' handles."""
    names, keys = handles.names(), handles.binding_keys()
    found = Orphans()
    for report in reports:
        for name in report.instances_list:
            if name not in names:
                found.instances.setdefault(report.node_id, []).append(name)
        for credentials in report.bindings_list:
            if binding_key(credentials) not in keys:
                found.bindings.setdefault(report.node_id, []).append(credentials)
    return found


def still(earlier: Orphans, later: Orphans) -> Orphans:
    """Return the orphans of both checks."""
    return Orphans(
        {
            node: kept
            for node, names in later.instances.items()
            if (kept := [n for n in names if n in earlier.instances.get(node, [])])
        },
        {
            node: same
            for node, found in later.bindings.items()
            if (same := [c for c in found if binding_key(c) in _keys(earlier.bindings.get(node, []))])
        },
    )


def _keys(bindings: list[Credentials]) -> set[tuple[str, str]]:
    return {binding_key(c) for c in bindings}

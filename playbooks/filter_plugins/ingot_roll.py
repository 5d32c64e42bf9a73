# ruff: noqa: INP001 - Ansible loads plugins by their path
"""The order of the machines in `playbooks/roll.yml`, and the answers of their daemons. Pure."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

NO_ANSWER = -1
_ORDER = "ingot_roll_order"


def _order() -> ModuleType:
    """Return the orchestrator's module, loaded by its path: a control host may have no orchestrator installed, or that of another release."""
    if _ORDER not in sys.modules:
        path = Path(__file__).resolve().parents[2] / "orchestrator" / "rules" / "roll_order.py"
        spec = importlib.util.spec_from_file_location(_ORDER, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path}: is no module")
        module = importlib.util.module_from_spec(spec)
        # Its data classes look their module up by its name.
        sys.modules[_ORDER] = module
        spec.loader.exec_module(module)
    return sys.modules[_ORDER]


def ingot_roll_hosts(groups: Mapping[str, Iterable[str]], tier: str) -> list[str]:
    """Return the machines of a tier in the order in which they are changed.

    Args:
        groups: hosts by group.
        tier: `canary`, `controller`, `router`, `services`, `dea` or `orchestrator`.
    """
    return list(_tiers(groups)[tier])


def ingot_roll_size(groups: Mapping[str, Iterable[str]], share: Any = None) -> int:
    """Return the number of DEAs that are changed at a time.

    Args:
        groups: hosts by group.
        share: of the tier of DEAs; without one, the default.
    """
    order = _order()
    return int(order.size(_tiers(groups)[order.DEA], order.DEFAULT_SHARE if share is None else float(share)))


def _tiers(groups: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    by_host: dict[str, set[str]] = {}
    for group, hosts in groups.items():
        for host in hosts:
            by_host.setdefault(str(host), set()).add(str(group))
    found: dict[str, tuple[str, ...]] = _order().tiers(by_host)
    return found


def ingot_answers(results: Iterable[Mapping[str, Any]], port: str) -> list[dict[str, Any]]:
    """Return the answer of each daemon's `/readyz`: `[{"port", "status", "reasons", "release"}]`.

    Args:
        results: of `ansible.builtin.uri` in a loop over ports.
        port: the name of the loop's variable.

    Returns:
        `status` is HTTP's, or -1 where nothing answered; `reasons` are those against serving; `release` is empty where a
        daemon does not name it.
    """
    return [
        {
            "port": result[port],
            "status": int(result.get("status") or NO_ANSWER),
            "reasons": _reasons(result),
            "release": str(_said(result).get("release") or ""),
        }
        for result in results
    ]


def _said(result: Mapping[str, Any]) -> Mapping[str, Any]:
    said = result.get("json")
    return said if isinstance(said, Mapping) else {}


def _reasons(result: Mapping[str, Any]) -> list[str]:
    if isinstance(said := _said(result).get("reasons"), list):
        return [str(reason) for reason in said]
    return [] if result.get("status") == 200 else [str(result.get("msg") or "no answer")]


class FilterModule:
    """The filters of `playbooks/roll.yml`."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "ingot_answers": ingot_answers,
            "ingot_roll_hosts": ingot_roll_hosts,
            "ingot_roll_size": ingot_roll_size,
        }

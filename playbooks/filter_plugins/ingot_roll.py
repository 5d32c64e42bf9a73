# ruff: noqa: INP001 - Ansible loads plugins by their path
"""What daemons said of themselves, as `playbooks/roll.yml` judges it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NO_ANSWER = -1


def ingot_answers(results: Iterable[Mapping[str, Any]], port: str) -> list[dict[str, Any]]:
    """Return what each daemon's `/readyz` said: `[{"port", "status", "reasons", "release"}]`.

    Args:
        results: of `ansible.builtin.uri` in a loop over ports.
        port: the name of the loop's variable.

    Returns:
        `status` is HTTP's, or -1 where nothing answered; `reasons` are those against serving; `release` is empty where a
        daemon does not say.
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
        return {"ingot_answers": ingot_answers}

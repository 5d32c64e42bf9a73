# ruff: noqa: INP001 - Ansible loads plugins by their path
"""Finds the wiring that inventories held before 0.1.0, as links into a checkout or as copies. Pure, but for reading it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FOLDER = "group_vars"
# Where these files were, below `group_vars`.
_PLACES = frozenset(
    f"{place}.yml"
    for place in (
        *("ccdb", "controller", "dea", "health_manager", "nats", "router", "services", "stager"),
        *("all/nfs", "all/release", "orchestrator/platform"),
    )
)
# Their first lines, and the variables that stood in no other file.
_WIRING = re.compile(
    r"^# The platform's inputs as the .+ wants? them|\b__(bus_urls|controller_urls|database_address)\b",
    re.MULTILINE,
)
# The end of such a link's target.
_LINKED = "lab/group_vars/"
_SINCE = "the wiring is in the release since 0.1.0"


def ingot_old_wiring(inventory: str) -> dict[str, list[str]]:
    """Return what is left of the old wiring in an inventory's folder: `{"problems": [...], "warnings": [...]}`, one sentence a file.

    A link without its file is a problem, as Ansible passes it over without a word. A file still counts, and is warned of.
    """
    folder = Path(inventory, _FOLDER)
    found: dict[str, list[str]] = {"problems": [], "warnings": []}
    for path in sorted(_files(folder)):
        name = f"{_FOLDER}/{path.relative_to(folder)}"
        if not path.exists():
            if path.relative_to(folder).as_posix() in _PLACES or _is_linked(path):
                found["problems"].append(
                    f"{name}: is a dangling link to {path.readlink()}; remove it: {_SINCE}"
                )
        elif _is_linked(path) or _WIRING.search(_text(path)):
            found["warnings"].append(
                f"{name}: holds the wiring of an earlier checkout, which overrides the release's; "
                f"remove it, but for what you added: {_SINCE}"
            )
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        else:
            yield path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Ansible names a file that it cannot read.
        return ""


def _is_linked(path: Path) -> bool:
    return path.is_symlink() and path.readlink().as_posix().rpartition(_LINKED)[2] in _PLACES


class FilterModule:
    """The filter of `playbooks/preflight.yml`."""

    def filters(self) -> dict[str, Any]:
        """Return it by its name."""
        return {"ingot_old_wiring": ingot_old_wiring}

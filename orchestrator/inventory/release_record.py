"""The running release as an inventory records it: `16-release.yml`."""

from __future__ import annotations

from pathlib import Path

import yaml

from components.common.filesystem.files import PUBLIC, write_atomically

# Written by each program that installs or rolls a release, here and by `playbooks/roll.yml`.
RELEASE = "16-release.yml"


def recorded_release(folder: Path) -> str | None:
    """Return the release that an inventory records; None where it records none yet."""
    known = recorded(folder)
    return str(known["ingot_release"]) if known else None


def was_rolled(folder: Path) -> bool:
    """Return whether the recorded release came by a roll, which knows the release before (`playbooks/roll_settle.yml`)."""
    return "ingot_release_previous" in recorded(folder)


def record_release(folder: Path, version: str) -> None:
    """Write the release that the platform runs; a file that has it already is not touched."""
    if recorded_release(folder) != version:
        _record(folder, {"ingot_release": version})


def recorded(folder: Path) -> dict[str, str]:
    """Return an inventory's releases: the running one, the one before, and the goal of an unfinished roll.

    Returns:
        `ingot_release`, and where there was a roll, `ingot_release_previous` (empty: nothing to go back to) and
        `ingot_release_rolling`.
    """
    path = folder / RELEASE
    if not path.is_file():
        return {}
    found: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["vars"]
    return found


def return_release(folder: Path) -> str:
    """Return the default release of a rollback: the running one during an unfinished roll, else the one before; or ""."""
    known = recorded(folder)
    name = "ingot_release" if "ingot_release_rolling" in known else "ingot_release_previous"
    return str(known.get(name, ""))


def record_rolling(folder: Path, version: str) -> None:
    """Write that a roll is under way: machines may run this release already."""
    _record(folder, {**recorded(folder), "ingot_release_rolling": version})


def _record(folder: Path, facts: dict[str, str]) -> None:
    # In the form of playbooks/tasks/roll_record.yml, which writes it at the end of a roll.
    if facts != recorded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = "# The release that runs. `ingot platform roll` and `rollback` change it.\n"
        write_atomically(folder / RELEASE, text + yaml.safe_dump({"all": {"vars": facts}}), mode=PUBLIC)

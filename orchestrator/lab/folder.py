"""A lab's folder in its checkout (`build/labs/NAME`): inventory, keys and the share, for plays and people."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.common.filesystem.files import write_atomically
from orchestrator.lab import keys, wire
from orchestrator.lab.images import recipes
from orchestrator.lab.journal import Bind
from orchestrator.lab.layout import LAB, PROJECT, RUN, PlannedBind

INVENTORY = "inventory"
FIXED = "10-fixed.yml"
GROUP_VARS = "group_vars"
_SSH = "ssh"


def find_project(start: Path) -> Path:
    """Return the checkout of a directory (the nearest one with playbooks and a pyproject), or the directory itself."""
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "orchestrator").is_dir():
            return folder
    return start


class LabFolder:
    """The folder of one lab."""

    def __init__(self, project: Path, name: str) -> None:
        self.project = project
        self.path = project / "build" / "labs" / name

    @property
    def inventory(self) -> Path:
        """Return the inventory for Ansible."""
        return self.path / INVENTORY

    def bind(self, planned: PlannedBind, run: Path) -> Bind:
        """Return a bind in the daemon's form; the directory of a relative source is made.

        Args:
            planned: the bind of a layout.
            run: the folder of the lab daemon's socket.
        """
        base = {LAB: self.path, PROJECT: self.project, RUN: run}[planned.below]
        source = base / planned.source
        if not Path(planned.source).is_absolute():
            source.mkdir(parents=True, exist_ok=True)
        return Bind(str(source), planned.target.replace("{lab}", self.path.name), planned.read_only)

    def write(self, lab: wire.LabView, access: wire.Access) -> None:
        """Write keys and inventory; files with the same content are not touched."""
        _put(self.path / _SSH / keys.PRIVATE, access.private_key, 0o600)
        _put(self.path / _SSH / f"{keys.PRIVATE}.pub", access.public_key, 0o644)
        _put(self.path / _SSH / keys.KNOWN_HOSTS, access.known_hosts, 0o644)
        text = "# Written by ingot-lab; the orchestrator's machines are in 20-dea.yml.\n" + yaml.safe_dump(
            inventory(lab.machines, self.path / _SSH), sort_keys=False
        )
        _put(self.inventory / FIXED, text, 0o644)
        target = self.project / "inventories" / "lab" / GROUP_VARS
        link = self.inventory / GROUP_VARS
        wanted = os.path.relpath(target, self.inventory)
        if not link.is_symlink() or str(link.readlink()) != wanted:
            link.unlink(missing_ok=True)
            link.symlink_to(wanted)


def inventory(machines: Iterable[wire.MachineView], ssh: Path) -> dict[str, Any]:
    """Return the inventory of fixed machines, with the keys in the folder `ssh`. Host keys are checked.

    A machine beside the layout is in the inventory's file of its maker.

    Paths are whole: testinfra hands these values to `ssh` as they stand, without Ansible's templates.
    """
    listed = [machine for machine in machines if not machine.maker]
    groups: dict[str, Any] = {}
    for machine in listed:
        for group in machine.groups:
            groups.setdefault(group, {"hosts": {}})["hosts"][machine.name] = {}
    # The variables are those of a group of the lab's machines: on `all` they would also reach the control host
    # itself.
    groups["lab"] = {
        "hosts": {machine.name: {"ansible_host": machine.address} for machine in listed},
        "vars": {
            "lab_image": image_of_more(listed),
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": f"{ssh}/{keys.PRIVATE}",
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={ssh}/{keys.KNOWN_HOSTS} "
            "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
        },
    }
    return {"all": {"children": groups}}


def image_of_more(machines: Sequence[wire.MachineView]) -> str:
    """Return the image of further machines: that of the lab's DEAs, which they join, else of its first machine."""
    deas = [machine.image for machine in machines if "dea" in machine.groups]
    return next(iter([*deas, *(machine.image for machine in machines)]), recipes.DEFAULT)


def _put(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_text() == text:
        return
    write_atomically(path, text, mode=mode)

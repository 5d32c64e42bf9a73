"""Raising and ending a whole lab, for `ingot-lab up` and `make up`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.lab import preflight, wire
from orchestrator.lab.client import LabClient
from orchestrator.lab.errors import NotFoundError, PreflightError
from orchestrator.lab.folder import LabFolder
from orchestrator.lab.journal import Process
from orchestrator.lab.layout import Layout, PlannedMachine
from orchestrator.lab.preflight import Requirements

BOOT_DEADLINE = 300.0
_AT_ONCE = 8
Report = Callable[[str], None]


@dataclass(slots=True)
class Raised:
    """A raised lab. `phases` are (name, seconds); `changed` names the machines made or started."""

    lab: wire.LabView
    folder: LabFolder
    phases: list[tuple[str, float]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def bring_up(
    client: LabClient,
    project: Path,
    name: str,
    layout: Layout,
    *,
    subnet: str | None = None,
    port: int | None = None,
    holder: Process | None = None,
    report: Report = lambda _: None,
) -> Raised:
    """Make the missing machines of a lab and start all that do not run, including those that the orchestrator made.

    Other machines beyond the layout are not touched.

    Args:
        client: of the daemon.
        project: the checkout the lab belongs to.
        name: the lab's.
        layout: its machines.
        subnet: wanted /24; by default the first free one.
        port: wanted port of 127.0.0.1; by default the first free one.
        holder: the process whose end makes the lab a leftover.
        report: called with a line of progress now and then.

    Raises:
        PreflightError: the lab cannot be raised here; nothing was changed.
        LabError: a part was refused or did not come up; the others stay for a second try.
    """
    phases: list[tuple[str, float]] = []
    wanted = tuple(dict.fromkeys(layout.image_of(machine) for machine in layout.machines))
    requirements = Requirements(len(layout.machines), wanted, name, str(project), port, subnet)
    verdict = preflight.check(client.paths, requirements)
    if verdict.problems or not verdict.can_make_machines:
        raise PreflightError([*verdict.problems, *([verdict.reason] if verdict.reason else [])])
    client.refresh()
    with _phase(phases, "images"):
        for image in wanted:
            client.build_image(image, lambda step, image=image: report(f"image {image}: {step}"))  # type: ignore[misc]
    folder = LabFolder(project, name)
    with _phase(phases, "machines"):
        lab = client.create_lab(name, project, subnet=subnet, port=port, holder=holder)
        client.set_routers(name, layout.routers())
        changed = _make_machines(client, lab, layout, folder, report)
        lab = client.lab(name)
        folder.write(lab, client.access(name))
    with _phase(phases, "boot"):
        report(f"waiting for SSH of {len(lab.machines)} machines")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(client.wait, name, m.name, BOOT_DEADLINE) for m in lab.machines]:
                done.result()
    return Raised(client.lab(name), folder, phases, changed)


def take_down(client: LabClient, project: Path, name: str, *, keep_daemon: bool = False) -> bool:
    """Remove a lab and its folder; without labs left, the daemon ends too. Return whether there was such a lab."""
    there = True
    try:
        owner = Path(client.lab(name).owner)
        client.delete_lab(name)
    except NotFoundError:
        owner, there = project, False
    shutil.rmtree(LabFolder(owner, name).path, ignore_errors=True)
    if not keep_daemon:
        client.shutdown(if_idle=True)
    return there


def refresh_folder(client: LabClient, name: str) -> LabFolder:
    """Write a lab's inventory and keys anew, after machines came or went."""
    lab = client.lab(name)
    folder = LabFolder(Path(lab.owner), name)
    folder.write(lab, client.access(name))
    return folder


def add_machine(client: LabClient, lab: str, machine: PlannedMachine, image: str, folder: LabFolder) -> None:
    """Make one machine of a layout."""
    binds = [folder.bind(planned, client.paths.run) for planned in machine.all_binds()]
    client.create_machine(
        lab, machine.name, image, groups=list(machine.groups), binds=binds, memory=machine.memory
    )


def _make_machines(
    client: LabClient, lab: wire.LabView, layout: Layout, folder: LabFolder, report: Report
) -> list[str]:
    there = {machine.name: machine for machine in lab.machines}
    changed = []
    for machine in layout.machines:
        if machine.name not in there:
            report(f"making {machine.name}")
            add_machine(client, lab.name, machine, layout.image_of(machine), folder)
    known = {machine.name for machine in layout.machines}
    made = [machine.name for machine in lab.machines if machine.maker and machine.name not in known]
    for machine_name in [*(machine.name for machine in layout.machines), *made]:
        if machine_name not in there or there[machine_name].state != "running":
            report(f"starting {machine_name}")
            client.start(lab.name, machine_name)
            changed.append(machine_name)
    return changed


@contextmanager
def _phase(phases: list[tuple[str, float]], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    phases.append((name, round(time.monotonic() - started, 1)))

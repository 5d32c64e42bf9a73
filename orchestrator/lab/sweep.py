"""The removal of a killed run's remains, and the recovery after a restart of the daemon."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from components.common import log
from orchestrator.lab import addresses
from orchestrator.lab.backends import qemu
from orchestrator.lab.backends.nspawn import unmount
from orchestrator.lab.engine import LabEngine
from orchestrator.lab.errors import LabError
from orchestrator.lab.host import host_settings, network, processes
from orchestrator.lab.host.run import run
from orchestrator.lab.journal import Leftovers, Process, Seen, abandoned, leftovers

_MOUNTS = Path("/proc/self/mounts")
logger = log.get(__name__)


def restore(engine: LabEngine) -> None:
    """Take over the journal's labs: running machines are adopted, and networks that the host forgot are made again.

    A machine that was being started when the daemon was killed has no known life; its power is cut.
    """
    strays = processes.marked(str(engine.paths.state))
    for lab in list(engine.labs.values()):
        try:
            engine.raise_network(lab)
        except LabError:
            logger.exception("network of a lab not restored", lab=lab.name)
        for machine in lab.machines.values():
            machine.life = engine.backend(machine).alive(machine.life)
            known = processes.of_life(machine.life)
            for process, who in strays.items():
                if who == (lab.name, machine.name) and process not in known:
                    processes.end_session(process, signal.SIGKILL)
            logger.info(
                "machine adopted" if machine.life else "machine is off", lab=lab.name, machine=machine.name
            )
        engine.journal.save(lab)


def sweep(engine: LabEngine, *, owners: bool) -> list[str]:
    """Remove labs without an owner, and all parts of this daemon's that no journal names.

    Args:
        engine: of the leftovers.
        owners: also remove labs whose checkout is gone.

    Returns:
        A line for each thing removed, or not removable.
    """
    said = [f"lab {name}" for name in abandoned_labs(engine, owners=owners)]
    for name in [line.removeprefix("lab ") for line in said]:
        engine.delete_lab(name)
    with engine.guard:
        found = leftovers(engine.labs, _look(engine), _roots(engine))
        said += found.words()
        said += [f"not removed: {problem}" for problem in _clear(engine, found)]
    host_settings.release(engine.counter)
    said += [f"unfinished image {path}" for path in engine.images.clear_unfinished()]
    for line in said:
        logger.info("swept", what=line)
    return said


def abandoned_labs(engine: LabEngine, *, owners: bool) -> list[str]:
    """Return the labs whose holder has ended and, with `owners`, those whose checkout is gone."""
    labs = list(engine.labs.values())
    dead: set[Process] = {lab.holder for lab in labs if lab.holder and not processes.lives(lab.holder)}
    missing = {lab.owner for lab in labs if owners and not Path(lab.owner).is_dir()}
    return abandoned(labs, dead, missing)


def _look(engine: LabEngine) -> Seen:
    state = str(engine.paths.state)
    bridges = network.bridges()
    labs = engine.paths.labs
    folders = [path for path in labs.iterdir() if path.is_dir()] if labs.is_dir() else []
    return Seen(
        bridges={name: lab for name, (owner, lab) in bridges.items() if owner == state},
        foreign_bridges=[name for name, (owner, _) in bridges.items() if owner != state],
        tables=network.tables(),
        mounts=[m for m in _mount_points() if m.startswith(f"{state}/")],
        processes=processes.marked(state),
        folders=[path.name for path in folders],
        machine_folders=[
            (path.name, machine.name)
            for path in folders
            if (path / "machines").is_dir()
            for machine in (path / "machines").iterdir()
        ],
    )


def _roots(engine: LabEngine) -> dict[tuple[str, str], str]:
    return {
        (lab.name, machine.name): str(engine.spec(lab, machine).root)
        for lab in engine.labs.values()
        for machine in lab.machines.values()
    }


def _clear(engine: LabEngine, found: Leftovers) -> list[str]:
    """Remove the leftovers; return in words those that could not be removed."""
    problems = []
    for process in found.processes:
        processes.end_session(process, signal.SIGKILL)
    processes.wait_until(lambda: not any(processes.lives(p) for p in found.processes), 10)
    steps = [
        *((unmount, Path(mount)) for mount in reversed(found.mounts)),
        *((network.remove_table, table) for table in found.tables),
        *((_remove_bridge, bridge) for bridge in found.bridges),
        *((shutil.rmtree, engine.paths.machine(*machine)) for machine in found.machine_folders),
        *((shutil.rmtree, engine.paths.lab(folder)) for folder in found.folders),
    ]
    for step, what in steps:
        try:
            step(what)  # type: ignore[operator]  # each step takes what stands beside it
        except (LabError, OSError) as error:
            problems.append(f"{what}: {error}")
    return problems


def _remove_bridge(bridge: str) -> None:
    index = addresses.bridge_index(bridge)
    assert index is not None
    for link in (network.INTERFACES / bridge / "brif").iterdir():
        run(["ip", "link", "delete", link.name], check=False)
    qemu.clear(addresses.key_prefix(index))
    network.remove_network(index)


def _mount_points() -> list[str]:
    # The kernel writes blanks and the like as octal escapes.
    return [line.split(" ")[1].encode().decode("unicode_escape") for line in _MOUNTS.read_text().splitlines()]

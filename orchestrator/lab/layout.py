"""The machines of a lab. The default is the platform's smallest layout in which only `core1` is single."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.lab.addresses import check_name
from orchestrator.lab.errors import BadRequestError
from orchestrator.lab.images import recipes

SHARE = "/srv/ingot/share"
ROUTER_GROUP = "router"
ORCHESTRATOR_GROUP = "orchestrator"
# The base of a bind's relative source: the lab's folder, its checkout, or the folder of the lab daemon's socket.
LAB, PROJECT, RUN = "lab", "project", "run"
# The place of the orchestrator's part of the checkout; relative links of the inventory are valid there, too.
CONTROL = "/srv/ingot/control"


@dataclass(frozen=True, slots=True)
class PlannedBind:
    """A directory of the host for a machine; a relative source is made where it is missing.

    Attributes:
        source: the directory, absolute or relative to `below`.
        target: its path in the machine; `{lab}` in it is the lab's name.
        read_only: whether the machine may only read.
        below: `lab`, `project` or `run`.
    """

    source: str
    target: str
    read_only: bool = False
    below: str = LAB


# An orchestrator needs the inventory with the targets of its links, the releases, and the lab's own API.
_CONTROL_BINDS = (
    PlannedBind("inventories/lab", f"{CONTROL}/inventories/lab", read_only=True, below=PROJECT),
    PlannedBind("build/releases", f"{CONTROL}/build/releases", read_only=True, below=PROJECT),
    PlannedBind(".", f"{CONTROL}/build/labs/{{lab}}"),
    PlannedBind(".", "/run/ingot-lab", below=RUN),
)


@dataclass(frozen=True, slots=True)
class PlannedMachine:
    """One machine of a layout. `memory` (MiB) is for images with a kernel of their own."""

    name: str
    groups: tuple[str, ...] = ()
    binds: tuple[PlannedBind, ...] = ()
    image: str | None = None
    memory: int | None = None

    def all_binds(self) -> tuple[PlannedBind, ...]:
        """Return the machine's own binds and those of its groups."""
        return (*self.binds, *(_CONTROL_BINDS if ORCHESTRATOR_GROUP in self.groups else ()))


@dataclass(frozen=True, slots=True)
class Layout:
    """The machines of a lab, in the order of their addresses."""

    machines: tuple[PlannedMachine, ...]
    image: str = recipes.DEFAULT

    def image_of(self, machine: PlannedMachine) -> str:
        """Return the image of a machine."""
        return machine.image or self.image

    def routers(self) -> list[str]:
        """Return the machines to which the lab's port is relayed."""
        return [m.name for m in self.machines if ROUTER_GROUP in m.groups]


_WRITABLE = (PlannedBind("share", SHARE),)
# As DEAs of a platform have it over NFS: the droplets alone.
_READABLE = (PlannedBind("share/droplets", f"{SHARE}/droplets", read_only=True),)
_BRAINS = ("controller", "stager", "health_manager")

DEFAULT = Layout(
    machines=(
        PlannedMachine("core1", ("nats", "ccdb", "share", ORCHESTRATOR_GROUP), _WRITABLE),
        PlannedMachine("ctl1", _BRAINS, _WRITABLE),
        PlannedMachine("ctl2", _BRAINS, _WRITABLE),
        PlannedMachine("router1", ("router",)),
        PlannedMachine("router2", ("router",)),
        PlannedMachine("dea1", ("dea",), _READABLE),
        PlannedMachine("dea2", ("dea",), _READABLE),
        PlannedMachine("svc1", ("services",)),
    )
)


def parse_words(words: Sequence[str], image: str = recipes.DEFAULT) -> Layout:
    """Return the layout of machines given as `NAME` or `NAME:GROUP,GROUP`; they have no binds.

    Raises:
        BadRequestError: a bad name, or one given twice.
    """
    machines = []
    for word in words:
        name, _, groups = word.partition(":")
        machines.append(PlannedMachine(name, tuple(g for g in groups.split(",") if g)))
    return _checked(Layout(tuple(machines), image))


def load(path: Path) -> Layout:
    """Return the layout of a file: `image`, and `machines` as a map of name to `groups`, `image`, `binds` and `memory`.

    Raises:
        BadRequestError: the file is not such a layout; the text names the fault.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadRequestError(f"layout {path}: {error}") from error
    return parse(raw, str(path))


def parse(raw: Any, source: str = "layout") -> Layout:
    """Return the layout of a parsed YAML document.

    Raises:
        BadRequestError: the text names the fault.
    """
    top = _keys(raw, source, {"image", "machines"})
    machines = []
    for name, facts in _keys(top.get("machines"), f"{source}: machines").items():
        where = f"{source}: {name}"
        known = _keys(facts or {}, where, {"groups", "image", "binds", "memory"})
        if not isinstance(memory := known.get("memory"), int | None):
            raise BadRequestError(f"{where}: memory is a whole number of MiB")
        binds = []
        for bind in known.get("binds") or []:
            given = _keys(bind, f"{where}: binds", {"source", "target", "read_only", "below"})
            if not {"source", "target"} <= set(given):
                raise BadRequestError(f"{where}: a bind wants source and target")
            if (below := given.get("below", LAB)) not in {LAB, PROJECT, RUN}:
                raise BadRequestError(f"{where}: below {below!r}: must be {LAB}, {PROJECT} or {RUN}")
            read_only = bool(given.get("read_only", False))
            binds.append(PlannedBind(str(given["source"]), str(given["target"]), read_only, below))
        machines.append(
            PlannedMachine(
                str(name),
                tuple(map(str, known.get("groups") or ())),
                tuple(binds),
                known.get("image"),
                memory,
            )
        )
    return _checked(Layout(tuple(machines), str(top.get("image") or recipes.DEFAULT)))


def _checked(layout: Layout) -> Layout:
    if not layout.machines:
        raise BadRequestError("a layout wants at least one machine")
    seen: set[str] = set()
    for machine in layout.machines:
        if check_name(machine.name, "machine") in seen:
            raise BadRequestError(f"machine {machine.name} is given twice")
        seen.add(machine.name)
        recipes.recipe(layout.image_of(machine))
    return layout


def _keys(raw: Any, where: str, known: set[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise BadRequestError(f"{where}: must be a map")
    if known is not None and (unknown := sorted(map(str, set(raw) - known))):
        raise BadRequestError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return raw

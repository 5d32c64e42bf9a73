"""Labs and machines in the form for clients. Pure: records in, shapes of the socket out."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

from orchestrator.lab import addresses, keys, wire
from orchestrator.lab.backends.interface import Spec
from orchestrator.lab.images import recipes
from orchestrator.lab.journal import LabRecord, Life, MachineRecord


def lab_view(lab: LabRecord, ssh: Path, machines: Sequence[wire.MachineView]) -> wire.LabView:
    """Return a lab, with its keys in the folder `ssh`."""
    return wire.LabView(
        name=lab.name,
        subnet=lab.subnet,
        gateway=addresses.gateway(IPv4Network(lab.subnet)),
        bridge=addresses.bridge_name(lab.index),
        port=lab.port,
        owner=lab.owner,
        routers=lab.routers,
        key_file=str(ssh / keys.PRIVATE),
        known_hosts_file=str(ssh / keys.KNOWN_HOSTS),
        machines=list(machines),
        processor_seconds=round(lab.processor_seconds + sum(m.processor_seconds for m in machines), 3),
    )


def machine_view(
    machine: MachineRecord, spec: Spec, life: Life | None, processor_seconds: float
) -> wire.MachineView:
    """Return a machine with its present life."""
    return wire.MachineView(
        name=machine.name,
        address=machine.address,
        image=machine.image,
        state="running" if life else "stopped",
        groups=machine.groups,
        binds=machine.binds,
        cut=machine.cut,
        pid=life.leader.pid if life and life.leader else None,
        root=str(spec.root),
        console=str(spec.console),
        maker=machine.maker,
        kernel=recipes.has_kernel(machine.image),
        processor_seconds=processor_seconds,
    )

"""The place of a new lab on this host: number, subnet, port."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

from orchestrator.lab import addresses, wire
from orchestrator.lab.errors import ConflictError
from orchestrator.lab.host import network
from orchestrator.lab.journal import LabRecord


def new_lab(request: wire.LabRequest, wanted: IPv4Network | None, labs: Sequence[LabRecord]) -> LabRecord:
    """Return the record of a lab that collides neither with the host nor with the existing labs.

    Raises:
        ConflictError: the wanted subnet or port, or every one, is taken.
    """
    taken = [*network.taken_networks(), *(IPv4Network(lab.subnet) for lab in labs)]
    ports = {lab.port for lab in labs}
    bridges = map(addresses.bridge_index, network.bridges())
    numbers = [*(index for index in bridges if index is not None), *(lab.index for lab in labs)]
    return LabRecord(
        name=request.name,
        index=addresses.choose_index(numbers),
        subnet=str(addresses.choose_subnet(taken, wanted)),
        port=addresses.choose_port(lambda p: p not in ports and network.port_is_free(p), request.port),
        owner=request.owner,
        holder=request.holder,
    )


def check_same(lab: LabRecord, request: wire.LabRequest) -> None:
    """Accept a second request for an existing lab, where it asks for the same.

    Raises:
        ConflictError: the lab is another checkout's, or has another port or subnet.
    """
    if lab.owner != request.owner:
        raise ConflictError(
            f"lab {lab.name} belongs to {lab.owner}; give this one another name, or take that one down"
        )
    for what, wanted, has in (("port", request.port, lab.port), ("subnet", request.subnet, lab.subnet)):
        if wanted is not None and wanted != has:
            raise ConflictError(f"lab {lab.name} has {what} {has}, not {wanted}: take it down first")

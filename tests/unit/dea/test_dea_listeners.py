"""Who has a port: the kernel's table as it is written, and what a guard makes of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.common.states import InstanceState
from components.dea.instances.instance import Instance
from components.dea.instances.number_ring import port_free
from components.dea.instances.registry import Bounds, Registry
from components.dea.ports import listeners
from components.dea.ports.guard import PortGuard

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "{n:4d}: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5d}        0 2107 1 0\n"


def table(*sockets: tuple[int, int, str], address: str = "0100007F") -> str:
    rows = (ROW.format(n=n, address=address, port=p, uid=u, state=s) for n, (p, u, s) in enumerate(sockets))
    return HEAD + "".join(rows)


def running(port: int | None, uid: int | None) -> Instance:
    found = Instance.of(
        DeaStart(droplet=1, name="a", version="v", limits=Limits(mem=1)), os.urandom(16).hex(), 0
    )
    found.port, found.uid = port, uid
    found.move(InstanceState.RUNNING, 0)
    return found


def test_both_protocols_are_read_and_connections_are_not(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(table((61001, 50000, "0A"), (61002, 50001, "0A"), (61003, 50002, "01")))
    assert listeners.read(tmp_path) == {61001: {50000}, 61002: {50001}}
    (tmp_path / "tcp6").write_text(table((61001, 50009, "0A"), address="0" * 32))
    assert listeners.read(tmp_path)[61001] == {50000, 50009}


def test_this_kernels_table_is_understood() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert os.geteuid() in listeners.read()[server.getsockname()[1]]


@pytest.mark.parametrize(
    ("uid", "holders", "others", "own"),
    [
        (50000, {50000}, [], True),
        (50000, {50000, 50007}, [50007], True),
        (50000, {0, 50007}, [0, 50007], False),
        (50000, set(), [], False),
        (None, {os.geteuid()}, [], True),
    ],
)
def test_whose_port_it_is(uid: int | None, holders: set[int], others: list[int], own: bool) -> None:
    found = running(61001, uid)
    known = {61001: holders, 61002: {1}}
    assert listeners.strangers(found, known) == others
    assert listeners.holds(found, known) is own


async def test_the_table_is_read_once_however_many_there_are_and_not_for_none() -> None:
    registry = Registry(Bounds(100, 100, 100))
    lost: list[tuple[str, str]] = []
    reads = []

    def read() -> listeners.Table:
        reads.append(1)
        return {61001: {50001}, 61002: {50001}, 61003: {50003}}

    guard = PortGuard(registry, lambda i, why: lost.append((i.id, why)), read)
    registry.add(running(None, 50000))
    await guard.look()
    assert reads == []
    # Its own, another's, one that has closed its port, and one that was crashed already.
    own, taken, closed, over = (running(61000 + n, 50000 + n) for n in (1, 3, 9, 2))
    taken.uid = 50002
    over.move(InstanceState.CRASHED, 0)
    for instance in (own, taken, closed, over):
        registry.add(instance)
    await guard.look()
    assert len(reads) == 1
    assert lost == [(taken.id, "another program of this machine (uid 50003) listens on its port 61003")]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_that_is_only_bound_is_not_free(family: socket.AddressFamily) -> None:
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.bind(("", 0))
        port = holder.getsockname()[1]
        assert not port_free(port)
    assert port_free(port)

"""The lab's part of the host's network: a bridge, a masquerade, and rules where others drop. All of it is undone."""

from __future__ import annotations

import socket
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from orchestrator.lab import addresses
from orchestrator.lab.host.run import run, run_json

INTERFACES = Path("/sys/class/net")
_ALIAS = "ingot-lab"
_DEFAULT_MTU = 1500
_SSH_PORT = 22
_GREETING_DEADLINE = 30.0


def taken_networks() -> list[IPv4Network]:
    """Return every IPv4 network that this host has a route to or an address in."""
    found = []
    for route in run_json(["ip", "-j", "-4", "route", "show", "table", "all"]):
        target = route.get("dst", "default")
        if target != "default":
            found.append(IPv4Network(target, strict=False))
    return sorted(set(found))


def uplink_mtu() -> int:
    """Return the MTU of the interface of the default route; larger packets of a machine would be lost there."""
    for route in run_json(["ip", "-j", "-4", "route", "show", "default"]):
        if device := route.get("dev"):
            return int((INTERFACES / device / "mtu").read_text())
    return _DEFAULT_MTU


def port_is_free(port: int) -> bool:
    """Return whether 127.0.0.1:PORT can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def speaks_ssh(address: str) -> bool:
    """Return whether an SSH daemon greets at port 22 of an address."""
    try:
        with socket.create_connection((address, _SSH_PORT), timeout=1) as connection:
            # A machine that is slow to greet would become slower by a second connection.
            connection.settimeout(_GREETING_DEADLINE)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def bridges() -> dict[str, tuple[str, str]]:
    """Return every bridge with a lab's kind of name, with the (state directory, lab) of its alias."""
    found = {}
    for path in INTERFACES.iterdir():
        if addresses.bridge_index(path.name) is None:
            continue
        try:
            alias = (path / "ifalias").read_text().strip()
        except OSError:
            continue  # it went while this was read
        kind, _, rest = alias.partition(" ")
        state, _, lab = rest.rpartition(" ")
        found[path.name] = (state, lab) if kind == _ALIAS else ("", "")
    return found


def tables() -> list[str]:
    """Return every nftables table with a lab's kind of name."""
    listed = run_json(["nft", "-j", "list", "tables"])
    names = (entry["table"]["name"] for entry in listed["nftables"] if "table" in entry)
    return [name for name in names if addresses.table_index(name) is not None]


def create_bridge(index: int, state: Path, lab: str, subnet: IPv4Network, mtu: int) -> None:
    """Make the bridge of a lab with the host's address; an existing one of this lab is corrected.

    Raises:
        CommandError: the name belongs to another lab, or the kernel refuses.
    """
    name = addresses.bridge_name(index)
    if bridges().get(name) != (str(state), lab):
        run(["ip", "link", "add", name, "type", "bridge"])
        run(["ip", "link", "set", name, "alias", f"{_ALIAS} {state} {lab}"])
    run(["ip", "link", "set", name, "mtu", str(mtu), "up"])
    run(["ip", "address", "replace", f"{addresses.gateway(subnet)}/{subnet.prefixlen}", "dev", name])


def create_tap(name: str, bridge: str, mtu: int) -> None:
    """Make a tap device on a bridge; an existing one is replaced.

    Raises:
        CommandError: the kernel refuses.
    """
    remove_tap(name)
    run(["ip", "tuntap", "add", "dev", name, "mode", "tap"])
    run(["ip", "link", "set", name, "mtu", str(mtu), "master", bridge, "up"])


def remove_tap(name: str) -> None:
    """Remove a tap device that may be gone already."""
    if (INTERFACES / name).exists():
        run(["ip", "link", "delete", name])


def create_masquerade(index: int, subnet: IPv4Network) -> None:
    """Let the machines reach the host's networks, under the host's address."""
    table = addresses.table_name(index)
    run(
        ["nft", "-f", "-"],
        stdin=f"""
table ip {table}
delete table ip {table}
table ip {table} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat
        ip saddr {subnet} ip daddr != {subnet} masquerade
    }}
}}
""",
    )
    _admit(addresses.bridge_name(index))


def remove_network(index: int) -> None:
    """Undo all of a lab's network; a missing part is no failure."""
    bridge = addresses.bridge_name(index)
    _dismiss(bridge)
    remove_table(addresses.table_name(index))
    remove_bridge(bridge)


def remove_table(table: str) -> None:
    """Remove a table that may be gone already."""
    if table in tables():
        run(["nft", "delete", "table", "ip", table])


def remove_bridge(bridge: str) -> None:
    """Remove a bridge that may be gone already."""
    if (INTERFACES / bridge).exists():
        run(["ip", "link", "delete", bridge])


def forward_drops(listed: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (family, table, chain) of the chains that drop forwarded packets, from `nft -j list chains`."""
    return [
        (chain["family"], chain["table"], chain["name"])
        for entry in listed["nftables"]
        if (chain := entry.get("chain"))
        and chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and chain["family"] in ("ip", "inet")
    ]


def _admit(bridge: str) -> None:
    # A container engine's "drop all that is forwarded" also ends the lab's packets, whichever table accepted them.
    _dismiss(bridge)
    for family, table, chain in forward_drops(run_json(["nft", "-j", "list", "chains"])):
        for direction in ("iifname", "oifname"):
            rule = [direction, bridge, "counter", "accept", "comment", f'"{_ALIAS} {bridge}"']
            run(["nft", "insert", "rule", family, table, chain, *rule])


def _dismiss(bridge: str) -> None:
    for family, table, chain in forward_drops(run_json(["nft", "-j", "list", "chains"])):
        listed = run_json(["nft", "-j", "-a", "list", "chain", family, table, chain])
        for entry in listed["nftables"]:
            rule = entry.get("rule", {})
            if rule.get("comment") == f"{_ALIAS} {bridge}":
                run(["nft", "delete", "rule", family, table, chain, "handle", str(rule["handle"])])

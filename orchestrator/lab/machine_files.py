"""The files that make a machine of its own out of an image's clone. Pure: facts in, texts out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network

from orchestrator.lab import addresses
from orchestrator.lab.backends.interface import File
from orchestrator.lab.journal import LabRecord, MachineRecord

HOSTS = "/etc/hosts"


def hosts(lab: LabRecord) -> File:
    """Return /etc/hosts with every machine of the lab: without it, a machine's look-up of its own name takes seconds."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{machine.address} {machine.name}" for machine in _sorted(lab.machines.values())]
    return File("\n".join(lines) + "\n")


def network(interface: str, machine: MachineRecord, subnet: IPv4Network, mtu: int) -> File:
    """Return networkd's file for the machine's one interface."""
    return File(f"""[Match]
Name={interface}

[Link]
MTUBytes={mtu}

[Network]
Address={machine.address}/{subnet.prefixlen}
Gateway={addresses.gateway(subnet)}
LinkLocalAddressing=no
IPv6AcceptRA=no
""")


def resolv_conf(host_files: Iterable[str]) -> File:
    """Return the first of the host's resolv.conf texts that a machine can use: one with more than the host's loopback."""
    for text in host_files:
        servers = re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)
        usable = [s for s in servers if not s.startswith("127.") and s != "::1"]
        if usable:
            search = re.findall(r"^\s*(?:search|domain)\s+.*$", text, re.MULTILINE)
            return File("\n".join([*(f"nameserver {s}" for s in usable), *search[:1]]) + "\n")
    return File("")


def identity(
    *,
    lab: LabRecord,
    machine: MachineRecord,
    interface: str,
    mtu: int,
    public_key: str,
    host_key: str,
    resolver: File,
) -> dict[str, File]:
    """Return all files of a new machine.

    Args:
        lab: with this machine already in it.
        machine: the machine.
        interface: the backend's name of its network interface.
        mtu: of that interface.
        public_key: the lab's key, for root.
        host_key: the machine's private SSH host key (its public half is in the record).
        resolver: its resolv.conf.
    """
    return {
        "/etc/hostname": File(f"{machine.name}\n"),
        HOSTS: hosts(lab),
        "/etc/resolv.conf": resolver,
        # Before the shipped 80-container-host0.network, which asks for DHCP.
        f"/etc/systemd/network/10-{interface}.network": network(
            interface, machine, IPv4Network(lab.subnet), mtu
        ),
        "/root/.ssh/authorized_keys": File(f"{public_key}\n", 0o600),
        "/etc/ssh/ssh_host_ed25519_key": File(host_key, 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": File(f"{machine.host_key}\n"),
    }


def known_hosts(lab: LabRecord) -> str:
    """Return the lab's known_hosts: each machine by name and address."""
    return "".join(f"{m.name},{m.address} {m.host_key}\n" for m in _sorted(lab.machines.values()))


def _sorted(machines: Iterable[MachineRecord]) -> list[MachineRecord]:
    return sorted(machines, key=lambda m: tuple(map(int, m.address.split("."))))

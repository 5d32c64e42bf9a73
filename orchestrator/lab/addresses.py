"""The plan of addresses, ports and short names. Pure: from the taken ones to the next free ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network

from orchestrator.lab.errors import BadRequestError, ConflictError

# RFC 2544's range for benchmarks: no real network uses it.
POOL = IPv4Network("198.18.0.0/15")
LAB_PREFIX = 24
FIRST_PORT = 8080
PORTS_TRIED = 200
FIRST_HOST = 2

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]|[a-z]")


def check_name(name: str, what: str) -> str:
    """Return the name where it can be a host name and a folder.

    Raises:
        BadRequestError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise BadRequestError(
            f"{what} {name!r}: must be a lower-case letter, then letters, digits and hyphens, at most 32"
        )
    return name


def parse_subnet(text: str) -> IPv4Network:
    """Return a lab's subnet.

    Raises:
        BadRequestError: not a network, or not one of 24 bits.
    """
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise BadRequestError(f"subnet {text!r}: {error}") from error
    if network.prefixlen != LAB_PREFIX:
        raise BadRequestError(f"subnet {text}: a lab has a /{LAB_PREFIX}")
    return network


def collisions(network: IPv4Network, taken: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Return the taken networks that overlap this one; a default route (0.0.0.0/0) overlaps none."""
    return [other for other in taken if other.prefixlen > 0 and network.overlaps(other)]


def choose_subnet(taken: Iterable[IPv4Network], wanted: IPv4Network | None = None) -> IPv4Network:
    """Return the wanted subnet, or the first free one of the pool.

    Raises:
        ConflictError: the wanted one, or the whole pool, is taken.
    """
    known = list(taken)
    if wanted is not None:
        if hit := collisions(wanted, known):
            raise ConflictError(f"subnet {wanted} is taken: this host has {', '.join(map(str, hit))}")
        return wanted
    for network in POOL.subnets(new_prefix=LAB_PREFIX):
        if not collisions(network, known):
            return network
    raise ConflictError(f"no /{LAB_PREFIX} of {POOL} is free on this host")


def choose_port(is_free: Callable[[int], bool], wanted: int | None = None) -> int:
    """Return the wanted port of 127.0.0.1, or the first free one from 8080 up.

    Raises:
        ConflictError: the wanted one, or all that are tried, are taken.
    """
    if wanted is not None:
        if not is_free(wanted):
            raise ConflictError(f"port {wanted} of 127.0.0.1 is taken")
        return wanted
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if is_free(port):
            return port
    raise ConflictError(f"no port of 127.0.0.1 from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} is free")


def choose_index(used: Iterable[int]) -> int:
    """Return the smallest number that no lab has."""
    taken = set(used)
    return next(n for n in range(len(taken) + 1) if n not in taken)


def choose_address(network: IPv4Network, used: Iterable[str], wanted: str | None = None) -> str:
    """Return the wanted address of the subnet, or its first free one from .2 up.

    Raises:
        BadRequestError: the wanted address is not a host's address of this subnet.
        ConflictError: it is taken, or the subnet is full.
    """
    taken = set(used)
    hosts = [str(network[n]) for n in range(FIRST_HOST, network.num_addresses - 1)]
    if wanted is not None:
        if wanted not in hosts:
            raise BadRequestError(f"address {wanted}: must be one of {hosts[0]} to {hosts[-1]}")
        if wanted in taken:
            raise ConflictError(f"address {wanted} belongs to another machine of this lab")
        return wanted
    for address in hosts:
        if address not in taken:
            return address
    raise ConflictError(f"subnet {network} is full")


def gateway(network: IPv4Network) -> str:
    """Return the host's own address in a lab's subnet."""
    return str(network[1])


def bridge_name(index: int) -> str:
    """Return the bridge of the lab of this index."""
    return f"ing-{index}"


def bridge_index(bridge: str) -> int | None:
    """Return the index of a lab's bridge; None for any other interface."""
    match = re.fullmatch(r"ing-(\d+)", bridge)
    return int(match.group(1)) if match else None


def table_name(index: int) -> str:
    """Return the nftables table of the lab of this index."""
    return f"ingot_lab_{index}"


def table_index(table: str) -> int | None:
    """Return the index of a lab's table; None for any other table."""
    match = re.fullmatch(r"ingot_lab_(\d+)", table)
    return int(match.group(1)) if match else None


def machine_key(index: int, address: str) -> str:
    """Return a machine's short name on the host, unique there and short enough for the name of an interface."""
    return f"{key_prefix(index)}{IPv4Address(address).packed[-1]}"


def key_prefix(index: int) -> str:
    """Return the common prefix of the short names of a lab's machines."""
    return f"ing{index}-"

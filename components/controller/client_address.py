"""The address of a request's client behind routers (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Iterable[str]) -> list[Network]:
    """Return the networks that texts name; an address is a network of one.

    Raises:
        ValueError: one is neither.
    """
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def origin(peer: str | None, forwarded: str, trusted: Iterable[Network]) -> str:
    """Return the client's address: the last one of `X-Forwarded-For` that is no trusted router's.

    Args:
        peer: the address at the other end of the connection.
        forwarded: the header's value, or nothing.
        trusted: the networks of routers whose header is believed.
    """
    known = list(trusted)
    address = peer or ""
    for said in reversed(forwarded.split(",") if forwarded else []):
        if not within(address, known):
            break
        if _address(said.strip()) is None:
            break
        address = said.strip()
    return address


def subscriber(address: str) -> str:
    """Return the key of one subscriber of a network: the address, or for IPv6 its /64, in which one subscriber has many."""
    known = _address(address)
    if not isinstance(known, ipaddress.IPv6Address):
        return address
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, 64), strict=False))


def within(text: str, known: Iterable[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and any(address in network for network in known)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None

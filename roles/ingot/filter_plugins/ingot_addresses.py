# ruff: noqa: INP001 - Ansible loads plugins by their path
"""What the machines of the platform reach each other by. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

# In this order; the second is also what SSH goes to.
_INPUTS = ("ingot_address", "ansible_host")

_Hostvars = Mapping[str, Mapping[str, Any]]


def ingot_addresses(hosts: Iterable[str], hostvars: _Hostvars) -> list[str]:
    """Return the addresses of hosts in their order, without the hosts that the inventory gives none.

    Args:
        hosts: names.
        hostvars: the variables of every host.
    """
    return [found for host in hosts if (found := _address(hostvars[host]))]


def ingot_endpoints(
    hosts: Iterable[str], hostvars: _Hostvars, port: str, usual: int, before: str = ""
) -> list[str]:
    """Return `address:port` for each host in order; a host without an address is reached by its name.

    Args:
        hosts: names.
        hostvars: the variables of every host.
        port: the input that has the port.
        usual: the port of hosts without that input.
        before: what each of them begins with, such as `nats://`.
    """
    found = []
    for host in hosts:
        known = hostvars[host]
        found.append(f"{before}{_address(known) or host}:{known.get(port, usual)}")
    return found


def _address(known: Mapping[str, Any]) -> str:
    return next((str(found) for name in _INPUTS if (found := known.get(name))), "")


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {found.__name__: found for found in (ingot_addresses, ingot_endpoints)}

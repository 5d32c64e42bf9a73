# ruff: noqa: INP001 - Ansible loads plugins by their path
"""What the firewall of a machine is made from: addresses of the platform, and what its guests may reach of it. Pure.

A guest is a program of the platform's users: an application, a one-off task, a build.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

_DNS = 53
_SSH = 22
_SCHEMES = {"http": 80, "https": 443}
# Without the name and password that it may hold.
_URL = re.compile(r"(https?://)(?:[^\s/@]*@)?([^\s/]+)")
# Roles whose machine may be reached by an address that is none of its interfaces'.
_ADDRESSED = ("controller", "dea", "health_manager", "orchestrator", "router", "service_redis", "stager")
# Variables of a host that hold an address of it.
_NAMED = ("ingot_address", "ansible_host", *(f"{role}_address" for role in _ADDRESSED))

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Ports = tuple[int, int]


def ingot_machines(
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    daemons: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Return what the firewall needs of every machine: `addresses`, the `public` ports, those of its `services`, and those of `ssh`.

    Args:
        hostvars: the variables of every host; facts of those that this run has asked.
        groups: hosts by group.
        daemons: of the platform (`playbooks/vars/daemons.yml`).
    """
    found = {}
    for name in groups.get("all", []):
        # Asked for once: every question for a host's variables puts all of them together anew.
        known = hostvars[name]
        facts = known.get("ansible_facts") or {}
        named = [known.get(one) for one in _NAMED]
        own = [daemon for daemon in daemons if name in groups.get(daemon["group"], [])]
        # Something before the machine may forward another port to the usual one.
        ssh = sorted({_SSH, int(known.get("ansible_port") or _SSH)})
        seen = [*(facts.get("all_ipv4_addresses") or []), *(facts.get("all_ipv6_addresses") or [])]
        found[name] = {
            "asked": bool(seen),
            "addresses": _sorted(a for a in _addresses([*named, *seen]) if not _near(a)),
            "public": [
                port for daemon in own if daemon.get("open") for port in _ports(known, daemon["ports"])
            ],
            "services": _services(known, own, ssh),
            "ssh": ssh,
        }
    return found


def ingot_remembered(
    machines: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Sequence[str]],
    networks: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Return machines' addresses: as this run has them from its facts, with those of an earlier run where it has none.

    What lies in one of the networks needs no mention, but for a machine that has something open: so a machine that joins or leaves within
    them changes nothing on the others.

    Args:
        machines: by `ingot_machines`.
        before: what an earlier run returned here; machines that are gone are forgotten.
        networks: of the platform's machines, as the site gives them.
    """
    around = [ipaddress.ip_network(one, strict=False) for one in networks]
    found = {}
    for name, machine in machines.items():
        known = machine["addresses"] if machine["asked"] else [*machine["addresses"], *before.get(name, [])]
        if not (machine["public"] or machine["services"]):
            known = [
                one for one in known if not any(ipaddress.ip_address(one) in network for network in around)
            ]
        if addresses := _sorted(_addresses(known)):
            found[name] = addresses
    return found


def ingot_firewall(
    machines: Mapping[str, Mapping[str, Any]],
    addresses: Mapping[str, Sequence[str]],
    networks: Sequence[str],
    *,
    further: Sequence[str] = (),
    resolvers: Sequence[str] = (),
    mirrors: Mapping[str, Sequence[str]] | None = None,
    destinations: Sequence[Mapping[str, Any]] = (),
) -> dict[str, dict[str, list[str]]]:
    """Return the elements of the sets for each of the families `ip` and `ip6`.

    `platform` is trusted at the door; `machines` is refused to guests; `open` (address . protocol . port) is what they reach
    of it all the same.

    Args:
        machines: by `ingot_machines`.
        addresses: by `ingot_remembered`.
        networks: of the platform's machines, as the site gives them.
        further: addresses and networks of the machines that stand in no fact, nobody's at the door.
        resolvers: addresses that answer DNS.
        mirrors: addresses by URL of a mirror or proxy.
        destinations: further ones of the site; `address`, `ports` and, if it is not tcp, `protocol`.
    """
    doors: list[tuple[str, str, object]] = []
    for name, machine in machines.items():
        for address in addresses.get(name, []):
            doors += [(address, "tcp", ports) for ports in (*machine["public"], *machine["services"])]
    for address in _addresses(resolvers):
        doors += [(address, protocol, _DNS) for protocol in ("udp", "tcp")]
    for url, found in (mirrors or {}).items():
        doors += [(address, "tcp", _port_of(url)) for address in _addresses(found)]
    for given in destinations:
        protocol = str(given.get("protocol") or "tcp")
        doors += [(str(given["address"]), protocol, port) for port in given["ports"]]
    known = [*networks, *further, *(a for found in addresses.values() for a in found)]
    return {
        family: {
            "platform": _sorted(n for n in networks if _family(n) == version),
            "machines": _sorted(n for n in known if _family(n) == version),
            "open": _elements([door for door in doors if _family(door[0]) == version]),
        }
        for family, version in (("ip", 4), ("ip6", 6))
    }


def ingot_not_networks(given: Iterable[object]) -> list[str]:
    """Return what is neither an address nor a network that nft takes as an element."""
    return [str(one) for one in given if not _family(str(one))]


def ingot_urls(given: Iterable[object]) -> list[str]:
    """Return the scheme, host and port of every URL in some texts, each once."""
    return sorted({scheme + host for one in given for scheme, host in _URL.findall(str(one or ""))})


def ingot_hosts(urls: Iterable[str]) -> list[str]:
    """Return the hosts of URLs, each once."""
    return sorted({urlsplit(url).hostname or "" for url in urls} - {""})


def ingot_answers(urls: Iterable[str], names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return addresses by URL, from addresses by host."""
    return {url: list(names.get(urlsplit(url).hostname or "", [])) for url in urls}


def _elements(doors: Iterable[tuple[str, str, object]]) -> list[str]:
    """Return doors as elements of a set of nft, which refuses one that overlaps another.

    So ports of one network are put together, and what a wider network has open is left out of those within it.
    """
    by_network: dict[tuple[str, _Network], list[_Ports]] = {}
    for address, protocol, ports in doors:
        lowest, _, highest = str(ports).partition("-")
        key = (protocol, ipaddress.ip_network(address, strict=False))
        by_network.setdefault(key, []).append((int(lowest), int(highest or lowest)))
    found = []
    for (protocol, network), ports in by_network.items():
        wider = [
            one
            for (other, around), more in by_network.items()
            if other == protocol and around != network and _within(network, around)
            for one in more
        ]
        shown = str(network).removesuffix(f"/{network.max_prefixlen}")
        for first, last in _without(_joined(ports), _joined(wider)):
            found.append(f"{shown} . {protocol} . {_shown(first, last)}")
    return sorted(found)


def _shown(first: int, last: int) -> str:
    return f"{first}-{last}" if last > first else str(first)


def _within(network: _Network, around: _Network) -> bool:
    return around.prefixlen < network.prefixlen and network.network_address in around


def _joined(ports: Iterable[_Ports]) -> list[_Ports]:
    found: list[_Ports] = []
    for first, last in sorted(ports):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _without(ports: Iterable[_Ports], others: Iterable[_Ports]) -> Iterable[_Ports]:
    """Return ranges without what lies in others; these are in order and apart."""
    for first, last in ports:
        begin = first
        for lower, upper in others:
            if upper >= begin and lower <= last:
                if lower > begin:
                    yield begin, lower - 1
                begin = max(begin, upper + 1)
        if begin <= last:
            yield begin, last


def _ports(known: Mapping[str, Any], inputs: Mapping[str, object]) -> list[int]:
    """Return the ports that inputs name; `inputs` has their defaults."""
    # A port, or address:port, or nothing.
    given = (str(known.get(name) or usual) for name, usual in inputs.items())
    return [int(one.rpartition(":")[2]) for one in given if one]


def _services(known: Mapping[str, Any], own: Iterable[Mapping[str, Any]], ssh: Iterable[int]) -> list[str]:
    """Return the ranges of ports that a machine's data services take. Those of daemons among them are none of theirs."""
    daemons = _joined(
        (port, port) for port in (*ssh, *(p for one in own for p in _ports(known, one["ports"])))
    )
    ranges = [(min(found), max(found)) for one in own if (found := _ports(known, one.get("guest_ports", {})))]
    return [_shown(*ports) for ports in _without(_joined(ranges), daemons)]


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _SCHEMES[parts.scheme]


def _addresses(given: Iterable[object]) -> list[str]:
    """Return what is an address, without the interface of a link-local one. Loopback and link-local stay: a resolver may be there."""
    plain = (str(one or "").partition("%")[0] for one in given)
    return [one for one in plain if "/" not in one and _family(one)]


def _near(address: str) -> bool:
    """Judge whether an address means another machine wherever it is used."""
    found = ipaddress.ip_address(address)
    return found.is_loopback or found.is_link_local


def _family(given: str) -> int:
    try:
        return ipaddress.ip_network(given, strict=False).version
    except ValueError:
        return 0


def _sorted(given: Iterable[str]) -> list[str]:
    return sorted(set(given), key=lambda one: (_family(one), ipaddress.ip_network(one, strict=False), one))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            found.__name__: found
            for found in (
                ingot_machines,
                ingot_remembered,
                ingot_firewall,
                ingot_not_networks,
                ingot_urls,
                ingot_hosts,
                ingot_answers,
            )
        }

# ruff: noqa: INP001 - Ansible loads plugins by their path
"""The daemons of a machine by the table `playbooks/vars/daemons.yml`: their ports, their health, and ports that two of them want. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from jinja2 import Undefined

OK, NOT_READY = "ok", "not ready"
NO_ANSWER = "no answer"
# Constants of roles begin so; an inventory cannot move such a port.
_CONSTANT = "__"
_VERSION = re.compile(r"[0-9][0-9.]+")

_Row = Mapping[str, Any]
# Returns a variable's value, given its name and its default.
_Read = Callable[[str, object], object]


def ingot_daemons(
    table: Iterable[_Row], variables: Mapping[str, Any], groups: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the daemons that a machine runs, in the order of the table.

    Args:
        table: `platform_daemons`.
        variables: those of the machine, Ansible's own among them; the table's defaults stand for what is missing.
        groups: those that the machine is in.

    Returns:
        Rows of the table. `ports` and `guest_ports` have numbers, without ports that nothing listens on; in `health`, `port` is a number.

    Raises:
        ValueError: a port is no number; the text names the input.
    """

    def read(name: str, usual: object) -> object:
        return variables.get(name, usual)

    known = set(groups)
    members = variables.get("groups", {})
    found = []
    for row in table:
        hosts = members.get(row["group"], [])
        if row["group"] not in known or not _enabled(
            row, read, str(variables.get("inventory_hostname")), hosts
        ):
            continue
        here = dict(row)
        for key in ("ports", "guest_ports"):
            if key in row:
                here[key] = {name: port for name, _, port in _listeners(row[key], read)}
        if health := row.get("health"):
            here["health"] = {**health, "port": here["ports"][health["port"]]}
        found.append(here)
    return found


def ingot_roles(daemons: Iterable[_Row]) -> list[str]:
    """Return the roles that install daemons, in the order in which they run, each once."""
    roles = (role for daemon in daemons for role in (daemon.get("shared_role"), daemon["role"]) if role)
    return list(dict.fromkeys(roles))


def ingot_health(
    daemons: Iterable[_Row],
    host: str,
    release: str,
    versions: Iterable[Mapping[str, Any]],
    answers: Iterable[Mapping[str, Any]],
    *,
    loop_variable: str = "__health_daemon",
) -> list[dict[str, Any]]:
    """Return the health of each daemon of a machine: `[{"host", "component", "version", "state", "reasons"}]`.

    Args:
        daemons: by `ingot_daemons`, those that have `health`.
        host: the machine's name.
        release: the release that the machine runs; empty where it runs none.
        versions: results of the loop that ran each daemon's `version`.
        answers: results of the loops that asked by HTTP and by each daemon's command.
        loop_variable: the variable of these loops, which holds the daemon.
    """
    said, asked = ({one[loop_variable]["name"]: one for one in results} for results in (versions, answers))
    found = []
    for daemon in daemons:
        name = daemon["name"]
        answer = asked.get(name, {})
        well = answer.get("rc") == 0 if "command" in daemon["health"] else answer.get("status") == 200
        number = _VERSION.search(str(said.get(name, {}).get("stdout") or ""))
        version = (number[0] if number else "") if "version" in daemon else release
        reasons = [] if well else _reasons(answer)
        state = OK if well else NOT_READY
        found.append(
            {"host": host, "component": name, "version": version, "state": state, "reasons": reasons}
        )
    return found


def ingot_port_problems(
    table: Sequence[_Row], hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return a sentence for every port that two daemons of one machine want, naming the inputs and the machines.

    Args:
        table: `platform_daemons`.
        hostvars: the variables of every host; a value that cannot be rendered raises when it is read, and is passed over.
        groups: hosts by group.
    """
    by_text: dict[str, list[str]] = {}
    for host in groups.get("all", []):
        # Read once: each access to a host's variables assembles all of them anew.
        read = _tolerant(hostvars[host])
        own = [(row, hosts) for row in table if host in (hosts := groups.get(row["group"], []))]
        here = [row for row, hosts in own if _enabled(row, read, host, hosts)]
        for text in _clashes(here, read):
            by_text.setdefault(text, []).append(host)
    return [f"{text} (on {', '.join(hosts)})" for text, hosts in by_text.items()]


def _clashes(rows: Iterable[_Row], read: _Read) -> list[str]:
    by_port: dict[int, list[tuple[str, str, str]]] = {}
    for row in rows:
        for name, address, port in _listeners(row["ports"], read, strict=False):
            by_port.setdefault(port, []).append((row["name"], name, address))
    found = []
    for port, listeners in by_port.items():
        addresses = [address for _, _, address in listeners]
        # A listener without an address takes the port on all addresses.
        if len(listeners) < 2 or (all(addresses) and len(set(addresses)) == len(addresses)):
            continue
        inputs = ", ".join(name for _, name, _ in listeners if not name.startswith(_CONSTANT))
        owners = " and ".join(dict.fromkeys(daemon for daemon, _, _ in listeners))
        fixed = "".join(f"; that of {d} is fixed" for d, name, _ in listeners if name.startswith(_CONSTANT))
        found.append(f"{inputs}: port {port} is wanted twice, by {owners}{fixed}; give each its own")
    return found


def _listeners(
    ports: Mapping[str, object], read: _Read, *, strict: bool = True
) -> list[tuple[str, str, int]]:
    """Return the name, the address (empty for all) and the number of each port; `ports` has their defaults by name."""
    found = []
    for name, usual in ports.items():
        value = str(read(name, usual) or usual)
        address, _, port = value.rpartition(":")
        if port.isdecimal():
            found.append((name, address, int(port)))
        elif value and strict:
            raise ValueError(f"{name}: want a port, not {value}")
    return found


def _enabled(row: _Row, read: _Read, host: str, hosts: Sequence[str]) -> bool:
    """Judge whether a host runs a daemon; `hosts` are those of the daemon's group."""
    switch = row.get("enabled")
    usual = not row.get("single") or not hosts or hosts[0] == host
    return switch is None or bool(boolean(read(switch, usual), strict=False))


def _tolerant(variables: Mapping[str, Any]) -> _Read:
    """Return a reader for which a value that cannot be rendered is the default: the inventory's other checks name it."""

    def read(name: str, usual: object) -> object:
        try:
            value = variables.get(name, usual)
        except Exception:  # noqa: BLE001 - templating raises what it likes
            return usual
        return usual if isinstance(value, Undefined) else value

    return read


def _reasons(answer: Mapping[str, Any]) -> list[str]:
    said = answer.get("json")
    if isinstance(said, Mapping) and isinstance(said.get("reasons"), list):
        return [str(reason) for reason in said["reasons"]]
    return [str(answer.get("stdout") or answer.get("msg") or NO_ANSWER)]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            found.__name__: found for found in (ingot_daemons, ingot_roles, ingot_health, ingot_port_problems)
        }

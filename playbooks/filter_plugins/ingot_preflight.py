# ruff: noqa: INP001 - Ansible loads plugins by their path
"""Problems of an inventory, found before any machine is touched. Pure, except for reading files of this checkout."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from jinja2 import Undefined

# Every platform has these. A droplet share may be a filer outside the inventory; data services and the orchestrator are optional.
NEEDED_GROUPS = ("nats", "ccdb", "controller", "stager", "health_manager", "router", "dea")
# Runs on every machine, and on every machine that runs a component.
EVERYWHERE = "base"
RELEASE = "release"
RELEASE_GROUPS = frozenset(
    {"controller", "stager", "health_manager", "router", "dea", "services", "orchestrator"}
)
# Roles that run on a group beside, or instead of, the one of its name.
GROUP_ROLES = {"services": ("services", "service_redis"), "nfs": ("nfs_server",)}
PLATFORM = "ingot"
# Data services that show the controllers a token.
SERVICES = ("redis",)
# Variables with the address by which others reach a machine; the first that is given counts.
ADDRESSES = ("ingot_address", "ansible_host")
PLACEHOLDER = "CHANGE_ME"
_MANIFEST = "RELEASE.json"
# A missing input of the platform is reported once, not again for each value made from it. A value made from other hosts'
# variables cannot be rendered here, where the variables of one host are read; it can on the host itself.
_SAID_ELSEWHERE = re.compile(rf"'({PLATFORM}_\w+|hostvars)' is undefined")
_TYPES = ("type", "elements", "choices", "options")

Spec = Mapping[str, Mapping[str, Any]]


def ingot_problems(
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    specs: Mapping[str, Spec],
    bus_users: Sequence[str] = (),
) -> list[str]:
    """Return every problem of an inventory, one sentence each, naming the field and the remedy.

    Args:
        hostvars: the variables of every host; a value that cannot be rendered raises when it is read.
        groups: hosts by group.
        specs: options by role, as in `meta/argument_specs.yml`, and the platform's own under `ingot`.
        bus_users: the users that need a password in `ingot_bus_passwords`.
    """
    # Read once: each access to a host's variables assembles all of them anew.
    hostvars = {host: hostvars[host] for host in groups.get("all", [])}
    specs = _plain(specs)
    found = _Found(len(hostvars))
    _check_groups(groups, found)
    _check_addresses(hostvars, groups, found)
    for host in groups.get("all", []):
        _check_names(host, hostvars[host], specs, found)
        for role in _roles_of(host, groups, specs):
            _check_values(host, hostvars[host], specs[role], found)
        _check_bus_users(host, hostvars[host], bus_users, found)
    for host in groups.get("services", []):
        _check_service_tokens(host, hostvars[host], found)
    _check_redis_nodes(hostvars, groups.get("services", []), found)
    _check_reserved_hosts(hostvars, groups, found)
    return found.sentences()


def ingot_specs(roles: str, platform: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the options of every role and of the platform, as `ingot_problems` takes them.

    Args:
        roles: the folder of roles.
        platform: the file of the platform's own inputs.
    """
    specs: dict[str, dict[str, dict[str, Any]]] = {PLATFORM: _read(Path(platform))["options"]}
    for file in sorted(Path(roles).glob("*/meta/argument_specs.yml")):
        role = file.parent.parent
        defaults = role / "defaults" / "main.yml"
        given = _read(defaults) if defaults.is_file() else {}
        options: dict[str, dict[str, Any]] = {}
        for name, entry in _read(file)["argument_specs"].items():
            for option, spec in (entry.get("options") or {}).items():
                # The caller of an operation gives its inputs; defaults that read the platform's inputs give the others.
                missing = name == "main" and "undef(" in str(given.get(option, "undef()"))
                options[option] = spec if missing else {**spec, "required": False}
        # The platform's role has no others than those of the platform.
        specs.setdefault(role.name, options)
    return specs


def ingot_release_problems(version: str, folder: str) -> list[str]:
    """Return the problems of a release on the control host, one sentence each."""
    release = Path(folder) / version
    try:
        targets = json.loads((release / _MANIFEST).read_text(encoding="utf-8"))["targets"]
        digests = {release / target["archive"]: target["sha256"] for target in targets.values()}
    except FileNotFoundError:
        return [
            f"ingot_release: there is no release {version} in {folder}; build it: make release VERSION={version}"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"ingot_release: {release / _MANIFEST} is damaged; build the release anew"]
    return [
        f"ingot_release: {path} is missing or damaged; build the release anew"
        for path, digest in digests.items()
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest
    ]


class _Found:
    """Problems with the hosts that have them, so that a problem of all hosts is reported once."""

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts
        self._by_text: dict[str, list[str]] = {}

    def add(self, text: str, host: str = "") -> None:
        hosts = self._by_text.setdefault(text, [])
        if host and host not in hosts:
            hosts.append(host)

    def sentences(self) -> list[str]:
        said = []
        for text, hosts in self._by_text.items():
            everywhere = not hosts or len(hosts) == self._hosts
            said.append(text if everywhere else f"{text} (on {', '.join(hosts)})")
        return said


def _check_groups(groups: Mapping[str, Sequence[str]], found: _Found) -> None:
    for group in NEEDED_GROUPS:
        if not groups.get(group):
            found.add(f"group {group}: is empty; put at least one host into it")
    placed = {host for group in (*NEEDED_GROUPS, "share") for host in groups.get(group, [])}
    placed |= {host for group, hosts in groups.items() if group not in ("all", "ungrouped") for host in hosts}
    for host in groups.get("all", []):
        if host not in placed:
            found.add("is in no group; put it into the groups of what it shall run, or remove it", host)


def _check_addresses(
    hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], found: _Found
) -> None:
    owners: dict[str, list[tuple[str, str]]] = {}
    for host in groups.get("all", []):
        # Where the first is given, SSH alone goes to the other.
        name = next((one for one in ADDRESSES if one in hostvars[host]), None)
        if name is None:
            found.add(f"{ADDRESSES[-1]}: is missing; give the machine's IPv4 address", host)
            continue
        value, reason = _rendered(hostvars[host], name)
        address = str(value)
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            more = f" ({reason})" if reason else ""
            found.add(f"{name}: must be the IPv4 address of the machine, written out{more}", host)
        else:
            owners.setdefault(address, []).append((name, host))
    for address, given in owners.items():
        if len(given) > 1:
            names, hosts = " and ".join(sorted({name for name, _ in given})), ", ".join(h for _, h in given)
            found.add(f"{names}: {hosts} have the same address {address}; give each its own")


def _check_names(host: str, variables: Mapping[str, Any], specs: Mapping[str, Spec], found: _Found) -> None:
    for name in variables:
        # The longest prefix decides: nfs_server_x belongs to the role nfs_server.
        owner = max((role for role in specs if name.startswith(f"{role}_")), key=len, default=None)
        if owner is None or name in specs[owner]:
            continue
        near = difflib.get_close_matches(name, specs[owner], n=1)
        remedy = f"did you mean {near[0]}?" if near else "remove it"
        found.add(
            f"{name}: is not an input of {'the platform' if owner == PLATFORM else f'role {owner}'}; {remedy}",
            host,
        )


def _roles_of(host: str, groups: Mapping[str, Sequence[str]], specs: Mapping[str, Spec]) -> list[str]:
    own = [group for group, hosts in groups.items() if host in hosts]
    wanted = [PLATFORM, EVERYWHERE, *(role for group in own for role in GROUP_ROLES.get(group, (group,)))]
    if set(own) & RELEASE_GROUPS:
        wanted.append(RELEASE)
    return [role for role in specs if role in wanted]


def _check_values(host: str, variables: Mapping[str, Any], spec: Spec, found: _Found) -> None:
    values: dict[str, Any] = {}
    for name, option in spec.items():
        if name not in variables:
            if option.get("required"):
                found.add(f"{name}: is missing; {_wanted(option)}", host)
            continue
        value, fault = _rendered(variables, name)
        if not fault:
            values[name] = value
        elif not _SAID_ELSEWHERE.search(fault):
            found.add(f"{name}: cannot be rendered: {fault}", host)
    for name, value in values.items():
        option = spec[name]
        if _is_empty(value) and option.get("required"):
            found.add(f"{name}: is empty; {_wanted(option)}", host)
        elif _holds_placeholder(value):
            found.add(f"{name}: still holds {PLACEHOLDER}; replace it by a value of your own", host)
        else:
            for text in _type_errors(name, value, option):
                found.add(text, host)


def _rendered(variables: Mapping[str, Any], name: str) -> tuple[Any, str]:
    """Return a variable's value and, where it has none, the reason."""
    try:
        value = _plain(variables[name])
    except Exception as error:  # noqa: BLE001 - templating raises what it likes; the text is what people need
        return None, str(error)
    if isinstance(value, Undefined):
        return None, str(value._undefined_message)  # noqa: SLF001 - the way Jinja's own subclasses read it
    return value, ""


def _plain(value: Any) -> Any:
    """Return a value without the containers that render late: the validator copies deeply, and these take their whole play along."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _type_errors(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    bare = {key: option[key] for key in _TYPES if key in option}
    messages = ArgumentSpecValidator({name: bare}).validate({name: value}).error_messages
    if messages and option.get("no_log"):
        return [f"{name}: want {option.get('type', 'str')}"]
    return [f"{name}: {message}" for message in messages]


def _check_bus_users(host: str, variables: Mapping[str, Any], users: Iterable[str], found: _Found) -> None:
    passwords, _ = _rendered(variables, "ingot_bus_passwords")
    # The other checks report missing and mistyped values.
    if isinstance(passwords, Mapping) and (missing := [user for user in users if not passwords.get(user)]):
        found.add(f"ingot_bus_passwords: has no password for {', '.join(missing)}", host)


def _check_service_tokens(host: str, variables: Mapping[str, Any], found: _Found) -> None:
    tokens, _ = (
        _rendered(variables, "ingot_service_tokens") if "ingot_service_tokens" in variables else ({}, "")
    )
    for service in SERVICES:
        own = f"service_{service}_token" in variables
        if not own and isinstance(tokens, Mapping) and tokens and not tokens.get(service):
            found.add(f"ingot_service_tokens: has no token for {service}", host)


def _check_redis_nodes(
    hostvars: Mapping[str, Mapping[str, Any]], hosts: Iterable[str], found: _Found
) -> None:
    """Two nodes of one id both make what one is asked for."""
    owners: dict[str, list[str]] = {}
    for host in hosts:
        # As the role has it where the inventory says nothing.
        number = re.search(r"\d*$", host)
        usual = (
            f"redis_node_{hostvars[host].get('service_redis_index', int(number[0] or 0) if number else 0)}"
        )
        owners.setdefault(str(hostvars[host].get("service_redis_node_id", usual)), []).append(host)
    for node, same in owners.items():
        if len(same) > 1:
            found.add(
                f"service_redis_index: {', '.join(same)} are the same node {node}; give each its own number"
            )


def _check_reserved_hosts(
    hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], found: _Found
) -> None:
    """Add a problem for each host that controllers reserve and routers do not, or the reverse."""
    names = {role: f"{role}_reserved_hosts" for role in ("controller", "router")}
    said = {
        role: [_rendered(hostvars[host], name)[0] for host in groups.get(role, []) if name in hostvars[host]]
        for role, name in names.items()
    }
    lists = [value for values in said.values() for value in values]
    # The other checks report mistyped values.
    if not all(isinstance(value, list) and all(isinstance(name, str) for name in value) for value in lists):
        return
    first, second = ({name for value in said[role] for name in value} for role in names)
    for name in sorted(first ^ second):
        has, lacks = names.values() if name in first else reversed(names.values())
        found.add(f"{lacks}: lacks {name}, which {has} names; give both the same hosts")


def _wanted(option: Mapping[str, Any]) -> str:
    where = "the secrets" if option.get("no_log") else "group_vars"
    return f"set it in {where} of this inventory: {str(option.get('description', '')).rstrip('.')}"


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and len(value) == 0)


def _holds_placeholder(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_placeholder(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_placeholder(inner) for inner in value)
    return isinstance(value, str) and PLACEHOLDER in value


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return content


class FilterModule:
    """The filters of `playbooks/preflight.yml`."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "ingot_problems": ingot_problems,
            "ingot_release_problems": ingot_release_problems,
            "ingot_specs": ingot_specs,
        }

"""The inventory's folder: the machines of all writers, and the two files that the orchestrator writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components.common.errors import IngotError
from components.common.filesystem.files import PUBLIC, write_atomically
from orchestrator.inventory import release_record

OWN = "20-dea.yml"
_HEADER = (
    "# Written by the orchestrator: the machines it made. Those of other writers are in the other files.\n"
)
_SUFFIXES = (".yml", ".yaml")
_VAULTED = "$ANSIBLE_VAULT"


class InventoryError(IngotError):
    """The inventory's folder cannot be read as one; the text names the file."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host. `fixed`: from a file of another writer, so it is never removed here; `address` is its `ansible_host`."""

    name: str
    address: str
    groups: tuple[str, ...]
    fixed: bool
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def platform_address(self) -> str:
        """Return the address that its daemons announce; SSH alone goes to `address` where the two differ."""
        return str(self.variables.get("ingot_address", self.address))


class PlatformInventory:
    """The folder. Only variables of hosts are read, none of groups: enough to know the hosts and their addresses.

    Args:
        folder: the folder that Ansible is given.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()

    def hosts(self) -> dict[str, Host]:
        """Return all hosts by name.

        Raises:
            InventoryError: a file is not an inventory, or names hosts by ranges.
        """
        groups: dict[str, set[str]] = {}
        variables: dict[str, dict[str, Any]] = {}
        fixed: set[str] = set()
        for path in self._files():
            for group, name, values in _entries(_read(path), path):
                groups.setdefault(name, set()).update(group)
                variables.setdefault(name, {}).update(values)
                if path.name != OWN:
                    fixed.add(name)
        return {
            name: Host(
                name=name,
                address=str(variables[name].get("ansible_host", name)),
                groups=tuple(sorted(groups[name] - {"all", "ungrouped"})),
                fixed=name in fixed,
                variables=variables[name],
            )
            for name in sorted(groups)
        }

    def members(self, group: str) -> list[Host]:
        """Return a group's hosts, by name."""
        return [host for host in self.hosts().values() if group in host.groups]

    def add(
        self, name: str, address: str, groups: list[str], variables: Mapping[str, Any] | None = None
    ) -> None:
        """Write a machine of the orchestrator into `20-dea.yml`; one that is there already is replaced.

        Raises:
            InventoryError: another file has a host of this name, or `20-dea.yml` cannot be read.
        """
        with self._writing:
            if (there := self.hosts().get(name)) is not None and there.fixed:
                raise InventoryError(f"{self.folder}: {name} is a host of another file than {OWN}")
            tree = self._own()
            _take_out(tree, name)
            # Its variables are written once: a host has the same ones in all of its groups.
            values: dict[str, Any] = {"ansible_host": address, **(variables or {})}
            for group in groups:
                of = tree.setdefault("all", {}).setdefault("children", {}).setdefault(group, {})
                of.setdefault("hosts", {})[name] = values
                values = {}
            self._write(tree)

    def remove(self, name: str) -> None:
        """Remove a machine of the orchestrator; a missing one is no error."""
        with self._writing:
            tree = self._own()
            if _take_out(tree, name):
                self._write(tree)

    def release(self) -> str | None:
        """Return the running release (`16-release.yml`); None where none is recorded."""
        return release_record.recorded_release(self.folder)

    def record_release(self, version: str) -> None:
        """Write the running release."""
        with self._writing:
            release_record.record_release(self.folder, version)

    def _files(self) -> list[Path]:
        try:
            return sorted(p for p in self.folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
        except OSError as error:
            raise InventoryError(f"{self.folder}: {error.strerror}") from error

    def _own(self) -> dict[str, Any]:
        path = self.folder / OWN
        return _read(path) if path.is_file() else {}

    def _write(self, tree: dict[str, Any]) -> None:
        text = _HEADER + yaml.safe_dump(tree or {"all": {"children": {}}})
        write_atomically(self.folder / OWN, text, mode=PUBLIC, durable=True)


class _Loader(yaml.SafeLoader):
    """A loader that skips values which only Ansible understands (`!vault`, `!unsafe`): they name no host."""


def _ignored(_loader: _Loader, _suffix: str, _node: yaml.Node) -> None:
    return None


_Loader.add_multi_constructor("!", _ignored)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = None if text.startswith(_VAULTED) else yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise InventoryError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InventoryError(f"{path}: is not YAML") from error
    if tree is not None and not isinstance(tree, dict):
        raise InventoryError(f"{path}: must have groups at the top level")
    return tree or {}


def _entries(
    tree: Mapping[str, Any], path: Path, above: frozenset[str] = frozenset()
) -> Iterator[tuple[frozenset[str], str, Mapping[str, Any]]]:
    """Yield each mention of a host in a tree of groups, with all groups above it."""
    for group, content in tree.items():
        if content is None:
            continue
        if not isinstance(content, Mapping):
            raise InventoryError(f"{path}: group {group}: must have hosts, children or vars")
        groups = above | {str(group)}
        for name, values in (content.get("hosts") or {}).items():
            if "[" in str(name):
                raise InventoryError(
                    f"{path}: {name}: must be one host a line, because ranges hide their names"
                )
            yield groups, str(name), values or {}
        yield from _entries(content.get("children") or {}, path, groups)


def _take_out(tree: dict[str, Any], name: str) -> bool:
    """Remove a host from all groups of a tree, and groups that become empty; return whether it was there."""
    found = False
    for group in list(tree):
        content = tree[group]
        if not isinstance(content, dict):
            continue
        hosts = content.get("hosts")
        if isinstance(hosts, dict) and name in hosts:
            del hosts[name]
            found = True
            if not hosts:
                del content["hosts"]
        children = content.get("children")
        if isinstance(children, dict) and _take_out(children, name):
            found = True
            if not children:
                del content["children"]
        if not content:
            del tree[group]
    return found

"""The manifest: settings of a push in a file, `ingot.yml` or a `manifest.yml` of any era.

    name: hello
    memory: 128M
    instances: 2
    url: hello.example.com
    env: {GREETING: hi}
    health: {path: /up, timeout: 90}
    services: [visits]

or a list `applications:` of such mappings, or a mapping `applications:` from folder to such a mapping (2012).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from components.client.errors import PackageError
from components.client.text import decode
from components.client.units import parse_memory

FILES = ("ingot.yml", "manifest.yml")
_NAMES = {
    "mem": "memory",
    "urls": "url",
    "uris": "url",
    "uri": "url",
    "host": "url",
    "environment": "env",
}
_KEYS = frozenset(
    {
        "name",
        "path",
        "framework",
        "runtime",
        "command",
        "memory",
        "instances",
        "url",
        "env",
        "health",
        "services",
    }
)
_HEALTH_KEYS = frozenset({"path", "timeout"})
_SERVICE_NAMES = {"type": "vendor", "tier": "plan"}
_SERVICE_KEYS = frozenset({"vendor", "plan", "version"})
_LONGEST_HEALTH = 600
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLATFORM = re.compile(r"(?i:vcap_|vmc_)|INGOT_")
_TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_ENVIRONMENT, _MERGE = ("env", "environment"), "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class ServiceWish:
    """A service that an application is bound to; with a vendor (`redis`, `redis-7.0`) it is made if it is missing."""

    name: str
    vendor: str = ""
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a push; None means "not set". `memory` is MB, `health` is the value of `meta.health`."""

    name: str | None = None
    path: Path | None = None
    framework: str | None = None
    runtime: str | None = None
    command: str | None = None
    memory: int | None = None
    instances: int | None = None
    urls: list[str] | None = None
    env: dict[str, str] = field(default_factory=dict)
    health: dict[str, Any] | None = None
    services: tuple[ServiceWish, ...] | None = None

    def over(self, other: Settings) -> Settings:
        """Return these settings, completed from others."""
        mine = {
            key: value for key in self.__slots__ if key != "env" and (value := getattr(self, key)) is not None
        }
        return replace(other, **mine, env={**other.env, **self.env})


def find(folder: Path) -> Path | None:
    """Return the folder's manifest, if it has one."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def load(path: Path, name: str | None = None) -> Settings:
    """Read a manifest.

    Args:
        path: the file.
        name: chooses the application where there are several.

    Raises:
        PackageError: it is not YAML, or has problems; all of them are in the text.
    """
    return _checked(_choose(_read(path), name, path), path)


def load_all(path: Path) -> list[Settings]:
    """Read every application of a manifest, in its order.

    Raises:
        PackageError: as `load` does; or an application has no name.
    """
    shared, apps = _applications(_read(path), path)
    found = [_checked({**shared, **app}, path) for app in apps]
    if len(found) > 1 and not all(settings.name for settings in found):
        raise PackageError(f"{path}: an application has no name", "give each of several a `name`")
    return found


def _read(path: Path) -> Any:
    try:
        return _load(decode(path.read_bytes()))
    except (OSError, UnicodeDecodeError) as error:
        raise PackageError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise PackageError(f"{path} is not YAML{f' at line {mark.line + 1}' if mark else ''}") from error


def _load(text: str) -> Any:
    """Read YAML; variables of environments are the texts that were written: `1.10`, `0755`, `yes` and `22:22` are no numbers."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        for settings in _applications_of(node):
            _write_environments(settings)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _applications_of(node: yaml.Node) -> list[yaml.Node]:
    """Return the mappings that may hold settings: the whole, and each application of a list or of a mapping by folder."""
    found = [node]
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and key.value == "applications":
            if isinstance(value, yaml.SequenceNode):
                found += value.value
            elif isinstance(value, yaml.MappingNode):
                found += [application for _folder, application in value.value]
    return found


def _write_environments(settings: yaml.Node) -> None:
    """Turn the values of the environments in a mapping of settings, and in the mappings merged into it, into texts."""
    if not isinstance(settings, yaml.MappingNode):
        return
    pairs = []
    for key, value in settings.value:
        if key.tag == _MERGE:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                _write_environments(merged)
        environment = isinstance(key, yaml.ScalarNode) and key.value in _ENVIRONMENT
        pairs.append((key, _as_written(value) if environment else value))
    settings.value = pairs


def _as_written(node: yaml.Node) -> yaml.Node:
    """Return a copy of a node with its values as texts; null stays null, and an alias of the node elsewhere keeps its meaning."""
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(
            node.tag, [_as_written(item) for item in node.value], node.start_mark, node.end_mark
        )
    if not isinstance(node, yaml.MappingNode):
        return node
    pairs = [
        (key, _as_written(value)) if key.tag == _MERGE else (_text_of(key), _text_of(value))
        for key, value in node.value
    ]
    return yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)


def _text_of(node: yaml.Node) -> yaml.Node:
    if isinstance(node, yaml.ScalarNode) and node.style is None and node.tag != _NULL:
        return yaml.ScalarNode(_TEXT, node.value, node.start_mark, node.end_mark)
    return node


def _checked(raw: Mapping[str, Any], path: Path) -> Settings:
    problems: list[str] = []
    settings = _settings(raw, path.parent, problems)
    if problems:
        raise PackageError(f"{path}: {'; '.join(problems)}", "correct the manifest and push again")
    return settings


def _applications(raw: Any, path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Return the settings that all applications share, and the applications; a mapping without `applications` is one."""
    if raw is None:
        return {}, [{}]
    if not isinstance(raw, Mapping):
        raise PackageError(f"{path}: must be a mapping of keys at the top level")
    if "applications" not in raw:
        return {}, [raw]
    shared = {key: value for key, value in raw.items() if key != "applications"}
    listed = raw["applications"]
    if isinstance(listed, Mapping):
        listed = [
            {"path": where, **(app or {})} for where, app in listed.items() if isinstance(app or {}, Mapping)
        ]
    if not isinstance(listed, list) or not all(isinstance(app, Mapping) for app in listed):
        raise PackageError(f"{path}: applications: must be a list of mappings")
    return shared, listed


def _choose(raw: Any, name: str | None, path: Path) -> Mapping[str, Any]:
    shared, apps = _applications(raw, path)
    chosen = [app for app in apps if name is None or app.get("name") == name] or (
        apps if len(apps) == 1 else []
    )
    if len(chosen) != 1:
        names = ", ".join(str(app.get("name")) for app in apps) or "none"
        raise PackageError(
            f"{path} describes the applications {names}",
            "push one: `ingot push NAME`, or all: `ingot push --all`",
        )
    return {**shared, **chosen[0]}


def _unknown(where: str, key: object, known: Iterable[str], also: Iterable[str] = ()) -> str:
    """Return the message about an unknown key, with the key that may be meant."""
    near = get_close_matches(str(key), [*known, *also], 1)
    meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{where}{key}: not a key of a manifest ({meant})"


def _settings(raw: Mapping[str, Any], folder: Path, problems: list[str]) -> Settings:
    keys: dict[str, Any] = {}
    for key, value in raw.items():
        known = _NAMES.get(str(key), str(key))
        if known not in _KEYS:
            problems.append(_unknown("", key, _KEYS, _NAMES))
        elif value is not None:
            keys[known] = value
    framework = keys.get("framework")
    if isinstance(framework, Mapping):
        framework = framework.get("name")
    return Settings(
        name=_text(keys, "name"),
        path=folder / str(keys["path"]) if "path" in keys else None,
        framework=str(framework) if framework else None,
        runtime=_text(keys, "runtime"),
        command=_text(keys, "command"),
        memory=_memory(keys, problems),
        instances=_instances(keys, problems),
        urls=_urls(keys),
        env=_environment(keys, problems),
        health=_health(keys, problems),
        services=_services(keys, problems),
    )


def _text(keys: Mapping[str, Any], key: str) -> str | None:
    return str(keys[key]) if key in keys else None


def _memory(keys: Mapping[str, Any], problems: list[str]) -> int | None:
    if "memory" not in keys:
        return None
    try:
        return parse_memory(str(keys["memory"]))
    except ValueError as error:
        problems.append(f"memory: {error}")
        return None


def _instances(keys: Mapping[str, Any], problems: list[str]) -> int | None:
    if "instances" not in keys:
        return None
    value = keys["instances"]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        problems.append(f"instances: must be a positive number, not {value!r}")
        return None
    return value


def _urls(keys: Mapping[str, Any]) -> list[str] | None:
    if "url" not in keys:
        return None
    value = keys["url"]
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _environment(keys: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    value = keys.get("env") or {}
    if not isinstance(value, Mapping):
        problems.append("env: must be a mapping NAME: VALUE")
        return {}
    found = {}
    for name, text in value.items():
        problem = variable_problem(str(name))
        if not problem and not isinstance(text, str | None):
            problem = "must be a text; one that is JSON stands in quotes"
        if problem:
            problems.append(f"env.{name}: {problem}")
        found[str(name)] = text or ""
    return found


def variable_problem(name: str) -> str:
    """Return why an instance cannot be given a variable of this name; empty where it can (for `PORT` see `pusher.check_port`)."""
    if not _VARIABLE.fullmatch(name):
        return "no name of a variable: must consist of letters, digits and _, and not begin with a digit"
    if _PLATFORM.match(name):
        return "names that begin with VCAP_, VMC_ or INGOT_ are the platform's own"
    return ""


def _health(keys: Mapping[str, Any], problems: list[str]) -> dict[str, Any] | None:
    value = keys.get("health")
    if value is None:
        return None
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        problems.append("health: must be a path, or a mapping of path and timeout")
        return None
    problems += [_unknown("health.", key, _HEALTH_KEYS) for key in value if key not in _HEALTH_KEYS]
    try:
        return health(value.get("path"), value.get("timeout"))
    except ValueError as error:
        problems.append(str(error))
        return None


def health(path: object, timeout: object) -> dict[str, Any]:
    """Return `meta.health` of a path (None: the port alone) and a timeout in seconds (None: the platform's).

    Raises:
        ValueError: one of them is not valid.
    """
    wish: dict[str, Any] = {"path": path}
    if path is not None and not (
        isinstance(path, str) and path.startswith("/") and not set(path) & set(" \r\n")
    ):
        raise ValueError(f"health.path: must be a path that begins with /, not {path!r}")
    if timeout is not None:
        if (
            isinstance(timeout, bool)
            or not isinstance(timeout, int | float)
            or not 1 <= timeout <= _LONGEST_HEALTH
        ):
            raise ValueError(f"health.timeout: must be from 1 to {_LONGEST_HEALTH} seconds, not {timeout!r}")
        wish["timeout"] = timeout
    return wish


def _services(keys: Mapping[str, Any], problems: list[str]) -> tuple[ServiceWish, ...] | None:
    value = keys.get("services")
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(ServiceWish(item) for item in value)
    if not isinstance(value, Mapping):
        problems.append("services: must be a list of names, or a mapping NAME: {vendor: VENDOR}")
        return None
    return tuple(_service(str(name), facts, problems) for name, facts in value.items())


def _service(name: str, facts: Any, problems: list[str]) -> ServiceWish:
    if isinstance(facts, str):
        facts = {"vendor": facts}
    if facts is not None and not isinstance(facts, Mapping):
        problems.append(f"services.{name}: must be a vendor, or a mapping of vendor and plan")
        return ServiceWish(name)
    said: dict[str, str] = {}
    for key, value in (facts or {}).items():
        known = _SERVICE_NAMES.get(str(key), str(key))
        if known not in _SERVICE_KEYS:
            problems.append(_unknown(f"services.{name}.", key, _SERVICE_KEYS))
        elif value is not None and (known == key or known not in said):
            # A kind that stands beside a vendor under an old name adds nothing.
            said[known] = str(value)
    vendor = said.get("vendor", "")
    return ServiceWish(
        name, f"{vendor}-{said['version']}" if vendor and "version" in said else vendor, said.get("plan")
    )

"""The manifest: what a push would otherwise be told by options. `ingot.yml`, or `manifest.yml` of any era.

    name: hello
    memory: 128M
    instances: 2
    url: hello.example.com
    env: {GREETING: hi}

or a list `applications:` of such mappings, or a mapping `applications:` from folder to such a mapping (2012).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from components.client.errors import PackageError
from components.client.units import parse_memory

FILES = ("ingot.yml", "manifest.yml")
_NAMES = {"mem": "memory", "urls": "url", "uris": "url", "host": "url"}
_KEYS = frozenset({"name", "path", "framework", "runtime", "command", "memory", "instances", "url", "env"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What is known about a push; None is "not said". `memory` is MB."""

    name: str | None = None
    path: Path | None = None
    framework: str | None = None
    runtime: str | None = None
    command: str | None = None
    memory: int | None = None
    instances: int | None = None
    urls: list[str] | None = None
    env: dict[str, str] = field(default_factory=dict)

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
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PackageError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise PackageError(f"{path} is not YAML{f' at line {mark.line + 1}' if mark else ''}") from error
    problems: list[str] = []
    settings = _settings(_choose(raw, name, path), path.parent, problems)
    if problems:
        raise PackageError(f"{path}: {'; '.join(problems)}", "correct the manifest and push again")
    return settings


def _choose(raw: Any, name: str | None, path: Path) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise PackageError(f"{path}: want a mapping of keys at the top level")
    if "applications" not in raw:
        return raw
    shared = {key: value for key, value in raw.items() if key != "applications"}
    listed = raw["applications"]
    if isinstance(listed, Mapping):
        listed = [{"path": where, **app} for where, app in listed.items() if isinstance(app, Mapping)]
    apps = [app for app in listed or [] if isinstance(app, Mapping)]
    chosen = [app for app in apps if name is None or app.get("name") == name] or (
        apps if len(apps) == 1 else []
    )
    if len(chosen) != 1:
        names = ", ".join(str(app.get("name")) for app in apps) or "none"
        raise PackageError(f"{path} describes the applications {names}", "push one: `ingot push NAME`")
    return {**shared, **chosen[0]}


def _settings(raw: Mapping[str, Any], folder: Path, problems: list[str]) -> Settings:
    keys: dict[str, Any] = {}
    for key, value in raw.items():
        known = _NAMES.get(str(key), str(key))
        if known not in _KEYS:
            problems.append(f"{key}: not a key of a manifest (want {', '.join(sorted(_KEYS))})")
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
        problems.append(f"instances: want a positive number, not {value!r}")
        return None
    return value


def _urls(keys: Mapping[str, Any]) -> list[str] | None:
    if "url" not in keys:
        return None
    value = keys["url"]
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _environment(keys: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    value = keys.get("env") or {}
    if isinstance(value, Mapping):
        return {str(name): "" if text is None else str(text) for name, text in value.items()}
    problems.append("env: want a mapping NAME: VALUE")
    return {}

"""The configuration of a daemon: one YAML file, checked as a whole, with every problem reported at once.

A daemon declares its configuration as a frozen `msgspec.Struct`; `load` turns a file into it or raises
`ConfigError` with one sentence per problem, each naming the key and the value that is wanted.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from components.common.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


class BusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The way to the bus. `user` is also the inbox prefix (`_INBOX_<user>`), so that permissions hold."""

    urls: list[str]
    user: str = ""
    password: str = ""

    def problems(self) -> list[str]:
        """Return the problems that types cannot express: addresses must be NATS addresses."""
        if not self.urls:
            return ["urls: want at least one nats://host:port"]
        return [
            f"urls: want nats://host:port, not {u!r}"
            for u in self.urls
            if not u.startswith(("nats://", "tls://"))
        ]


class StatusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address of the probes: port 0 takes any; an empty password becomes a random one, announced on the bus."""

    host: str = "0.0.0.0"  # noqa: S104 - probes are asked by peers; the firewall narrows who
    port: int = 0
    user: str = "status"
    password: str = ""

    def problems(self) -> list[str]:
        """Return a problem for a port outside of 0 to 65535."""
        return [] if 0 <= self.port <= 65535 else [f"port: want 0 to 65535, not {self.port}"]


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the log."""

    level: str = "info"

    def problems(self) -> list[str]:
        """Return a problem for an unknown level."""
        known = ("debug", "info", "warning", "error")
        return [] if self.level in known else [f"level: want one of {', '.join(known)}, not {self.level!r}"]


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings that every daemon has; each daemon derives its own from it."""

    bus: BusConfig
    status: StatusConfig = StatusConfig()
    log: LogConfig = LogConfig()
    index: int = 0
    address: str = "127.0.0.1"

    def problems(self) -> list[str]:
        """Return problems between several keys; daemons override it, and only `parse` calls it."""
        return []

    def lacking(self) -> list[str]:
        """Return everything that the daemon's machine lacks, each with its remedy; called at the start."""
        return []


def parse(raw: Mapping[str, Any], kind: type[T], source: str = "configuration") -> T:
    """Check a mapping against a struct type.

    Args:
        raw: the parsed YAML.
        kind: the struct; a method `problems() -> list[str]` on it or on a nested struct adds rules.
        source: named in the error.

    Raises:
        ConfigError: with every problem found, each naming its key by a dotted path.
    """
    problems: list[str] = []
    value = _convert(raw, kind, "", problems)
    if problems or value is None:
        raise ConfigError(problems, source)
    return typing.cast("T", value)


def load(path: Path, kind: type[T]) -> T:
    """Read and check a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or has problems.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror}"], str(path)) from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        place = f" at line {where.line + 1}" if where else ""
        raise ConfigError([f"is not YAML{place}"], str(path)) from error
    if not isinstance(raw, dict):
        raise ConfigError(["want a mapping of keys at the top level"], str(path))
    return parse(raw, kind, str(path))


def _convert(
    raw: object, kind: type[msgspec.Struct], prefix: str, problems: list[str]
) -> msgspec.Struct | None:
    if not isinstance(raw, Mapping):
        problems.append(f"{prefix.rstrip('.') or 'top level'}: want a mapping")
        return None
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    before = len(problems)
    problems.extend(f"{prefix}{key}: not a key of this configuration" for key in raw if key not in fields)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in raw:
            if field.required:
                problems.append(f"{prefix}{name}: is required")
            continue
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            values[name] = _convert(raw[name], hint, f"{prefix}{name}.", problems)
            continue
        entries = _entries(hint, raw[name])
        if entries is not None:
            values[name] = {
                key: _convert(entry, entries, f"{prefix}{name}.{key}.", problems)
                for key, entry in raw[name].items()
            }
            continue
        try:
            values[name] = msgspec.convert(raw[name], hint)
        except msgspec.ValidationError as error:
            problems.append(f"{prefix}{name}: {_lower_first(str(error))}")
    if len(problems) > before:
        return None
    value = kind(**values)
    check = getattr(value, "problems", None)
    if callable(check):
        problems.extend(f"{prefix}{p}" for p in check())
    return value


def _entries(hint: object, raw: object) -> type[msgspec.Struct] | None:
    """Return the struct of each entry of a `dict[str, struct]`, where the value is such a mapping."""
    inner = typing.get_args(hint)
    named = (
        typing.get_origin(hint) is dict and isinstance(raw, Mapping) and all(isinstance(k, str) for k in raw)
    )
    if named and isinstance(inner[1], type) and issubclass(inner[1], msgspec.Struct):
        return inner[1]
    return None


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]

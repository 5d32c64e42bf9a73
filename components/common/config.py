"""Configuration: one YAML file per daemon, checked as a whole, every problem reported at once.

A daemon declares its configuration as a frozen `msgspec.Struct`; `load` turns a file into it or raises
`ConfigError` with one sentence per problem, each naming the key and what is wanted.
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
    """How to reach the bus. `user` is also the inbox prefix (`_INBOX_<user>`), so that permissions hold."""

    urls: list[str]
    user: str = ""
    password: str = ""

    def problems(self) -> list[str]:
        """Say what msgspec's types cannot: addresses must be NATS addresses."""
        if not self.urls:
            return ["urls: want at least one nats://host:port"]
        return [
            f"urls: want nats://host:port, not {u!r}"
            for u in self.urls
            if not u.startswith(("nats://", "tls://"))
        ]


class StatusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the probes listen. Port 0 takes any; an empty password makes one up (announced on the bus)."""

    host: str = "0.0.0.0"  # noqa: S104 - probes are asked by peers; the firewall narrows who
    port: int = 0
    user: str = "status"
    password: str = ""

    def problems(self) -> list[str]:
        """A port is a port."""
        return [] if 0 <= self.port <= 65535 else [f"port: want 0 to 65535, not {self.port}"]


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged."""

    level: str = "info"

    def problems(self) -> list[str]:
        """Only the four levels."""
        known = ("debug", "info", "warning", "error")
        return [] if self.level in known else [f"level: want one of {', '.join(known)}, not {self.level!r}"]


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every daemon has; each derives its own from it."""

    bus: BusConfig
    status: StatusConfig = StatusConfig()
    log: LogConfig = LogConfig()
    index: int = 0
    address: str = "127.0.0.1"

    def problems(self) -> list[str]:
        """Cross-field rules of a daemon; overridden, never called by users of the object."""
        return []

    def lacking(self) -> list[str]:
        """Say what the daemon needs of the machine it runs on and does not find, each with its remedy; asked at its start."""
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
    """Give the struct that each entry of a `dict[str, struct]` is, where the value is such a mapping."""
    inner = typing.get_args(hint)
    named = (
        typing.get_origin(hint) is dict and isinstance(raw, Mapping) and all(isinstance(k, str) for k in raw)
    )
    if named and isinstance(inner[1], type) and issubclass(inner[1], msgspec.Struct):
        return inner[1]
    return None


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]

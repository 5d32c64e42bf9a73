"""The parts of a platform on loopback: settings, permanent secrets, and ports that the kernel gave."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.common.bus.subjects import COMPONENTS
from components.common.filesystem.files import write_atomically

DEFAULT_PORT = 8080
# Ports of instances: above the kernel's ephemeral range, a slice for each DEA.
INSTANCE_PORTS = range(61001, 65000)
SLICE = 200


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a platform.

    Attributes:
        state: the platform's folder.
        port: of the front door, on 127.0.0.1; 0 takes any.
        deas: number of DEAs.
        database_url: ccdb; empty for SQLite in the folder.
        dea_memory: MB that each DEA hands out.
        overrides: component → configuration keys that win over the harness's (`dea` counts for every DEA).
    """

    state: Path
    port: int = DEFAULT_PORT
    deas: int = 2
    database_url: str = ""
    domain: str = "ingot.localhost"
    dea_memory: int = 2048
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def dea_names(self) -> list[str]:
        """Return `dea-0` and so on."""
        return [f"dea-{index}" for index in range(self.deas)]

    @property
    def admin_email(self) -> str:
        """Return the administrator's address."""
        return f"admin@{self.domain}"


def load_secrets(state: Path) -> dict[str, str]:
    """Return the platform's secrets, made at the first start: name → text. The file is its owner's alone.

    The administrator's password is also written to `admin_password`, for people and scripts.
    """
    path = state / "secrets.json"
    names = ("admin", "bulk", "staging", "status", "token_key", *(f"bus_{user}" for user in COMPONENTS))
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = {name: known.get(name) or secrets.token_hex(16) for name in names}
    if found != known:
        write_atomically(path, json.dumps(found, indent=2) + "\n")
    write_atomically(state / "admin_password", found["admin"] + "\n")
    return found


def choose_ports(settings: Settings) -> dict[str, int]:
    """Return a port for every listener: `front` the wanted one, the others free ones of the kernel.

    `NAME.files` is where a DEA serves files, `NAME.first` where its instances' ports begin.
    """
    names = ["nats", "controller", "stager", "health-manager", "router", *settings.dea_names]
    names += [f"{name}.files" for name in settings.dea_names]
    ports = dict(zip(names, _free(len(names)), strict=True))
    ports["front"] = settings.port or _free(1)[0]
    # Several harnesses may run on one machine: each begins at another port.
    slices = len(INSTANCE_PORTS) // SLICE
    first = secrets.randbelow(slices)
    for number, name in enumerate(settings.dea_names):
        ports[f"{name}.first"] = INSTANCE_PORTS[(first + number) % slices * SLICE]
    return ports


def port_is_free(port: int) -> bool:
    """Return whether 127.0.0.1:PORT can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free(count: int) -> list[int]:
    """Return different free ports: all are held until the last is known."""
    held = [socket.socket() for _ in range(count)]
    try:
        for probe in held:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in held]
    finally:
        _close(held)


def _close(sockets: Iterable[socket.socket]) -> None:
    for item in sockets:
        item.close()

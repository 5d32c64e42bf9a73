"""The configuration file of an instance's server; pure."""

from __future__ import annotations

from pathlib import Path


def render(folder: Path, *, bind: str, port: int, memory_mb: int, max_clients: int) -> str:
    """Return the configuration; secrets are in the access list beside it.

    Everything is written to a log of changes (`appendonly`), flushed each second: stored data survive the
    server and the machine. A full instance refuses writes (`noeviction`) and loses nothing.
    """
    lines = {
        "bind": bind,
        "port": port,
        "protected-mode": "no",
        "daemonize": "no",
        "dir": folder / "data",
        "aclfile": folder / "users.acl",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory": f"{memory_mb}mb",
        "maxmemory-policy": "noeviction",
        "maxclients": max_clients,
        # A script that runs on must not keep the node from ending a binding.
        "lua-time-limit": 2000,
        "loglevel": "warning",
        "logfile": '""',
    }
    return "".join(f"{key} {value}\n" for key, value in lines.items())

"""The layout of a worker's file, read from the declarations of `lua/endpoints.lua`, which writes it."""

from __future__ import annotations

import ctypes
import re
from typing import Any

from components.router import nginx_conf

_SOURCE = (nginx_conf.LUA / "endpoints.lua").read_text()
_TYPES: dict[str, Any] = {
    "double": ctypes.c_double,
    "uint32_t": ctypes.c_uint32,
    "uint16_t": ctypes.c_uint16,
    "uint8_t": ctypes.c_uint8,
    "unsigned char": ctypes.c_char,
}


def structure(name: str) -> type[ctypes.Structure]:
    """Return the C structure of this name with the members, the order and the alignment that LuaJIT gives it."""
    body = re.search(rf"typedef struct \{{([^}}]*)\}} {name};", _SOURCE)
    assert body is not None, f"endpoints.lua has no {name}"
    fields = []
    for line in body[1].split(";"):
        declaration = line.strip()
        if not declaration:
            continue
        kind = next(k for k in _TYPES if declaration.startswith(f"{k} "))
        for member in declaration.removeprefix(kind).split(","):
            parts = re.fullmatch(r"\s*(\w+)(?:\[(\d+)\])?", member)
            assert parts is not None, f"{name} has a member that is not understood: {member}"
            fields.append((parts[1], _TYPES[kind] * int(parts[2]) if parts[2] else _TYPES[kind]))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def constants() -> dict[str, int]:
    """Return the numbers of the file by their names in Lua: `MAGIC`, `PAGE`, `NAME`, `ROW`."""
    line = re.search(r"local (MAGIC[\w, ]*) = ([\d, ]+)", _SOURCE)
    assert line is not None, "endpoints.lua has no MAGIC"
    return dict(zip(line[1].split(", "), map(int, line[2].split(", ")), strict=True))


def bounds() -> tuple[int, ...]:
    """Return the upper bounds of the latency histogram in `lua/stats.lua`, in milliseconds."""
    line = re.search(r"local BOUNDS = \{ ([\d, ]+) \}", (nginx_conf.LUA / "stats.lua").read_text())
    assert line is not None, "stats.lua has no BOUNDS"
    return tuple(map(int, line[1].split(", ")))

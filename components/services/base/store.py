"""The permanent files of a daemon: written whole or not at all, and readable by their owner only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def save(path: Path, value: object) -> None:
    """Write a value as JSON; once this returns, it survives a power cut."""
    write_private(path, msgspec.json.format(msgspec.json.encode(value), indent=1))


def load(path: Path, kind: type[T]) -> T | None:
    """Return a value; None where there is no such file.

    Raises:
        msgspec.MsgspecError: the file does not hold a `kind`.
        OSError: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def write_private(path: Path, content: bytes, group: int | None = None) -> None:
    """Write a file that its owner alone can read, or a group as well."""
    scratch = path.with_name(f".{path.name}.new")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        if group is not None:
            os.fchown(handle, -1, group)
            os.fchmod(handle, 0o640)
        file.write(content)
        file.flush()
        os.fsync(handle)
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""The permanent files of a daemon: written whole or not at all, and readable by their owner only."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from components.common.filesystem.files import write_atomically

T = TypeVar("T")


def save(path: Path, value: object) -> None:
    """Write a value as JSON; once this returns, it survives a power cut."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1), durable=True)


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

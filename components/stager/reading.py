"""Reading of an application's files, up to a sensible size each."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from components.stager.errors import StagingError

_MB = 1024 * 1024
MEND = "Correct it and push again."


def content(path: Path, stage: str = "compile", most: int = _MB) -> bytes:
    """Read a file.

    Args:
        path: the file's.
        stage: in which it is read.
        most: the largest size in bytes.

    Raises:
        FileNotFoundError: it is not there.
        StagingError: it is longer.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise StagingError(stage, f"{path.name} is longer than {most // 1024} KB", MEND)
    return data


def text(path: Path, stage: str = "compile", most: int = _MB) -> str:
    """Read a file as text; see `content` and `decode`."""
    return decode(content(path, stage, most))


def decode(raw: bytes) -> str:
    """Return a text of UTF-8, or of UTF-16 where a byte order mark says so; the mark is not part of it."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    return raw.removeprefix(codecs.BOM_UTF8).decode(errors="replace")


def json_of(path: Path) -> Any:
    """Read a file as JSON.

    Raises:
        FileNotFoundError: it is not there.
        StagingError: it is not JSON, or too long or too deep.
    """
    try:
        return json.loads(content(path))
    except ValueError as error:
        raise StagingError("compile", f"{path.name} is not JSON ({error})", MEND) from error
    except RecursionError as error:
        raise StagingError("compile", f"{path.name} is nested too deep", MEND) from error

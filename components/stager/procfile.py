"""The owner's start command: given at push, or in a line `web: COMMAND` of the application's `Procfile`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.stager.reading import text

_MOST_BYTES = 64 * 1024
_LINE = re.compile(r"^web[ \t]*:[ \t]*(\S.*?)\s*$", re.MULTILINE)


def web_command(source: Path) -> str | None:
    """Return the command of the line `web:`; None where there is no such line or no such file."""
    try:
        match = _LINE.search(text(source / "Procfile", "detect", _MOST_BYTES))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    return match.group(1) if match else None


def given_command(meta: Mapping[str, Any]) -> str | None:
    """Return the command that was given at push; None where there is none."""
    given = meta.get("command")
    return given.strip() if isinstance(given, str) and given.strip() else None


def own_command(source: Path, meta: Mapping[str, Any]) -> str | None:
    """Return the command that replaces the framework's: the one given at push, else the Procfile's."""
    return given_command(meta) or web_command(source)

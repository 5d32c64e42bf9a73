"""A `Procfile`: a line `web: COMMAND` says how an application is started."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"^web:[ \t]*(\S.*?)\s*$", re.MULTILINE)


def web_command(source: Path) -> str | None:
    """Read the command of the line `web:`; None where there is no such line or no such file."""
    try:
        text = (source / "Procfile").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, IsADirectoryError):
        return None
    found = _LINE.search(text)
    return found.group(1) if found else None

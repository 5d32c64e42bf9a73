"""The end of a machine's console, readable: without colours and control characters."""

from __future__ import annotations

import re
from pathlib import Path

_CONTROL = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])|[\x00-\x08\x0b-\x1f\x7f]")
_READ = 16384


def plain(text: str) -> str:
    """Return the text without escape sequences, control characters and empty lines."""
    lines = (_CONTROL.sub("", line.replace("\r", "")).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a console log; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _READ))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(plain(text).splitlines()[-lines:])

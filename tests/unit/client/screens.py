"""Consoles that tests write to."""

from __future__ import annotations

import io

from rich.console import Console


def screen(width: int, *, terminal: bool) -> Console:
    """Return a console that writes to memory, without colours."""
    return Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False
    )

"""The output of the commands: tables for people, JSON for programs, progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from orchestrator.lab import wire

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(as_json: bool, data: Any, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table, or the data itself as JSON."""
    if as_json:
        print_json(data)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def print_json(data: Any) -> None:
    """Print data, also shapes of the wire, as JSON."""
    click.echo(json.dumps(msgspec.to_builtins(data), indent=2))


def machines_table(lab: wire.LabView) -> None:
    """Print a lab's machines and its relayed port."""
    rows = [_machine_row(found) for found in lab.machines]
    show(False, None, ["machine", "address", "state", "pid", "image", "groups"], rows)
    out.print(
        f"lab {lab.name}: {lab.subnet}, http://127.0.0.1:{lab.port} -> {', '.join(lab.routers) or 'no router'}"
    )


def _machine_row(found: wire.MachineView) -> list[str]:
    state = f"{found.state}, cut" if found.cut else found.state
    return [found.name, found.address, state, str(found.pid or ""), found.image, " ".join(found.groups)]


def show_machine(as_json: bool, found: wire.MachineView) -> None:
    """Print one machine."""
    show(as_json, found, ["machine", "address", "state", "pid", "image", "groups"], [_machine_row(found)])


def reporter(show: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that shows progress: in place on a terminal, a line per step elsewhere."""
    last = ""

    def report(step: str) -> None:
        nonlocal last
        if err.is_terminal:
            show(step)
        elif (words := step.rpartition(" (")[0] or step) != last:
            last = words
            err.print(words, markup=False)

    return report

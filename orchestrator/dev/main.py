"""`ingot-lab dev up|down|status`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.common.errors import IngotError
from orchestrator.dev.errors import DevError
from orchestrator.dev.harness import ROOT, Platform, wait_for_signal
from orchestrator.dev.settings import DEFAULT_PORT, Settings

_state = click.option(
    "--state",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "build" / "dev",
    help="Folder of the platform; by default build/dev of the checkout.",
)


@click.group()
def dev() -> None:
    """Run the platform as plain processes on loopback, with neither root nor machines."""


@dev.command()
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--deas", type=click.IntRange(1, 9), default=2, show_default=True)
@click.option(
    "--database-url",
    envvar="INGOT_DATABASE_URL",
    default="",
    help="postgresql+psycopg://…; by default SQLite in the folder.",
)
@click.option("--detach", is_flag=True, help="Return when it runs; `down` ends it.")
@_state
def up(port: int, deas: int, database_url: str, folder: Path, *, detach: bool) -> None:
    """Start everything, wait until it serves, and watch over it until Ctrl-C."""
    platform = Platform(Settings(folder.resolve(), port, deas, database_url), say)
    platform.up(watched=not detach)
    show(platform)
    if detach:
        say("it runs by itself; end it with: ingot-lab dev down")
        return
    say("Ctrl-C ends it")
    try:
        wait_for_signal(platform, say)
    finally:
        platform.down()


@dev.command()
@_state
def down(folder: Path) -> None:
    """End everything, applications included; the data stay for the next `up`."""
    platform = Platform.attach(folder.resolve(), say)
    if platform is None:
        say("nothing runs")
        return
    platform.down()
    say("everything has ended")


@dev.command()
@_state
def status(folder: Path) -> None:
    """Show every process; exit status 1 where one is not ready, 3 where nothing runs."""
    platform = Platform.attach(folder.resolve(), say)
    if platform is None:
        say("nothing runs; start it with: ingot-lab dev up")
        sys.exit(3)
    sys.exit(0 if show(platform) else 1)


def show(platform: Platform) -> bool:
    """Print the table and the ways to log in; return whether everything is ready."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("process", "pid", "address", "state", "log"):
        table.add_column(column, overflow="fold")
    rows = platform.rows()
    for row in rows:
        said = "ready" if row.ready else row.reasons or "not ready"
        table.add_row(
            row.name, str(row.pid), row.address, Text(said), str(_short(platform.log_path(row.name)))
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    password = _short(platform.settings.state / "admin_password")
    console.print(
        f"API: {platform.api_url}/   applications: http://NAME.{platform.settings.domain}:{platform.port}/"
    )
    console.print(
        f"next: ingot target {platform.api_url} && ingot login {platform.settings.admin_email} "
        f"--password-stdin < {password}"
    )
    return all(row.ready for row in rows)


def say(line: str) -> None:
    """Print a line, now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> None:
    """Run the command; errors of Ingot end in one line and status 1."""
    try:
        dev(prog_name="ingot-lab dev")
    except IngotError as error:
        prefix = "" if isinstance(error, DevError) else f"{type(error).__name__}: "
        sys.stderr.write(f"ingot-lab dev: {prefix}{error}\n")
        raise SystemExit(1) from error

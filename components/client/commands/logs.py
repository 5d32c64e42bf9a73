"""What applications wrote: logs, crashlogs, files."""

from __future__ import annotations

import contextlib

import click

from components.client import output
from components.client.api import Api
from components.client.errors import ApiError, ClientError
from components.client.session import Session, instance_option, json_option, pass_session

_KNOWN = ("stdout.log", "stderr.log")


@click.command()
@click.argument("name")
@instance_option
@click.option("--all", "everyone", is_flag=True, help="The logs of every instance.")
@click.option("-n", "--lines", type=click.IntRange(min=1), help="Only the last lines of each log.")
@json_option
@pass_session
def logs(
    session: Session, *, name: str, instance: str, everyone: bool, lines: int | None, as_json: bool
) -> None:
    """Show the logs of an instance, or of all of them."""
    with session.api() as api:
        chosen = [instance]
        if everyone:
            chosen = [str(item.get("index")) for item in api.instances(name)]
            if not chosen:
                raise ClientError(f"{name} has no instances", f"start it first: `ingot start {name}`")
        found = {index: _read(api, name, index) for index in chosen}
    _show(found, lines, as_json)


@click.command()
@click.argument("name")
@click.option("-i", "--instance", help="Id of the instance, as `ingot crashes` lists it; else the latest.")
@click.option("-n", "--lines", type=click.IntRange(min=1), help="Only the last lines of each log.")
@json_option
@pass_session
def crashlogs(session: Session, name: str, instance: str | None, lines: int | None, as_json: bool) -> None:
    """Show the logs of a crashed instance."""
    with session.api() as api:
        if instance is None:
            crashed = sorted(api.crashes(name), key=lambda item: int(item.get("since") or 0))
            if not crashed:
                raise ClientError(
                    f"no instance of {name} has crashed lately", f"`ingot logs {name}` shows the others"
                )
            instance = str(crashed[-1].get("instance"))
        found = {instance: _read(api, name, instance)}
    _show(found, lines, as_json)


@click.command()
@click.argument("name")
@click.argument("path", default="/")
@instance_option
@pass_session
def files(session: Session, name: str, path: str, instance: str) -> None:
    """Show a file of an instance, or list a folder of it."""
    with session.api() as api:
        text = api.file(name, instance, path)
    click.echo(text, nl=bool(text) and not text.endswith("\n"))


def _read(api: Api, name: str, instance: str) -> dict[str, str]:
    """Return log name → text for one instance.

    Raises:
        ApiError: there is no such instance, or none of its logs can be had.
    """
    listing = api.file(name, instance, "logs")
    # One name a line, first word (section 4.9); a folder's name ends with a slash.
    names = [row.split()[0] for row in listing.splitlines() if row.strip()]
    found = {}
    for log in [item for item in names if not item.endswith("/")] or _KNOWN:
        # A log may vanish between the listing and its reading.
        with contextlib.suppress(ApiError):
            found[log] = api.file(name, instance, f"logs/{log}")
    return found


def _show(found: dict[str, dict[str, str]], lines: int | None, as_json: bool) -> None:
    if lines:
        found = {
            index: {log: "".join(text.splitlines(keepends=True)[-lines:]) for log, text in logs.items()}
            for index, logs in found.items()
        }
    if as_json:
        output.data(found)
        return
    written = [(index, log, text) for index, logs in found.items() for log, text in logs.items() if text]
    if not written:
        output.line("nothing was logged yet")
    for index, log, text in written:
        output.line(f"==> {log} of instance {index}", style="bold")
        click.echo(text, nl=not text.endswith("\n"))

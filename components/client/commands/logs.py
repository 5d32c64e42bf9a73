"""Commands that show the output and the files of applications: logs, crashlogs, files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import click

from components.client import output
from components.client.api import Api
from components.client.api_v2 import missing
from components.client.errors import ApiError, ClientError
from components.client.follow.logs import LogPager, LogScreen, rows
from components.client.session import Session, app_argument, instance_option, json_option, pass_session

_KNOWN = ("stdout.log", "stderr.log")
_TAIL = 100


@click.command()
@app_argument
@click.option(
    "-n",
    "--tail",
    "--lines",
    type=click.IntRange(0, 1000),
    default=_TAIL,
    show_default=True,
    help="Number of last lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@click.option("-i", "--instance", type=click.IntRange(min=0), help="Only the instance of this index.")
@click.option("-t", "--times", is_flag=True, help="Show when each line was written.")
@click.option(
    "--task", "task", metavar="ID", help="Output of the task with this id (`ingot tasks` lists them)."
)
@json_option
@pass_session
def logs(
    session: Session,
    *,
    name: str,
    tail: int,
    follow: bool,
    instance: int | None,
    times: bool,
    task: str | None,
    as_json: bool,
) -> None:
    """Show the output of an application's instances: `[0] …`, and `[0!] …` for their standard error.

    Lines that were lost before they could be read are counted: `… 12 lines missed (instance 1)`. With --follow, --json
    prints one object a line.
    """
    with session.api() as api:
        ask = partial(api.task_logs, name, task) if task else partial(api.logs, name, instance=instance)
        reader = LogPager(ask, say=lambda text: click.echo(f"ingot: {text}", err=True))
        try:
            _show_pages(reader.pages(tail, follow=follow), follow=follow, as_json=as_json, times=times)
        except ApiError as error:
            if not missing(error) or task:
                raise
            if follow:
                raise ClientError(
                    "this platform cannot follow logs: it is older than this client",
                    f"`ingot logs {name}` shows what was written so far",
                ) from error
            _show({str(instance or 0): _read(api, name, str(instance or 0))}, tail, as_json)
        except KeyboardInterrupt:
            # Ctrl-C is the normal end of following, not a failure.
            click.echo("", err=True)


def _show_pages(pages: Iterable[Mapping[str, Any]], *, follow: bool, as_json: bool, times: bool) -> None:
    screen, empty = LogScreen(times), True
    for page in pages:
        if as_json and not follow:
            output.data(page)
        elif as_json:
            for row in rows(page):
                click.echo(json.dumps(row, sort_keys=True))
        else:
            screen.show(page)
        empty = empty and not page["lines"]
        if empty and not as_json and not follow:
            output.line("nothing was logged yet")


@click.command()
@app_argument
@click.option(
    "-i", "--instance", help="Id of the instance, as `ingot crashes` lists it; by default the latest."
)
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
@app_argument
@click.argument("path", default="/")
@instance_option
@json_option
@pass_session
def files(session: Session, *, name: str, path: str, instance: str, as_json: bool) -> None:
    """Show a file of an instance, or list a folder."""
    with session.api() as api:
        text = api.file(name, instance, path)
    if as_json:
        output.data({"name": name, "instance": instance, "path": path, "text": text})
        return
    click.echo(text, nl=bool(text) and not text.endswith("\n"))


def _read(api: Api, name: str, instance: str) -> dict[str, str]:
    """Return log name → text for one instance.

    Raises:
        ApiError: there is no such instance, or none of its logs can be had.
    """
    listing = api.file(name, instance, "logs")
    # One name a line, first word (protocol 4.9); a folder's name ends with a slash.
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

"""One-off commands in an application's sandbox: run, tasks, stop-task."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from components.client import output
from components.client.api_v2 import Record
from components.client.commands.jobs import ago
from components.client.commands.push import memory_value
from components.client.errors import ClientError
from components.client.follow.logs import ENDED, LogPager, rows, words
from components.client.session import Session, app_argument, json_option, pass_session
from components.client.units import format_seconds

_PERIOD = 0.5
# A controller returns at most so many earlier lines at once.
_WHOLE = 1000


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-d", "--detach", is_flag=True, help="Return when it is accepted; do not wait for it.")
@click.option(
    "--memory",
    callback=memory_value,
    metavar="SIZE",
    help="Memory, as 128M or 1G; by default the application's.",
)
@click.option(
    "--timeout", type=click.IntRange(min=1), metavar="SECONDS", help="Stop the command after this time."
)
@json_option
@app_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_session
def run(
    session: Session,
    *,
    name: str,
    command: tuple[str, ...],
    detach: bool,
    memory: int | None,
    timeout: int | None,
    as_json: bool,
) -> None:
    """Run a command once, with an application's files, environment and services: `ingot run NAME -- COMMAND`.

    Shows its output and ends with its exit status. Options stand before NAME.
    """
    # Several words are arguments; a single one is a line for the shell there, as the user wrote it.
    words_given = command[1:] if command[0] == "--" else command
    if not words_given:
        raise click.UsageError("name a command: `ingot run NAME -- COMMAND`")
    line = words_given[0] if len(words_given) == 1 else shlex.join(words_given)
    wish = {"command": line} | ({} if memory is None else {"memory": memory})
    with session.api() as api:
        task = api.begin_task(name, wish | ({} if timeout is None else {"timeout": timeout}))
        number = str(task.get("id"))
        if detach:
            output.result(
                task,
                f"task {number} has started; `ingot logs {name} --task {number} --follow`",
                as_json=as_json,
            )
            return
        written: list[Mapping[str, Any]] = []
        reader, asker = (LogPager(partial(ask, name, number), say=_say) for ask in (api.task_logs, api.task))
        try:
            for page in reader.pages(_WHOLE, follow=True):
                written += page["lines"]
                _echo(page, error=as_json)
            while (task := asker.once()).get("state") not in ENDED:
                time.sleep(_PERIOD)
        except KeyboardInterrupt as error:
            raise ClientError(
                f"task {number} goes on without you",
                f"end it: `ingot stop-task {name} {number}`, or follow it: `ingot logs {name} --task {number} --follow`",
            ) from error
    if as_json:
        output.data({**task, "lines": written})
    _leave(name, task)


def _say(text: str) -> None:
    click.echo(f"ingot: {text}", err=True)


def _echo(page: Mapping[str, Any], *, error: bool) -> None:
    """Print a page on the stream that the command wrote to, so that a pipe gets its output alone."""
    for row in rows(page):
        click.echo(words(row), err=error or row.get("stream") == "stderr" or "count" in row)
    sys.stdout.flush()


def _leave(name: str, task: Record) -> None:
    """Exit with the task's result."""
    if task.get("state") == "succeeded":
        return
    status = task.get("exit_status")
    reason = str(task.get("detail") or "")
    if not isinstance(status, int) or isinstance(status, bool) or status == 0:
        raise ClientError(
            f"task {task.get('id')} failed: {reason or 'no reason given'}", f"`ingot tasks {name}` lists them"
        )
    if reason:
        click.echo(f"ingot: {reason}", err=True)
    raise click.exceptions.Exit(status if 0 < status < 256 else 1)


@click.command()
@app_argument
@json_option
@pass_session
def tasks(session: Session, name: str, as_json: bool) -> None:
    """List an application's tasks, newest first."""
    with session.api() as api:
        found = api.tasks(name)
    if as_json:
        output.data(found)
        return
    output.table(
        ("ID", "STATE", "#EXIT", "#CREATED", "#TOOK", "BY", "COMMAND", "DETAIL"),
        (
            (
                task.get("id"),
                task.get("state"),
                task.get("exit_status"),
                ago(task.get("created")),
                _took(task),
                task.get("by"),
                task.get("command"),
                task.get("detail") or None,
            )
            for task in found
        ),
        f"no tasks; next: `ingot run {name} -- COMMAND`",
    )


def _took(task: Record) -> str | None:
    started, ended = task.get("started"), task.get("ended")
    if started is None:
        return None
    return format_seconds(max(0.0, (time.time() if ended is None else float(ended)) - float(started)))


@click.command("stop-task")
@app_argument
@click.argument("task", metavar="ID")
@json_option
@pass_session
def stop_task(session: Session, name: str, task: str, as_json: bool) -> None:
    """Stop a task that runs."""
    with session.api() as api:
        ended = api.stop_task(name, task)
    output.result(ended, f"task {task} is stopped", as_json=as_json)


COMMANDS: tuple[click.Command, ...] = (run, tasks, stop_task)

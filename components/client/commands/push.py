"""Commands that send an application's files to the platform: push, update."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from components.client import manifest, output
from components.client.completion import AppName, forget
from components.client.dry_run import report as dry_run_report
from components.client.dry_run import show
from components.client.errors import PackageError
from components.client.lifecycle import AppLifecycle
from components.client.manifest import Settings
from components.client.progress import Progress
from components.client.pusher import Outcome, Pusher
from components.client.session import (
    F,
    Session,
    app_argument,
    json_option,
    pass_session,
    timeout_option,
)
from components.client.units import parse_memory

_NAME = re.compile(r"[\w-]+", re.ASCII)


def memory_value(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Read a memory option (a click callback)."""
    if text is None:
        return None
    try:
        return parse_memory(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def environment_value(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    """Read `K=V` texts (a click callback)."""
    wrong = [text for text in texts if not text.partition("=")[0] or "=" not in text]
    if wrong:
        raise click.BadParameter(f"{', '.join(wrong)}: must be NAME=VALUE")
    pairs = {name: value for name, _, value in (text.partition("=") for text in texts)}
    for name, value in pairs.items():
        if problem := manifest.variable_problem(name):
            raise click.BadParameter(f"{name}: {problem}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise click.BadParameter(f"{name}: its value is no text in UTF-8") from error
    return pairs


def hard_option(function: F) -> F:
    """Add `--hard`."""
    return click.option(
        "--hard",
        "--stop-start",
        "hard",
        is_flag=True,
        help="Stop the running version, then start the new one: with a pause, and without room for both.",
    )(function)


@click.command()
@click.argument("name", required=False, type=AppName())
@click.option(
    "--path",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The application's folder; by default the manifest's, or the current one.",
)
@click.option("--framework", help="Kind of application; by default detected from its files.")
@click.option("--runtime", help="Interpreter; by default the framework's.")
@click.option("--command", help="Start command; by default the framework's.")
@click.option(
    "--memory", callback=memory_value, metavar="SIZE", help="Memory of each instance, as 128M or 1G."
)
@click.option("--instances", type=click.IntRange(min=1), help="Number of instances.")
@click.option("--url", "urls", multiple=True, metavar="HOST", help="Host of a route to it; may be repeated.")
@click.option(
    "--env",
    "env",
    multiple=True,
    callback=environment_value,
    metavar="NAME=VALUE",
    help="A variable of its environment; may be repeated.",
)
@click.option(
    "--health-path",
    metavar="PATH",
    help="Path that answers when an instance is up; by default its port is checked.",
)
@click.option("--health-timeout", type=int, metavar="SECONDS", help="Time in which an instance must be up.")
@click.option(
    "--all", "everything", is_flag=True, help="Push every application of the manifest, in its order."
)
@click.option("--no-start", is_flag=True, help="Upload only.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="List what would be sent, what is ignored and refused, and why; send nothing.",
)
@hard_option
@timeout_option
@json_option
@pass_session
def push(
    session: Session,
    *,
    name: str | None,
    folder: Path | None,
    framework: str | None,
    runtime: str | None,
    command: str | None,
    memory: int | None,
    instances: int | None,
    urls: tuple[str, ...],
    env: dict[str, str],
    health_path: str | None,
    health_timeout: int | None,
    everything: bool,
    no_start: bool,
    dry_run: bool,
    hard: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Push a folder as an application, or its new version, and wait until it runs.

    A running application is replaced instance by instance, without a pause; if the new version does not run, the one before
    stays in its place. Further settings come from ingot.yml or manifest.yml in the folder. Files named in .ingotignore (or
    .cfignore) stay behind. A first push that fails leaves the application stopped.
    """
    where = folder or Path()
    try:
        checked = manifest.health(health_path, health_timeout) if health_path or health_timeout else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    said = Settings(
        name=name,
        framework=framework,
        runtime=runtime,
        command=command,
        memory=memory,
        instances=instances,
        urls=[bare_host(url) for url in urls] or None,
        env=env,
        health=checked,
    )
    path = manifest.find(where)
    if everything:
        if name or urls:
            raise click.UsageError("--all pushes each under its own name and URLs")
        if path is None:
            raise PackageError(f"{where} has no manifest", "`ingot push NAME` pushes without one")
        wanted = [said.over(one) for one in manifest.load_all(path)]
    else:
        wanted = [said if path is None else said.over(manifest.load(path, name))]
    jobs = [(one, *_place(one, where)) for one in wanted]
    if dry_run:
        _dry_run(jobs, everything=everything, as_json=as_json)
        return
    done = []
    with session.api() as api:
        session.user(api)
        for one, called, source in jobs:
            progress = Progress()
            if everything:
                progress.note(f"== {called}")
            life = AppLifecycle(api, called, progress, timeout, stop_on_failure=True)
            outcome = Pusher(life, source, one).push(start=not no_start, hard=hard)
            done.append(document(called, outcome, progress))
            if not as_json:
                tell(called, outcome, progress)
        forget(session.config)
    if as_json:
        output.data(done if everything else done[0])


@click.command()
@app_argument
@click.option(
    "--path",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The application's folder; by default the manifest's, or the current one.",
)
@hard_option
@timeout_option
@json_option
@pass_session
def update(
    session: Session, *, name: str, folder: Path | None, hard: bool, timeout: float, as_json: bool
) -> None:
    """Send an application's changed files and replace its instances one by one, without a pause.

    Settings stay as they are (`ingot push` brings new ones). If the new version does not run, the one before stays in its
    place, and the exit status is 1. A stopped application stays stopped.
    """
    where = folder or Path()
    path = manifest.find(where)
    source = (manifest.load(path, name).path if path else None) or where
    progress = Progress()
    with session.api() as api:
        session.user(api)
        life = AppLifecycle(api, name, progress, timeout)
        outcome = Pusher(life, source, Settings(name=name)).push(hard=hard, known=True)
    if as_json:
        output.data(document(name, outcome, progress))
    else:
        tell(name, outcome, progress)


def _dry_run(jobs: Sequence[tuple[Settings, str, Path]], *, everything: bool, as_json: bool) -> None:
    """Show what a push would send; exit with 1 where something is refused."""
    reports = [dry_run_report(called, source) for _one, called, source in jobs]
    if as_json:
        output.data(reports if everything else reports[0])
    else:
        for found in reports:
            show(found)
    if any(found["refused"] for found in reports):
        raise SystemExit(1)


def document(name: str, outcome: Outcome, progress: Progress) -> dict[str, Any]:
    """Return the result of a push, for programs."""
    return {
        "name": name,
        "url": outcome.url,
        "how": outcome.how,
        "state": outcome.app.get("state"),
        "instances": outcome.app.get("instances"),
        "stages": progress.stages(),
        "total_seconds": progress.total(),
    }


def tell(name: str, outcome: Outcome, progress: Progress) -> None:
    """Print the result of a push: the URL and the time taken."""
    if outcome.how == "uploaded":
        what = f"is uploaded; next: `ingot {'restart' if outcome.app.get('state') == 'STARTED' else 'start'} {name}`"
    else:
        what = "is running" + (f" at {outcome.url}" if outcome.url else "")
    output.line(f"{name} {what}")
    output.line(f"took {progress.summary()}")


def bare_host(url: str) -> str:
    """Return the host of a URL that a user gave: lower case, no scheme, no path, no port."""
    text = url.strip().lower().removeprefix("http://").removeprefix("https://")
    return text.partition("/")[0].partition(":")[0]


def _place(said: Settings, where: Path) -> tuple[str, Path]:
    """Return an application's name and folder.

    Raises:
        ClientError: it cannot have that name, or has no folder.
    """
    source = said.path or where
    if not source.is_dir():
        raise PackageError(f"{source} is not a folder", "correct `path` in the manifest")
    called = said.name or source.resolve().name
    if not _NAME.fullmatch(called):
        raise click.UsageError(
            f"{called!r} cannot be a name; give one of letters, digits and hyphens: `ingot push NAME`"
        )
    return called, source

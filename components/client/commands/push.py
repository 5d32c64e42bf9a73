"""`ingot push`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from components.client import manifest, output
from components.client.errors import PackageError
from components.client.lifecycle import START_TIMEOUT, Lifecycle
from components.client.manifest import Settings
from components.client.progress import Progress
from components.client.pusher import Pusher
from components.client.session import Session, json_option, pass_session
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
        raise click.BadParameter(f"{', '.join(wrong)}: want NAME=VALUE")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


@click.command()
@click.argument("name", required=False)
@click.option(
    "--path",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The application's folder; else the current one, or the manifest's.",
)
@click.option("--framework", help="What it is; else its files tell.")
@click.option("--runtime", help="What it runs on; else the framework's default.")
@click.option("--command", help="How it is started; else the framework knows.")
@click.option("--memory", callback=memory_value, metavar="SIZE", help="For each instance, as 128M or 1G.")
@click.option("--instances", type=click.IntRange(min=1), help="How many.")
@click.option("--url", "urls", multiple=True, metavar="HOST", help="Host it is reached by; may be repeated.")
@click.option(
    "--env",
    "env",
    multiple=True,
    callback=environment_value,
    metavar="NAME=VALUE",
    help="A variable of its environment; may be repeated.",
)
@click.option("--no-start", is_flag=True, help="Upload only.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=START_TIMEOUT,
    show_default=True,
    help="Seconds until all instances must run, staging not counted.",
)
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
    no_start: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Push a folder as an application, or its new version, and wait until it runs.

    What no option says comes from ingot.yml or manifest.yml in the folder. Files named in .ingotignore stay behind. A
    push that fails leaves the application stopped.
    """
    where = folder or Path()
    said = Settings(
        name=name,
        framework=framework,
        runtime=runtime,
        command=command,
        memory=memory,
        instances=instances,
        urls=[_host(url) for url in urls] or None,
        env=env,
    )
    path = manifest.find(where)
    if path is not None:
        said = said.over(manifest.load(path, name))
    source = said.path or where
    if not source.is_dir():
        raise PackageError(f"{source} is not a folder", "correct `path` in the manifest")
    called = said.name or source.resolve().name
    if not _NAME.fullmatch(called):
        raise click.UsageError(
            f"{called!r} cannot be a name: want letters, digits, hyphens: `ingot push NAME`"
        )
    progress = Progress()
    with session.api() as api:
        session.user(api)
        life = Lifecycle(api, called, progress, timeout, stop_on_failure=True)
        outcome = Pusher(life, source, said).push(start=not no_start)
    if as_json:
        output.data(
            {
                "name": called,
                "url": outcome.url,
                "state": outcome.app.get("state"),
                "instances": outcome.app.get("instances"),
                "stages": [{"name": key, "seconds": value} for key, value in progress.seconds.items()],
                "total_seconds": progress.total(),
            }
        )
        return
    what = f"is uploaded; next: `ingot start {called}`" if no_start else "is running"
    output.line(f"{called} {what}{f' at {outcome.url}' if outcome.url and not no_start else ''}")
    output.line(f"took {progress.summary()}")


def _host(url: str) -> str:
    """Return the host of what a user gave as a URL."""
    return url.strip().removeprefix("http://").removeprefix("https://").rstrip("/").lower()

"""What changes an application: start, stop, restart, scale, env, map, unmap, delete."""

from __future__ import annotations

import click

from components.client import output
from components.client.commands.push import environment_value, memory_value
from components.client.errors import ClientError
from components.client.lifecycle import START_TIMEOUT, Lifecycle
from components.client.progress import Progress
from components.client.pusher import app_url, merge_environment
from components.client.session import F, Session, interactive, json_option, pass_session
from components.client.units import format_memory, parse_count


def _timeout_option(function: F) -> F:
    return click.option(
        "--timeout",
        type=click.FloatRange(min=1),
        default=START_TIMEOUT,
        show_default=True,
        help="Seconds until all instances must run.",
    )(function)


@click.command()
@click.argument("name")
@_timeout_option
@pass_session
def start(session: Session, name: str, timeout: float) -> None:
    """Start an application and wait until it runs."""
    progress = Progress()
    with session.api() as api:
        Lifecycle(api, name, progress, timeout).start()
    output.line(f"{name} is running; took {progress.summary()}")


@click.command()
@click.argument("name")
@pass_session
def stop(session: Session, name: str) -> None:
    """Stop an application."""
    with session.api() as api:
        Lifecycle(api, name, Progress()).stop()
    output.line(f"{name} is stopped")


@click.command()
@click.argument("name")
@_timeout_option
@pass_session
def restart(session: Session, name: str, timeout: float) -> None:
    """Stop an application and start it again."""
    progress = Progress()
    with session.api() as api:
        Lifecycle(api, name, progress, timeout).restart()
    output.line(f"{name} is running; took {progress.summary()}")


@click.command()
@click.argument("name")
@click.option("--instances", metavar="N|+N|-N", help="How many, or how many more or fewer.")
@click.option("--memory", callback=memory_value, metavar="SIZE", help="For each instance, as 128M or 1G.")
@_timeout_option
@pass_session
def scale(session: Session, name: str, instances: str | None, memory: int | None, timeout: float) -> None:
    """Change how many instances an application has, or their memory, and wait until they run.

    New memory means a restart.
    """
    if instances is None and memory is None:
        raise click.UsageError("say what: --instances N, or --memory SIZE")
    progress = Progress()
    with session.api() as api:
        life = Lifecycle(api, name, progress, timeout)
        app = api.app(name)
        changes: dict[str, object] = {}
        wanted = int(app.get("instances") or 1)
        if instances is not None:
            try:
                wanted = parse_count(instances, wanted)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="--instances") from error
            changes["instances"] = wanted
        resources = app.get("resources") or {}
        heavier = memory is not None and memory != resources.get("memory")
        if heavier:
            changes["resources"] = {**resources, "memory": memory}
        life.change(**changes)
        if app.get("state") != "STARTED":
            output.line(f"{name} is stopped; it will have this when it is started: `ingot start {name}`")
            return
        if heavier:
            life.restart()
        else:
            with progress.stage("starting"):
                life.wait(wanted)
        final = api.app(name)
    size = format_memory((final.get("resources") or {}).get("memory", 0))
    output.line(f"{name} runs in {wanted} instances of {size}; took {progress.summary()}")


@click.command()
@click.argument("name")
@click.argument("settings", nargs=-1, metavar="[NAME=VALUE]...", callback=environment_value)
@click.option("--unset", multiple=True, metavar="NAME", help="Remove a variable; may be repeated.")
@click.option("--no-restart", is_flag=True, help="Leave what runs as it is; the next start sees the change.")
@_timeout_option
@json_option
@pass_session
def env(
    session: Session,
    *,
    name: str,
    settings: dict[str, str],
    unset: tuple[str, ...],
    no_restart: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Show an application's environment, or change it and restart the application."""
    progress = Progress()
    with session.api() as api:
        life = Lifecycle(api, name, progress, timeout)
        app = api.app(name)
        if settings or unset:
            removed: dict[str, str | None] = dict.fromkeys(unset)
            life.change(env=merge_environment(app.get("env") or [], {**removed, **settings}))
            if app.get("state") == "STARTED" and not no_restart:
                life.restart()
            app = api.app(name)
    pairs = dict(text.partition("=")[::2] for text in app.get("env") or [])
    if as_json:
        output.data(pairs)
        return
    output.table(("NAME", "VALUE"), sorted(pairs.items()), f"{name} has no variables of its own")


@click.command("map")
@click.argument("name")
@click.argument("host")
@pass_session
def map_url(session: Session, name: str, host: str) -> None:
    """Have an application answer to one more host."""
    host = _bare(host)
    with session.api() as api:
        uris = list(api.app(name).get("uris") or [])
        if host not in uris:
            Lifecycle(api, name, Progress()).change(uris=[*uris, host])
    output.line(f"{name} answers at {app_url(host, api.target)}")


@click.command("unmap")
@click.argument("name")
@click.argument("host")
@pass_session
def unmap_url(session: Session, name: str, host: str) -> None:
    """Have an application answer to a host no more."""
    host = _bare(host)
    with session.api() as api:
        uris = list(api.app(name).get("uris") or [])
        if host not in uris:
            raise ClientError(
                f"{name} does not answer at {host}", f"it answers at: {' '.join(uris) or 'nothing'}"
            )
        Lifecycle(api, name, Progress()).change(uris=[uri for uri in uris if uri != host])
    output.line(f"{name} no longer answers at {host}")


@click.command()
@click.argument("name")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, name: str, force: bool) -> None:
    """Delete an application: its instances, its files, its routes."""
    with session.api() as api:
        api.app(name)
        if not force:
            if not interactive():
                raise click.UsageError("nobody can be asked here: add --force")
            click.confirm(f"Delete {name} for good?", abort=True, err=True)
        api.delete(name)
    output.line(f"{name} is deleted")


def _bare(url: str) -> str:
    return url.strip().removeprefix("http://").removeprefix("https://").rstrip("/").partition(":")[0].lower()

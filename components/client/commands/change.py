"""Commands that change an application: start, stop, restart, scale, env, map, unmap, delete."""

from __future__ import annotations

import click

from components.client import output
from components.client.commands.push import bare_host, environment_value, memory_value
from components.client.completion import forget
from components.client.errors import ClientError
from components.client.follow.update import Updater
from components.client.lifecycle import AppLifecycle
from components.client.progress import Progress
from components.client.pusher import app_url, check_port, merge_environment
from components.client.session import (
    Session,
    app_argument,
    confirm,
    force_option,
    json_option,
    pass_session,
    timeout_option,
)
from components.client.units import format_memory, parse_count


def _ran(name: str, progress: Progress, *, as_json: bool) -> None:
    said = {"name": name, "state": "STARTED", "stages": progress.stages(), "total_seconds": progress.total()}
    output.result(said, f"{name} is running; took {progress.summary()}", as_json=as_json)


@click.command()
@app_argument
@timeout_option
@json_option
@pass_session
def start(session: Session, name: str, timeout: float, as_json: bool) -> None:
    """Start an application and wait until it runs."""
    progress = Progress()
    with session.api() as api:
        AppLifecycle(api, name, progress, timeout).start()
    _ran(name, progress, as_json=as_json)


@click.command()
@app_argument
@json_option
@pass_session
def stop(session: Session, name: str, as_json: bool) -> None:
    """Stop an application."""
    with session.api() as api:
        AppLifecycle(api, name, Progress()).stop()
    output.result({"name": name, "state": "STOPPED"}, f"{name} is stopped", as_json=as_json)


@click.command()
@app_argument
@click.option("--rolling", is_flag=True, help="Replace the instances one by one, without a pause.")
@timeout_option
@json_option
@pass_session
def restart(session: Session, *, name: str, rolling: bool, timeout: float, as_json: bool) -> None:
    """Stop an application and start it again."""
    progress = Progress()
    with session.api() as api:
        life = AppLifecycle(api, name, progress, timeout)
        if not rolling:
            life.restart()
        elif Updater(life).possible():
            Updater(life).run()
        else:
            raise ClientError(
                "this platform cannot replace instances one by one: it is older than this client",
                f"with a pause: `ingot restart {name}`",
            )
    _ran(name, progress, as_json=as_json)


@click.command()
@app_argument
@click.option("--instances", metavar="N|+N|-N", help="Number of instances, or a change of it.")
@click.option(
    "--memory", callback=memory_value, metavar="SIZE", help="Memory of each instance, as 128M or 1G."
)
@timeout_option
@json_option
@pass_session
def scale(
    session: Session, *, name: str, instances: str | None, memory: int | None, timeout: float, as_json: bool
) -> None:
    """Change how many instances an application has, or their memory, and wait until they run.

    New memory means a restart.
    """
    if instances is None and memory is None:
        raise click.UsageError("name a change: --instances N, or --memory SIZE")
    progress = Progress()
    with session.api() as api:
        life = AppLifecycle(api, name, progress, timeout)
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
        runs = app.get("state") == "STARTED"
        if runs and heavier:
            life.restart()
        elif runs:
            with progress.stage("starting"):
                life.wait(wanted)
        final = api.app(name)
    megabytes = int((final.get("resources") or {}).get("memory") or 0)
    said = {
        "name": name,
        "state": final.get("state"),
        "instances": wanted,
        "memory": megabytes,
        "total_seconds": progress.total(),
    }
    words = (
        f"{name} runs in {wanted} instances of {format_memory(megabytes)}; took {progress.summary()}"
        if runs
        else f"{name} is stopped; the change takes effect when it is started: `ingot start {name}`"
    )
    output.result(said, words, as_json=as_json)


@click.command()
@app_argument
@click.argument("settings", nargs=-1, metavar="[NAME=VALUE]...", callback=environment_value)
@click.option("--unset", multiple=True, metavar="NAME", help="Remove a variable; may be repeated.")
@click.option(
    "--no-restart",
    is_flag=True,
    help="Do not restart the application; the change takes effect at its next start.",
)
@timeout_option
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
    """Show an application's environment, or change it and restart the application.

    `ingot env NAME` lists, `ingot env NAME A=1 B=2` sets, `ingot env NAME --unset A` removes.
    """
    progress = Progress()
    with session.api() as api:
        life = AppLifecycle(api, name, progress, timeout)
        app = api.app(name)
        if settings or unset:
            check_port(settings, app.get("uris") or [])
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
@app_argument
@click.argument("host")
@json_option
@pass_session
def map_url(session: Session, name: str, host: str, as_json: bool) -> None:
    """Add a host to an application's routes."""
    host = bare_host(host)
    with session.api() as api:
        uris = list(api.app(name).get("uris") or [])
        if host not in uris:
            uris.append(host)
            AppLifecycle(api, name, Progress()).change(uris=uris)
        where = app_url(host, api.target)
    output.result({"name": name, "uris": uris}, f"{name} answers at {where}", as_json=as_json)


@click.command("unmap")
@app_argument
@click.argument("host")
@json_option
@pass_session
def unmap_url(session: Session, name: str, host: str, as_json: bool) -> None:
    """Remove a host from an application's routes."""
    host = bare_host(host)
    with session.api() as api:
        uris = list(api.app(name).get("uris") or [])
        if host not in uris:
            raise ClientError(
                f"{name} does not answer at {host}", f"it answers at: {' '.join(uris) or 'nothing'}"
            )
        uris.remove(host)
        AppLifecycle(api, name, Progress()).change(uris=uris)
    output.result({"name": name, "uris": uris}, f"{name} no longer answers at {host}", as_json=as_json)


@click.command()
@app_argument
@force_option
@json_option
@pass_session
def delete(session: Session, *, name: str, force: bool, as_json: bool) -> None:
    """Delete an application with its instances, files and routes."""
    with session.api() as api:
        api.app(name)
        confirm(f"Delete {name} for good?", force=force)
        api.delete(name)
    forget(session.config)
    output.result({"name": name, "deleted": True}, f"{name} is deleted", as_json=as_json)

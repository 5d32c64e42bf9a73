"""Commands that show applications: apps, app, stats, crashes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from components.client import output
from components.client.pusher import app_url
from components.client.session import Session, app_argument, json_option, pass_session
from components.client.units import format_bytes, format_memory, format_seconds

_WATCH_PERIOD = 2.0


def _running(app: Mapping[str, Any]) -> str:
    """Return `1/2`; `?/2` where the count is not known at the moment."""
    count = app.get("runningInstances")
    return f"{'?' if count is None else count}/{app.get('instances', 0)}"


def _memory(app: Mapping[str, Any]) -> str:
    return format_memory((app.get("resources") or {}).get("memory", 0))


@click.command()
@click.option("--all", "everybody", is_flag=True, help="Applications of all users (administrators only).")
@click.option("--owner", metavar="EMAIL", help="Applications of this user (administrators only).")
@json_option
@pass_session
def apps(session: Session, *, everybody: bool, owner: str | None, as_json: bool) -> None:
    """List your applications."""
    others = everybody or owner is not None
    with session.api() as api:
        found = api.all_apps(owner or "") if others else api.apps()
    if as_json:
        output.data(found)
        return
    output.table(
        (
            *(("OWNER",) if others else ()),
            *("NAME", "STATE", "#RUNNING", "#MEMORY", "FRAMEWORK", "URLS", "SERVICES"),
        ),
        (
            (
                *((app.get("owner"),) if others else ()),
                app.get("name"),
                app.get("state"),
                _running(app),
                _memory(app),
                (app.get("staging") or {}).get("model"),
                " ".join(app.get("uris") or []) or None,
                " ".join(app.get("services") or []) or None,
            )
            for app in sorted(found, key=lambda item: (str(item.get("owner") or ""), str(item.get("name"))))
        ),
        "no applications; next: `ingot push` in the folder of one",
    )


@click.command("app")
@app_argument
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show one application and its instances."""
    with session.api() as api:
        app = api.app(name)
        instances = api.instances(name)
        stats = api.stats(name) if instances else {}
    urls = [app_url(str(host), api.target) for host in app.get("uris") or []]
    if as_json:
        output.data({**app, "urls": urls, "instance_list": instances, "stats": stats})
        return
    staging = app.get("staging") or {}
    output.facts(
        (
            ("name", app.get("name")),
            ("state", app.get("state")),
            ("running", _running(app)),
            ("memory", f"{_memory(app)} for each instance"),
            ("framework", f"{staging.get('model')} on {staging.get('stack') or 'its default runtime'}"),
            ("command", (app.get("meta") or {}).get("command")),
            ("health", _health(app)),
            ("urls", " ".join(urls)),
            ("services", " ".join(app.get("services") or [])),
        )
    )
    if instances:
        output.line("")
        output.table(_COLUMNS, (_instance(item, stats) for item in instances), "")


def _health(app: Mapping[str, Any]) -> str | None:
    """Return in words how the platform knows that an instance is up, where the application says it."""
    health = (app.get("meta") or {}).get("health") or {}
    if not health:
        return None
    within = f" within {health['timeout']} s" if health.get("timeout") else ""
    return f"{health.get('path') or 'its port'} answers{within}"


_COLUMNS = ("#INSTANCE", "STATE", "#SINCE", "#CPU", "#MEMORY", "#DISK", "ADDRESS")


def _instance(item: Mapping[str, Any], stats: Mapping[str, Any]) -> tuple[object, ...]:
    index = item.get("index")
    since = item.get("since")
    ago = f"{format_seconds(max(0.0, time.time() - float(since)))} ago" if since else None
    return (index, item.get("state"), ago, *_usage((stats.get(str(index)) or {}).get("stats") or {}))


def _usage(stats: Mapping[str, Any]) -> tuple[object, ...]:
    usage = stats.get("usage") or {}
    address = f"{stats.get('host')}:{stats.get('port')}" if stats.get("host") else None
    if not usage:
        return (None, None, None, address)
    memory, disk = float(usage.get("mem") or 0) * 1024, float(usage.get("disk") or 0)
    return (
        f"{float(usage.get('cpu') or 0):.1f}%",
        _share(memory, stats.get("mem_quota")),
        _share(disk, stats.get("disk_quota")),
        address,
    )


def _share(used: float, quota: float | None) -> str:
    return f"{format_bytes(used)} of {format_bytes(quota)}" if quota else format_bytes(used)


@click.command()
@app_argument
@click.option("-w", "--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@json_option
@pass_session
def stats(session: Session, name: str, watch: bool, as_json: bool) -> None:
    """Show what each instance uses."""
    if watch and as_json:
        raise click.UsageError("--watch is for people: leave out --json")
    with session.api() as api:
        try:
            while True:
                found = api.stats(name)
                if as_json:
                    output.data(found)
                    return
                if watch:
                    click.clear()
                _stats(name, found)
                if not watch:
                    return
                time.sleep(_WATCH_PERIOD)
        except KeyboardInterrupt:
            # Ctrl-C is the normal end of watching, not a failure.
            click.echo("", err=True)


def _stats(name: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    output.table(
        ("#INSTANCE", "STATE", "#CPU", "#MEMORY", "#DISK", "ADDRESS"),
        (
            (index, item.get("state"), *_usage(item.get("stats") or {}))
            for index, item in sorted(found.items(), key=lambda pair: int(pair[0]))
        ),
        f"{name} does not run; next: `ingot start {name}`",
    )


@click.command()
@app_argument
@json_option
@pass_session
def crashes(session: Session, name: str, as_json: bool) -> None:
    """List an application's crashed instances; `ingot crashlogs` shows their logs."""
    with session.api() as api:
        found = api.crashes(name)
    if as_json:
        output.data(found)
        return
    output.table(
        ("INSTANCE", "CRASHED"),
        (
            (
                item.get("instance"),
                f"{format_seconds(max(0.0, time.time() - float(item.get('since') or 0)))} ago",
            )
            for item in sorted(found, key=lambda item: -int(item.get("since") or 0))
        ),
        f"no instance of {name} has crashed lately",
    )

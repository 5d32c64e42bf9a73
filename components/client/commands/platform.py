"""Commands that show the platform: info, runtimes, frameworks, machines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from components.client import output
from components.client.session import Session, json_option, pass_session
from components.client.units import format_memory, format_seconds


@click.command()
@json_option
@pass_session
def info(session: Session, as_json: bool) -> None:
    """Show the platform, the logged-in user, and the used part of the limits."""
    with session.anonymous() as api:
        found = api.info()
    if as_json:
        output.data(found)
        return
    limits, usage = found.get("limits") or {}, found.get("usage") or {}
    output.facts(
        (
            ("target", api.target),
            ("name", found.get("name")),
            ("description", found.get("description")),
            ("version", f"{found.get('version')} (build {found.get('build')})"),
            ("support", found.get("support")),
            ("user", found.get("user") or "not logged in"),
            ("memory", _of(usage, limits, "memory", format_memory)),
            ("applications", _of(usage, limits, "apps", str)),
            ("services", _of(usage, limits, "services", str)),
        )
    )


def _of(usage: Mapping[str, Any], limits: Mapping[str, Any], key: str, show: Any) -> str | None:
    return f"{show(usage.get(key, 0))} of {show(limits[key])}" if key in limits else None


@click.command()
@json_option
@pass_session
def runtimes(session: Session, as_json: bool) -> None:
    """List the interpreters applications can run on."""
    with session.anonymous() as api:
        found = api.runtimes()
    if as_json:
        output.data(found)
        return
    output.table(
        ("RUNTIME", "VERSION"), ((name, facts.get("version")) for name, facts in found.items()), "no runtimes"
    )


@click.command()
@json_option
@pass_session
def frameworks(session: Session, as_json: bool) -> None:
    """List the kinds of application the platform knows."""
    with session.api() as api:
        session.user(api)
        found: dict[str, Any] = api.info().get("frameworks") or {}
    if as_json:
        output.data(found)
        return
    output.table(
        ("FRAMEWORK", "RUNTIMES"),
        (
            (name, ", ".join(str(r.get("name")) for r in facts.get("runtimes") or []))
            for name, facts in found.items()
        ),
        "no frameworks",
    )


@click.command()
@json_option
@pass_session
def machines(session: Session, as_json: bool) -> None:
    """List the machines that carry the platform and the applications."""
    with session.api() as api:
        found = api.machines()
    if as_json:
        output.data(found)
        return
    now = time.time()
    output.table(
        ("ID", "KIND", "ADDRESS", "ZONE", "STATE", "#INSTANCES", "#MEMORY", "RELEASE", "#LAST SEEN"),
        (_machine(machine, now) for machine in found),
        "no machine has been heard of yet",
    )


def _machine(machine: Mapping[str, Any], now: float) -> tuple[object, ...]:
    room = machine.get("capacity") or {}
    memory = (
        f"{format_memory(room.get('memory_reserved', 0))} of {format_memory(room['memory'])}"
        if "memory" in room
        else None
    )
    seen = machine.get("last_seen")
    ago = f"{format_seconds(max(0.0, now - float(seen)))} ago" if seen else None
    # The whole id has 34 characters, and the rest tells a person nothing more.
    short = str(machine.get("id") or "")[:10]
    return (
        short,
        machine.get("kind"),
        machine.get("address"),
        machine.get("zone"),
        machine.get("state"),
        room.get("instances"),
        memory,
        machine.get("release") or None,
        ago,
    )

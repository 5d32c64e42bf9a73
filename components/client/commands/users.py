"""Commands for users and their limits: users, quota."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from components.client import output
from components.client.api import Api
from components.client.api_v2 import missing
from components.client.errors import ApiError
from components.client.session import Session, json_option, pass_session
from components.client.units import format_memory, parse_memory

DEFAULT = "default"
Callback = Callable[[click.Context, click.Parameter, str | None], int | str | None]


@click.command()
@json_option
@pass_session
def users(session: Session, as_json: bool) -> None:
    """List the platform's users (administrators only)."""
    with session.api() as api:
        listed = _listed(api)
    if as_json:
        output.data(listed)
        return
    output.table(
        ("EMAIL", "ADMIN", "MEMORY", "APPLICATIONS"),
        (
            (
                user.get("email"),
                "yes" if user.get("admin") else "no",
                _memory(user),
                _apps(user.get("apps")),
            )
            for user in listed
        ),
        "no users",
    )


def _listed(api: Api) -> list[dict[str, Any]]:
    try:
        return api.all_users()
    except ApiError as error:
        if not missing(error):
            raise
    return api.users()


def _memory(user: Mapping[str, Any]) -> str | None:
    limits, usage = user.get("limits") or {}, user.get("usage") or {}
    if "memory" not in limits:
        return None
    return f"{format_memory(usage.get('memory') or 0)} of {format_memory(limits['memory'])}"


def _apps(apps: Any) -> str | None:
    """Return the names of a user's applications, or their number."""
    if isinstance(apps, list):
        return " ".join(str(app.get("name") if isinstance(app, Mapping) else app) for app in apps) or None
    return None if apps is None else str(apps)


def _limit(read: Callable[[str], int]) -> Callback:
    def callback(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | str | None:
        if text is None or text == DEFAULT:
            return text
        try:
            return read(text)
        except ValueError as error:
            raise click.BadParameter(f"{error}; or `{DEFAULT}`") from error

    return callback


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise ValueError(f"{text!r} is not a number")
    return int(text)


@click.command()
@click.argument("email", required=False)
@click.option(
    "--memory", callback=_limit(parse_memory), metavar="SIZE|default", help="Memory of everything that runs."
)
@click.option("--apps", callback=_limit(_count), metavar="N|default", help="Applications.")
@click.option(
    "--urls", "app_uris", callback=_limit(_count), metavar="N|default", help="URLs of each application."
)
@click.option("--services", callback=_limit(_count), metavar="N|default", help="Services.")
@click.option(
    "--instances", callback=_limit(_count), metavar="N|default", help="Instances and tasks that run."
)
@click.option(
    "--disk", callback=_limit(parse_memory), metavar="SIZE|default", help="Disk of everything that runs."
)
@click.option("--routes", callback=_limit(_count), metavar="N|default", help="URLs of all applications.")
@click.option("--builds", callback=_limit(_count), metavar="N|default", help="Stagings at a time.")
@click.option(
    "--storage",
    callback=_limit(parse_memory),
    metavar="SIZE|default",
    help="Packages and droplets that are kept.",
)
@json_option
@pass_session
def quota(session: Session, /, *, email: str | None, as_json: bool, **limits: int | str | None) -> None:
    """Show your own limits, or those of EMAIL; or change them (administrators only)."""
    changes = {
        key: value if isinstance(value, int) else None for key, value in limits.items() if value is not None
    }
    if changes and not email:
        raise click.UsageError("name the user: `ingot quota EMAIL --memory 4G`")
    with session.api() as api:
        whose = email or session.user(api)
        if changes:
            api.set_quota(whose, changes)
        found = api.quota(whose)
    if as_json:
        output.data(found)
        return
    memory, disk, storage = (found.get(name) for name in ("memory", "disk", "storage"))
    output.facts(
        (
            ("user", whose),
            ("memory", None if memory is None else format_memory(memory)),
            ("applications", found.get("apps")),
            ("urls", None if found.get("app_uris") is None else f"{found['app_uris']} for each application"),
            ("services", found.get("services")),
            ("instances", found.get("instances")),
            ("disk", None if disk is None else format_memory(disk)),
            ("urls in all", found.get("routes")),
            ("stagings at a time", found.get("builds")),
            ("storage", None if storage is None else format_memory(storage)),
        )
    )


COMMANDS: tuple[click.Command, ...] = (users, quota)

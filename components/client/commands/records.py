"""Commands that show the platform's records: events, usage, and its own logs."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from components.client import output
from components.client.completion import AppName
from components.client.output import clean
from components.client.session import Session, json_option, pass_session

_AGO = re.compile(r"([0-9]{1,9})\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
_SHOWN = "%Y-%m-%d %H:%M:%S"


def since_value(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Read `90s`, `15m`, `2h`, `3d` (ago), `2026-08-01` or `2026-08-01T10:00` as seconds since 1970 (a click callback)."""
    if text is None:
        return None
    if match := _AGO.fullmatch(text.strip()):
        return int(time.time()) - int(match[1]) * _UNITS[match[2]]
    try:
        return int(datetime.fromisoformat(text.strip()).astimezone().timestamp())
    except (ValueError, OverflowError) as error:
        raise click.BadParameter("must be 15m, 2h or 3d ago, or a time as 2026-08-01T10:00") from error


def _day(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    if match := _AGO.fullmatch(text.strip()):
        return time.strftime("%Y-%m-%d", time.gmtime(time.time() - int(match[1]) * _UNITS[match[2]]))
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC).strftime("%Y-%m-%d")
    except ValueError as error:
        raise click.BadParameter("must be a day as 2026-08-01, or 7d for seven days ago") from error


_since = click.option(
    "--since", callback=since_value, metavar="TIME", help="Not before: 15m, 2h, 3d ago, or 2026-08-01T10:00."
)


def _when(seconds: Any) -> str | None:
    return time.strftime(_SHOWN, time.localtime(float(seconds))) if seconds else None


@click.command()
@click.argument("app", required=False, type=AppName())
@click.option("--user", metavar="EMAIL", help="Changes by this user (administrators only).")
@_since
@click.option(
    "--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="Largest number of rows."
)
@json_option
@pass_session
def events(
    session: Session, *, app: str | None, user: str | None, since: int | None, limit: int, as_json: bool
) -> None:
    """List changes with user, time and origin, newest first, of one application or of all."""
    with session.api() as api:
        found = api.events(limit, app=app, user=user, since=since)
    if as_json:
        output.data(found)
        return
    output.table(
        ("WHEN", "WHO", "WHAT", "APPLICATION", "#STATUS", "FROM", "OUTCOME"),
        (
            (
                _when(event.get("at")),
                _who(event),
                " ".join(str(event.get(key) or "") for key in ("method", "path")).strip() or None,
                event.get("app"),
                event.get("status"),
                event.get("from"),
                event.get("outcome"),
            )
            for event in found
        ),
        "no changes",
    )


def _who(event: Mapping[str, Any]) -> str | None:
    who, other = event.get("who"), event.get("acting_for")
    return f"{who} for {other}" if other and other != who else who


@click.command()
@click.option(
    "--from", "first", callback=_day, metavar="DAY", help="First day: 2026-08-01, or 7d for seven days ago."
)
@click.option("--to", "last", callback=_day, metavar="DAY", help="Last day.")
@click.option("--user", metavar="EMAIL", help="Usage of this user (administrators only).")
@click.option("--app", type=AppName(), metavar="NAME", help="Usage of this application.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
@pass_session
def usage(
    session: Session,
    *,
    first: str | None,
    last: str | None,
    user: str | None,
    app: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the reserved and used amounts of applications, by day: memory, processor, requests, restarts."""
    if as_csv and as_json:
        raise click.UsageError("either --csv or --json")
    wanted = {"from": first, "to": last, "user": user, "app": app}
    with session.api() as api:
        if as_csv:
            sys.stdout.write(api.usage_csv(**wanted).replace("\r\n", "\n"))
            return
        found = api.usage(**wanted)
    if as_json:
        output.data(found)
        return
    output.table(
        ("DAY", "USER", "APPLICATION", "#RESERVED MB·H", "#USED MB·H", "#CPU S", "#REQUESTS", "#RESTARTS"),
        (
            (
                row.get("day"),
                row.get("user"),
                row.get("app"),
                _number(row.get("reserved_mb_hours")),
                _number(row.get("used_mb_hours")),
                _number(row.get("cpu_seconds")),
                row.get("requests"),
                row.get("restarts"),
            )
            for row in found
        ),
        "no usage",
    )


def _number(value: Any) -> str | None:
    return None if value is None else f"{float(value):.1f}"


@click.command("platform-logs")
@click.option("--component", metavar="KIND", help="Only this kind: controller, dea, router and so on.")
@click.option("--host", metavar="ADDRESS", help="Only this machine.")
@_since
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warning", "error", "critical"]),
    help="Only lines of this level or a more severe one.",
)
@click.option("--contains", metavar="TEXT", help="Only lines with this text.")
@click.option(
    "--limit", type=click.IntRange(1, 10000), default=200, show_default=True, help="Largest number of lines."
)
@json_option
@pass_session
def platform_logs(
    session: Session,
    *,
    component: str | None,
    host: str | None,
    since: int | None,
    level: str | None,
    contains: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the platform's own log, of all components by time (administrators only)."""
    with session.api() as api:
        found = api.platform_logs(
            component=component, host=host, since=since, level=level, contains=contains, limit=limit
        )
    if as_json:
        output.data(found)
        return
    screen = output.console()
    lines = found.get("lines") or []
    for row in lines:
        screen.print(_line(row), soft_wrap=True)
    if not lines:
        output.line("no matching lines")
    if silent := found.get("silent"):
        click.echo(f"ingot: no answer from {', '.join(map(str, silent))}", err=True)


def _line(row: Mapping[str, Any]) -> Text:
    level = str(row.get("level") or "")
    return Text.assemble(
        (f"{_when(row.get('at')) or '-'} ", "dim"),
        (f"{row.get('component') or '-'}@{row.get('host') or '-'} ", "cyan"),
        (f"{level} ", _LEVELS.get(level, "")),
        clean(str(row.get("text") or row.get("event") or "")),
    )


COMMANDS: tuple[click.Command, ...] = (events, usage, platform_logs)

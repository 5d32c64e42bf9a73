"""Commands for the orchestrator's jobs, and following a job that a command began."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from components.client import output
from components.client.errors import ClientError
from components.client.follow.job import JobFollower, phases, raise_for_failure
from components.client.orchestrator_api import Job, OrchestratorApi
from components.client.session import Session, json_option, pass_session
from components.client.units import format_seconds

F = TypeVar("F", bound=Callable[..., Any])


def wait_option(function: F) -> F:
    """Add `--no-wait`."""
    return click.option("--no-wait", is_flag=True, help="Return when the job is accepted; do not follow it.")(
        function
    )


def follow(
    api: OrchestratorApi, job: Job, begun: float, *, no_wait: bool, as_json: bool, done: Callable[[Job], str]
) -> None:
    """Show a job until it ends, and its result; with `no_wait`, show how to look at it."""
    number = int(job["id"])
    if no_wait:
        if as_json:
            output.data(job)
        else:
            output.line(f"job {number} ({job.get('kind')}) is accepted; `ingot jobs log {number} --follow`")
        return
    try:
        job = JobFollower(api).follow(number)
    except KeyboardInterrupt as error:
        raise ClientError(
            f"job {number} goes on without you", f"look again: `ingot jobs log {number} --follow`"
        ) from error
    total = time.monotonic() - begun
    if as_json:
        output.data({**job, "phases": phases(job), "total_seconds": round(total, 3)})
    raise_for_failure(job)
    if not as_json:
        each = ", ".join(f"{name} {format_seconds(spent)}" for name, spent in phases(job).items())
        output.line(f"{done(job)} in {format_seconds(total)}" + (f" ({each})" if each else ""))


def ago(since: Any) -> str | None:
    """Return how long ago a time was, in words."""
    return f"{format_seconds(max(0.0, time.time() - float(since)))} ago" if since else None


def named(job: Job) -> str:
    """Return in words that a job is done."""
    return f"job {job['id']} ({job['kind']}) is done"


@click.group()
def jobs() -> None:
    """Show, follow and resume the orchestrator's jobs."""


@jobs.command("list")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Largest number of rows."
)
@click.option("--state", type=click.Choice(["waiting", "running", "succeeded", "failed"]), help="Only these.")
@json_option
@pass_session
def jobs_list(session: Session, limit: int, state: str | None, as_json: bool) -> None:
    """List the latest jobs."""
    with session.orchestrator() as api:
        found = api.jobs(limit, state or "")
    if as_json:
        output.data(found)
        return
    output.table(
        ("#ID", "KIND", "WISH", "STATE", "BY", "#CREATED", "#TOOK", "MESSAGE"),
        (
            (
                job["id"],
                job["kind"],
                _wish(job),
                job["state"],
                job.get("by"),
                ago(job.get("created")),
                None if job.get("seconds") is None else format_seconds(float(job["seconds"])),
                job.get("message") or None,
            )
            for job in found
        ),
        "no jobs yet",
    )


def _wish(job: Mapping[str, Any]) -> str | None:
    wish = job.get("wish") or {}
    words = (f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in wish.items())
    return " ".join(words) or None


@jobs.command("show")
@click.argument("number", type=int, metavar="ID")
@json_option
@pass_session
def jobs_show(session: Session, number: int, as_json: bool) -> None:
    """Show a job and its steps."""
    with session.orchestrator() as api:
        job = api.job(number)
    if as_json:
        output.data(job)
        return
    output.facts(
        (
            ("job", job["id"]),
            ("kind", job["kind"]),
            ("wish", _wish(job)),
            ("state", job["state"]),
            ("by", job.get("by")),
            ("created", ago(job.get("created"))),
            ("took", None if job.get("seconds") is None else format_seconds(float(job["seconds"]))),
            ("message", job.get("message")),
            ("way out", job.get("way_out")),
        )
    )
    output.line("")
    output.table(
        ("STEP", "MACHINES", "STATE", "#SECONDS", "MESSAGE"),
        (
            (
                step["name"],
                " ".join(step.get("machines") or []) or None,
                step["state"],
                None if step.get("seconds") is None else f"{float(step['seconds']):.1f}",
                step.get("message") or None,
            )
            for step in job.get("steps") or []
        ),
        "no steps",
    )


@jobs.command("log")
@click.argument("number", type=int, metavar="ID")
@click.option(
    "--follow", "-f", "to_the_end", is_flag=True, help="Go on until the job ends; fail if it failed."
)
@json_option
@pass_session
def jobs_log(session: Session, number: int, to_the_end: bool, as_json: bool) -> None:
    """Print a job's progress, line by line."""
    with session.orchestrator() as api:
        if as_json and not to_the_end:
            output.data(_whole_log(api, number))
            return
        if not to_the_end:
            for row in _whole_log(api, number):
                output.line(_log_line(row))
            return
        rows: list[Mapping[str, Any]] = []
        show = rows.append if as_json else lambda row: output.line(_log_line(row))
        JobFollower(api).lines(number, show)
        if as_json:
            output.data(rows)
        raise_for_failure(api.job(number))


def _whole_log(api: OrchestratorApi, number: int) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    while lines := api.log(number, int(rows[-1]["n"]) if rows else 0).get("lines"):
        rows += lines
    return rows


def _log_line(row: Mapping[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(float(row["at"])))
    return f"{at} {row.get('step') or '-':<12} {row['text']}"


@jobs.command("resume")
@click.argument("number", type=int, metavar="ID")
@wait_option
@json_option
@pass_session
def jobs_resume(session: Session, number: int, no_wait: bool, as_json: bool) -> None:
    """Continue a failed job from the step that failed."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        job = api.resume(number)
        follow(api, job, begun, no_wait=no_wait, as_json=as_json, done=named)

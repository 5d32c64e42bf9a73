"""Going back: an application to an earlier revision, or, as ever, the platform to an earlier release."""

from __future__ import annotations

import time

import click

from components.client import output
from components.client.api import Api
from components.client.commands.jobs import ago, follow, named, wait_option
from components.client.completion import AppName
from components.client.errors import ApiError, ClientError
from components.client.lifecycle import Background, Lifecycle
from components.client.progress import Progress
from components.client.rolling import Roller
from components.client.session import Session, app_argument, json_option, pass_session, timeout_option


@click.command()
@app_argument
@json_option
@pass_session
def revisions(session: Session, name: str, as_json: bool) -> None:
    """List the versions an application was started with; `ingot rollback NAME` goes back to one."""
    with session.api() as api:
        found = api.revisions(name)
    if as_json:
        output.data(found)
        return
    output.table(
        ("#REVISION", "CURRENT", "#CREATED", "BY", "FRAMEWORK", "RUNTIME", "DROPLET", "KEPT"),
        (
            (
                item.get("number"),
                "yes" if item.get("current") else None,
                ago(item.get("created")),
                item.get("by"),
                item.get("framework"),
                item.get("runtime"),
                str(item.get("droplet") or "")[:10] or None,
                "yes" if item.get("available") else "no",
            )
            for item in found
        ),
        f"{name} was never started; next: `ingot start {name}`",
    )


def meant(what: str, revision: int | None, release: str | None) -> tuple[str, str]:
    """Say what a rollback is of: an application's name and an empty text, or an empty text and a release (empty: the one before).

    A release has a dot in its name, and an application has none; any other release wants `--release`.

    Raises:
        click.UsageError: both are named, or a revision of nothing.
    """
    if release is not None:
        if what or revision is not None:
            raise click.UsageError("--release goes back with the whole platform, not with an application")
        return "", release
    if "." in what or not what:
        if revision is not None:
            raise click.UsageError("say whose revision: `ingot rollback APP --revision N`")
        return "", what
    return what, ""


@click.command()
@click.argument("what", default="", metavar="[APP]", type=AppName())
@click.option("--revision", type=click.IntRange(min=1), help="Of the application; else the one before.")
@click.option("--release", help="Of the platform; else the one before.")
@timeout_option
@wait_option
@json_option
@pass_session
def rollback(
    session: Session,
    *,
    what: str,
    revision: int | None,
    release: str | None,
    timeout: float,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Bring an application back to an earlier revision; without APP, every machine of the platform to the release before.

    \b
    ingot rollback APP                  the application, to the revision before
    ingot rollback APP --revision 3     the application, to that one
    ingot rollback                      the platform (its operators only)
    ingot rollback 1.2.0                the platform, to that release

    An application's instances are replaced one by one, without a pause and without staging.
    """  # noqa: D301 - click's mark for text that keeps its lines
    app, wanted = meant(what, revision, release)
    if not app:
        begun = time.monotonic()
        with session.orchestrator() as engine:
            job = engine.rollback(wanted)
            follow(engine, job, begun, no_wait=no_wait, as_json=as_json, done=named)
        return
    progress = Progress()
    with session.api() as api:
        life = Lifecycle(api, app, progress, timeout)
        with Background(life.crashed) as before:
            try:
                rolls = api.rollback(app, revision)
            except ApiError as error:
                if error.code == 301:
                    error.hint = f"{error.hint}; for the platform's release: `ingot rollback --release {app}`"
                raise
            if rolls and not no_wait:
                Roller(life).follow(before.result)
        number = _current(api, app)
        state = api.app(app).get("state")
    said = {
        "name": app,
        "state": state,
        "revision": number,
        "waited": rolls and not no_wait,
        "stages": progress.stages(),
        "total_seconds": progress.total(),
    }
    where = f"revision {number}" if number else "the revision before"
    if not rolls:
        words = f"{app} has {where}; it is stopped; next: `ingot start {app}`"
    elif no_wait:
        words = f"{app} goes back; `ingot revisions {app}` shows where it is"
    else:
        words = f"{app} is running {where}; took {progress.summary()}"
    output.result(said, words, as_json=as_json)


def _current(api: Api, name: str) -> int | None:
    try:
        found = api.revisions(name)
    except ClientError:
        return None
    return next((int(item["number"]) for item in found if item.get("current") and "number" in item), None)


COMMANDS: tuple[click.Command, ...] = (revisions, rollback)

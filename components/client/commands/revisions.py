"""Commands that list an application's revisions and go back to one."""

from __future__ import annotations

import click

from components.client import output
from components.client.api import Api
from components.client.commands.jobs import ago, wait_option
from components.client.commands.releases import ROLLBACK
from components.client.completion import AppName
from components.client.errors import ApiError, ClientError
from components.client.follow.update import Updater
from components.client.lifecycle import AppLifecycle, Background
from components.client.progress import Progress
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


@click.command()
@click.argument("what", default="", metavar="APP", type=AppName())
@click.option(
    "--revision", type=click.IntRange(min=1), help="Revision to go back to; by default the one before."
)
@click.option("--release", hidden=True, help="Of the platform: that is another command now.")
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
    """Bring an application back to an earlier revision.

    Its instances are replaced one by one, without a pause and without staging. For the platform's release there is
    `ingot platform rollback`.
    """
    # No application has a dot in its name; a release has.
    if not what or "." in what or release is not None:
        version = release or (what if "." in what else "")
        raise click.UsageError(
            "this goes back with an application: `ingot rollback APP`; the whole platform goes back with "
            f"`{f'{ROLLBACK} {version}'.strip()}`. Nothing was changed."
        )
    app = what
    progress = Progress()
    with session.api() as api:
        life = AppLifecycle(api, app, progress, timeout)
        with Background(life.crashed) as before:
            try:
                rolls = api.rollback(app, revision)
            except ApiError as error:
                if error.code == 301:
                    error.hint = f"{error.hint}; for the platform's release: `{ROLLBACK} {app}`"
                raise
            if rolls and not no_wait:
                Updater(life).follow(before.result)
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

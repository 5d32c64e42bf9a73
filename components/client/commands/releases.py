"""Commands that roll the whole platform to another release and back. Former names of these commands lead here."""

from __future__ import annotations

import time

import click

from components.client.commands.jobs import follow, named, wait_option
from components.client.errors import ClientError
from components.client.orchestrator_api import OrchestratorApi
from components.client.session import (
    Session,
    confirm,
    force_option,
    interactive,
    json_option,
    pass_session,
)

# The first word of a former command -> the present command.
MOVED = {"roll": "ingot platform roll VERSION"}
ROLLBACK = "ingot platform rollback"


@click.group()
def platform() -> None:
    """Roll the whole platform to another release, or back."""


@platform.command()
@click.argument("version")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    help="Part of a pool's machines that are replaced at a time; by default the orchestrator's.",
)
@wait_option
@json_option
@pass_session
def roll(session: Session, version: str, share: float | None, no_wait: bool, as_json: bool) -> None:
    """Bring every machine to a release, tier by tier, while the platform serves."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        job = api.roll(version, share)
        follow(
            api,
            job,
            begun,
            no_wait=no_wait,
            as_json=as_json,
            done=lambda _: f"every machine runs release {version}",
        )


@platform.command()
@click.argument("version", default="")
@force_option
@wait_option
@json_option
@pass_session
def rollback(session: Session, *, version: str, force: bool, no_wait: bool, as_json: bool) -> None:
    """Bring every machine back to a release; without VERSION, to the one before, after a confirmation."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        if not version:
            version = _before(api)
            if not force and not interactive():
                raise click.UsageError(
                    f"this brings every machine back to release {version}, and there is no terminal to ask at: "
                    f"name it (`{ROLLBACK} {version}`), or add --force"
                )
            confirm(f"Bring every machine back to release {version}?", force=force)
        job = api.rollback(version)
        follow(api, job, begun, no_wait=no_wait, as_json=as_json, done=named)


def _before(api: OrchestratorApi) -> str:
    """Return the release that a rollback goes to.

    Raises:
        ClientError: the orchestrator knows of none.
    """
    if before := api.release().get("back"):
        return str(before)
    raise ClientError("no release is known that ran before", f"name one: `{ROLLBACK} VERSION`")


COMMANDS: tuple[click.Command, ...] = (platform,)

"""The entry point `ingot`. Exit status: 0 done, 1 it failed, 2 the command line makes no sense."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import click

from components.client.commands import account, change, engine, listing, logs, platform, push, services
from components.client.session import Session


def _version() -> str:
    try:
        return version("ingot")
    except PackageNotFoundError:
        return "unknown"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--target",
    envvar="INGOT_TARGET",
    metavar="URL",
    help="The platform to speak to, instead of the remembered one (`ingot target`).",
)
@click.option(
    "--orchestrator",
    envvar="INGOT_ORCHESTRATOR",
    metavar="URL",
    help="The orchestrator, where it is not at orchestrator.DOMAIN of the platform.",
)
@click.version_option(_version(), prog_name="ingot")
@click.pass_context
def cli(context: click.Context, target: str | None, orchestrator: str | None) -> None:
    """Push applications to an Ingot platform and look after them.

    \b
    First:  ingot target http://api.DOMAIN && ingot login EMAIL
    Then:   ingot push        in an application's folder
    """  # noqa: D301 - click's mark for text that keeps its lines
    context.obj = Session(target, orchestrator)


COMMANDS: tuple[click.Command, ...] = (
    *(account.target, account.login, account.logout, account.register, account.passwd, account.users),
    *(push.push, listing.apps, listing.show, listing.stats, listing.crashes),
    *(change.start, change.stop, change.restart, change.scale, change.delete),
    *(change.env, change.map_url, change.unmap_url),
    *(logs.logs, logs.crashlogs, logs.files),
    *services.COMMANDS,
    *(platform.info, platform.runtimes, platform.frameworks, platform.machines),
    *engine.COMMANDS,
)
for _command in COMMANDS:
    cli.add_command(_command)


def main() -> None:
    """Run the command of this process."""
    cli(prog_name="ingot")


if __name__ == "__main__":
    main()

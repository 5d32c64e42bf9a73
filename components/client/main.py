"""The entry point `ingot`. Exit status: 0 done, 1 failed, 2 wrong command line."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from components.client.commands import (
    account,
    change,
    listing,
    logs,
    operators,
    platform,
    push,
    records,
    releases,
    revisions,
    services,
    shells,
    tasks,
    users,
)
from components.client.errors import ClientError
from components.client.session import Session

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Account": (account.target, account.login, account.logout, account.register, account.passwd, users.quota),
    "Applications": (
        *(push.push, push.update, listing.apps, listing.show, change.start, change.stop, change.restart),
        *(change.scale, change.env, change.map_url, change.unmap_url, *revisions.COMMANDS, change.delete),
    ),
    "Logs and activity": (
        *(logs.logs, logs.files, listing.stats, listing.crashes, logs.crashlogs),
        *(*tasks.COMMANDS, records.events, records.usage),
    ),
    "Services": services.COMMANDS,
    "Platform": (platform.info, platform.runtimes, platform.frameworks, platform.machines, shells.completion),
    "Operators": (users.users, records.platform_logs, *releases.COMMANDS, *operators.COMMANDS),
}


_WHOLE_SENTENCE = 400


class Commands(click.Group):
    """The group of all commands: it shows its help in sections, and reports an unreadable answer as an error."""

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their sections."""
        widest = max(len(name) for name in self.commands)
        for title, commands in SECTIONS.items():
            rows = [
                (str(command.name).ljust(widest), command.get_short_help_str(_WHOLE_SENTENCE))
                for command in commands
            ]
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; one with another name now is named and not run."""
        if args and args[0] not in self.commands and (now := releases.MOVED.get(args[0])):
            ctx.fail(f"`ingot {args[0]}` is `{now}` now. Nothing was changed.")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        Raises:
            ClientError: the platform's answer has a shape that this client does not know.
        """
        try:
            return super().invoke(ctx)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            if os.environ.get("INGOT_DEBUG"):
                raise
            raise ClientError(
                f"the answer of the platform cannot be understood ({type(error).__name__}: {error})",
                "client and platform may be of different releases: `ingot --version`, `ingot info`; "
                "INGOT_DEBUG=1 shows where",
            ) from error


def _version() -> str:
    try:
        return version("ingot")
    except PackageNotFoundError:
        return "unknown"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--target",
    envvar="INGOT_TARGET",
    metavar="URL",
    help="Platform for this command, instead of the stored one (`ingot target`).",
)
@click.option(
    "--orchestrator",
    envvar="INGOT_ORCHESTRATOR",
    metavar="URL",
    help="Orchestrator, if it is not at orchestrator.DOMAIN of the platform.",
)
@click.option(
    "--as",
    "acting_for",
    metavar="EMAIL",
    help="Act on this user's applications and services (administrators only).",
)
@click.version_option(_version(), prog_name="ingot")
@click.pass_context
def cli(context: click.Context, target: str | None, orchestrator: str | None, acting_for: str | None) -> None:
    """Push applications to an Ingot platform and manage them.

    \b
    First:  ingot target http://api.DOMAIN && ingot login EMAIL
    Then:   ingot push        in an application's folder
    """  # noqa: D301 - click's mark for text that keeps its lines
    context.obj = Session(target, orchestrator, acting_for)


for _commands in SECTIONS.values():
    for _command in _commands:
        cli.add_command(_command)


def main() -> None:
    """Run the command of this process."""
    cli(prog_name="ingot")


if __name__ == "__main__":
    main()

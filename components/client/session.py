"""The context of a command: the configuration, the connection, and the common options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import click

from components.client.api import Api
from components.client.completion import AppName
from components.client.config import Config, home, normalise_target
from components.client.errors import LOGIN_HINT, ConfigurationError
from components.client.lifecycle import START_TIMEOUT
from components.client.orchestrator_api import OrchestratorApi, orchestrator_of

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One run of the command.

    Args:
        target: takes the place of the remembered one for this run.
        orchestrator: where the orchestrator is, if not at `orchestrator.DOMAIN` of the target's `api.DOMAIN`.
        acting_for: the user whose applications an administrator means.
    """

    def __init__(
        self, target: str | None = None, orchestrator: str | None = None, acting_for: str | None = None
    ) -> None:
        self._target = target
        self.acting_for = acting_for or ""
        self._orchestrator = orchestrator

    @cached_property
    def config(self) -> Config:
        """Return the configuration, read when a command first needs it: help needs none."""
        config = Config.load(home())
        if self._target:
            config.override = normalise_target(self._target)
        return config

    def anonymous(self, target: str | None = None) -> Api:
        """Return a connection that needs no login."""
        address = target or self.config.require_target()
        return Api(address, self.config.tokens.get(address, ""))

    def api(self) -> Api:
        """Return a connection of the logged-in user.

        Raises:
            ConfigurationError: no target is set, or no user is logged in.
        """
        token = self.config.require_token()
        return Api(self.config.current, token, acting_for=self.acting_for)

    def orchestrator(self) -> OrchestratorApi:
        """Return a connection to the orchestrator: as operator with `INGOT_OPERATOR_PASSWORD`, else as the logged-in user.

        Raises:
            ConfigurationError: its address is not known, or no user is logged in.
        """
        given = self._orchestrator
        address = normalise_target(given) if given else orchestrator_of(self.config.require_target())
        if password := os.environ.get("INGOT_OPERATOR_PASSWORD"):
            return OrchestratorApi(address, password=password)
        return OrchestratorApi(address, self.config.require_token())

    def user(self, api: Api) -> str:
        """Return the e-mail address of the logged-in user.

        Raises:
            ConfigurationError: the token is no longer valid.
        """
        user = api.info().get("user")
        if not user:
            raise ConfigurationError("the login has expired", LOGIN_HINT)
        return str(user)


pass_session = click.make_pass_decorator(Session)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def app_argument(function: F) -> F:
    """Add the argument NAME, an application, which the shell completes."""
    return click.argument("name", type=AppName())(function)


def timeout_option(function: F) -> F:
    """Add `--timeout`."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=1),
        default=START_TIMEOUT,
        show_default=True,
        help="Seconds until all instances must run, staging not counted.",
    )(function)


def force_option(function: F) -> F:
    """Add `--force`."""
    return click.option("-f", "--force", is_flag=True, help="Do not ask.")(function)


def confirm(question: str, *, force: bool) -> None:
    """Continue only after a person's consent, or with `force`.

    Raises:
        click.UsageError: there is no terminal to ask in.
        click.Abort: the person refused.
    """
    if force:
        return
    if not interactive():
        raise click.UsageError("this needs a confirmation, and there is no terminal to ask at: add --force")
    click.confirm(question, abort=True, err=True)


def instance_option(function: F) -> F:
    """Add `--instance`."""
    return click.option(
        "-i", "--instance", default="0", show_default=True, help="Index or id of the instance."
    )(function)


def interactive() -> bool:
    """Return whether there is a terminal to ask in."""
    return sys.stdin.isatty()


def ask_password(given: str | None, *, from_stdin: bool, confirm: bool = False) -> str:
    """Return a password from standard input's first line, `given` (the environment or an option), or a prompt.

    Raises:
        click.UsageError: there is none, and no terminal to ask in.
    """
    if from_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    elif given is None and interactive():
        given = click.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True)
    if not given:
        raise click.UsageError("no password: set INGOT_PASSWORD, or give it to --password-stdin")
    return given


def password_options(function: F) -> F:
    """Add the ways to pass a password; only an explicit option puts it into the process list."""
    function = click.option(
        "--password-stdin", is_flag=True, help="Read the password from standard input's first line."
    )(function)
    return click.option(
        "--password",
        envvar="INGOT_PASSWORD",
        metavar="TEXT",
        help="The password; other users of this machine may see it, so better set INGOT_PASSWORD.",
    )(function)

"""The client's errors: what went wrong, and what to do next. `main` shows them; the exit status is 1."""

from __future__ import annotations

from typing import IO, Any

import click

# What to do about a controller's error, by its code (protocol section 1.3).
HINTS = {
    102: "somebody else changed the application meanwhile: run the command again",
    301: "`ingot apps` lists your applications",
    304: "`ingot app NAME` lists its instances",
    305: "start it first: `ingot start NAME`",
    306: "the instance may be gone; `ingot app NAME` shows what runs",
    307: "`ingot runtimes` lists what there is",
    308: "`ingot frameworks` lists what there is",
    500: "`ingot services` lists your services and what is offered",
    504: "delete a service you no longer need: `ingot delete-service NAME`",
    600: "stop or scale down an application, or ask an administrator for more memory",
    601: "delete an application you no longer need: `ingot delete NAME`",
    602: "unmap a URL first: `ingot unmap NAME URL`",
    701: "choose another URL: `--url HOST`",
    702: "choose a URL below the platform's own domain",
}
LOGIN_HINT = "log in first: `ingot login EMAIL`"


class ClientError(click.ClickException):
    """Root of the client's errors.

    Args:
        message: what went wrong, one sentence or more.
        hint: what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Write both to standard error."""
        click.echo(f"ingot: {self.message}", file=file, err=True)
        if self.hint:
            click.echo(f"  next: {self.hint}", file=file, err=True)


class ConfigurationError(ClientError):
    """The client's own files cannot be read or written, or no target is set."""


class UnreachableError(ClientError):
    """No answer came from the target: refused, unresolvable, cut off or too slow."""


class PackageError(ClientError):
    """The folder to push, its manifest or its ignore file cannot be used."""


class PushError(ClientError):
    """A push ended in the stage `stage`; its log, if there is one, is in `log`."""

    def __init__(self, stage: str, message: str, log: str = "", hint: str = "") -> None:
        super().__init__(f"{stage} failed: {message}", hint)
        self.stage = stage
        self.log = log

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the log before the sentence, so that the sentence is what stays on the screen."""
        if self.log:
            click.echo(self.log.rstrip("\n"), file=file, err=True)
        super().show(file)


class ApiError(ClientError):
    """The controller answered with an error.

    Attributes:
        status: the HTTP status.
        code: the error code of section 1.3; 0 where the answer carried none.
        description: the controller's own words.
    """

    def __init__(self, status: int, code: int, description: str) -> None:
        super().__init__(f"{description} (error {code})" if code else description, self.advice(status, code))
        self.status = status
        self.code = code
        self.description = description

    @staticmethod
    def advice(status: int, code: int) -> str:
        """Say what to do about a status and a code; may be empty."""
        if code == 200:
            return f"not permitted; {LOGIN_HINT}, or as somebody who may do this"
        if status == 429:
            return "too many requests: wait a little and try again"
        if status >= 500 and code in {0, 101, 111, 503}:
            return "the platform has trouble; try again, and if it stays, tell its operator"
        return HINTS.get(code, "")

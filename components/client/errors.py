"""The client's errors, each with a reason and a next step. `main` shows them; the exit status is 1."""

from __future__ import annotations

from typing import IO, Any

import click

# The remedy of a controller's error, by its code (protocol 1.3).
HINTS = {
    100: "client and platform may be of different releases: `ingot --version`, `ingot info`",
    102: "the application was changed by another command in the meantime: run this one again",
    103: "the platform's database is away for the moment: run the command again later, and see first what it has done",
    104: "the platform is busy with other transfers: wait a few seconds and run the command again",
    105: "what was sent came too slowly: run the command again, over a better connection",
    106: "the platform's storage is away for the moment, what runs runs on: run the command again later",
    201: "`ingot users` lists them (administrators only)",
    202: "this platform wants TLS: `ingot target https://api.DOMAIN`",
    300: "correct what the message names, and run the command again",
    301: "`ingot apps` lists your applications",
    302: "no machine has room or the runtime for it: a smaller --memory, fewer instances, or ask an operator",
    303: "`ingot files NAME PATH` lists a folder",
    304: "`ingot app NAME` lists its instances",
    305: "start it first: `ingot start NAME`",
    306: "the instance may be gone; `ingot app NAME` shows what runs",
    307: "`ingot runtimes` lists what there is",
    308: "`ingot frameworks` lists what there is",
    309: "this platform does not allow debugging: leave the debug mode out",
    310: "correct what the log of the staging names, and push again",
    400: "push a folder: `ingot push NAME --path DIR`",
    401: "push again: files that the platform had are gone from it",
    402: "correct the files the message names, and push again",
    500: "`ingot services` lists your services and what is offered",
    501: "`ingot app NAME` lists what is bound to it",
    502: "the token of the binding is gone: bind the service again",
    503: "the service's gateway has trouble; try again, and if the trouble stays, tell the platform's operator",
    504: "delete a service you no longer need: `ingot delete-service NAME`",
    505: "this service cannot do that",
    600: "stop or scale down an application, or ask an administrator for more memory",
    601: "delete an application you no longer need: `ingot delete NAME`",
    602: "unmap a URL first: `ingot unmap NAME URL`",
    603: "stop an application or scale one down, or ask an administrator for more instances; `ingot quota` shows the limit",
    604: "stop an application or scale one down, or ask an administrator for more disk; `ingot quota` shows the limit",
    605: "unmap URLs you no longer need: `ingot unmap NAME URL`; `ingot quota` shows the limit",
    606: "wait until one of your applications is staged, and run the command again",
    607: "accounts that people made for themselves share this limit: ask the platform's operator for an account, or for more",
    608: "delete applications that you no longer need, or ask an administrator for more storage: `ingot quota`",
    700: "a URL is a host name here: my-app.DOMAIN",
    701: "choose another URL: `--url HOST`",
    702: "choose a URL below the platform's own domain",
    800: "try again; if it takes too long every time, ask the platform's operator for more",
    801: "correct what the log of the staging names, and push again",
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
    """A push failed in the stage `stage`; its log, if there is one, is in `log`."""

    def __init__(self, stage: str, message: str, log: str = "", hint: str = "") -> None:
        super().__init__(f"{stage} failed: {message}", hint)
        self.stage = stage
        self.log = log

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the log before the sentence, so that the sentence stays on the screen."""
        if self.log:
            click.echo(self.log.rstrip("\n"), file=file, err=True)
        super().show(file)


class ApiError(ClientError):
    """The controller answered with an error.

    Attributes:
        status: the HTTP status.
        code: the error code of protocol 1.3; 0 where the answer carried none.
        description: the controller's own words.
    """

    def __init__(self, status: int, code: int, description: str) -> None:
        super().__init__(f"{description} (error {code})" if code else description, self.advice(status, code))
        self.status = status
        self.code = code
        self.description = description

    @staticmethod
    def advice(status: int, code: int) -> str:
        """Return the remedy for a status and a code; may be empty."""
        if code == 200:
            return f"not permitted; {LOGIN_HINT}, as a user who may do this"
        if status == 429:
            return "too many requests: wait a little and try again"
        if status in {404, 405} and code == 0:
            return "the platform may be older than this client and not know this call: `ingot info`"
        if status >= 500 and code in {0, 101, 111}:
            return "the platform has trouble; try again, and if the trouble stays, tell its operator"
        return HINTS.get(code, "")


def away(error: ClientError) -> bool:
    """Return whether an error is due to parts of the platform being replaced, and passes by itself."""
    if isinstance(error, ApiError):
        # The answer of a router that knows no controller at the moment begins so.
        return error.status >= 500 or error.description.startswith("VCAP ROUTER: ")
    return isinstance(error, UnreachableError)

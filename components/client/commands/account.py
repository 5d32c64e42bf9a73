"""Commands for the target and the account: target, login, logout, register, passwd."""

from __future__ import annotations

import click

from components.client import output
from components.client.completion import forget
from components.client.config import normalise_target
from components.client.errors import ApiError, ClientError
from components.client.session import Session, ask_password, json_option, pass_session, password_options


@click.command()
@click.argument("url", required=False)
@json_option
@pass_session
def target(session: Session, url: str | None, as_json: bool) -> None:
    """Show the target platform, or choose one by its URL (http://api.DOMAIN)."""
    config = session.config
    if url:
        address = normalise_target(url)
        with session.anonymous(address) as api:
            info = api.info()
        if not all(info.get(key) for key in ("name", "build", "version", "support")):
            raise ClientError(
                f"{address} answers, but not as a controller", "give the URL of its API: http://api.DOMAIN"
            )
        config.target, config.override = address, ""
        config.save()
    if as_json:
        output.data({"target": config.current or None, "logged_in": bool(config.token)})
        return
    output.line(f"target: {config.require_target()}")
    if not config.token:
        output.line("not logged in; next: `ingot login EMAIL`")


@click.command()
@click.argument("email")
@password_options
@json_option
@pass_session
def login(session: Session, *, email: str, password: str | None, password_stdin: bool, as_json: bool) -> None:
    """Log in; the password is asked for, or comes from INGOT_PASSWORD or standard input."""
    session.config.require_target()
    _login(session, email, ask_password(password, from_stdin=password_stdin))
    target = session.config.current
    output.result({"target": target, "user": email}, f"logged in to {target} as {email}", as_json=as_json)


def _login(session: Session, email: str, password: str) -> None:
    with session.anonymous() as api:
        try:
            token = api.login(email, password)
        except ApiError as error:
            if error.status == 403:
                raise ClientError(
                    "the e-mail address or the password is wrong",
                    "try again, or make an account: `ingot register EMAIL`",
                ) from error
            raise
    session.config.tokens[api.target] = token
    session.config.save()


@click.command()
@click.option("--everywhere", is_flag=True, help="End all your logins, on every machine.")
@json_option
@pass_session
def logout(session: Session, everywhere: bool, as_json: bool) -> None:
    """Forget the login for this target."""
    if session.acting_for and not everywhere:
        raise click.UsageError("another user's logins can only be ended with --everywhere")
    config = session.config
    where = config.require_target()
    said = {"target": where, "everywhere": everywhere, "was_logged_in": bool(config.token)}
    if everywhere:
        with session.api() as api:
            api.end_tokens(session.user(api))
    # An administrator who ends another user's logins keeps their own.
    if not session.acting_for and config.tokens.pop(where, None) is not None:
        config.save()
        forget(config)
    whose = f"{session.acting_for} is " if session.acting_for else ""
    words = f"{whose}logged out of {where}{', everywhere' if everywhere else ''}"
    output.result(said, words if said["was_logged_in"] else "you were not logged in", as_json=as_json)


@click.command()
@click.argument("email")
@password_options
@json_option
@pass_session
def register(
    session: Session, *, email: str, password: str | None, password_stdin: bool, as_json: bool
) -> None:
    """Make an account, and log in where no user is logged in."""
    chosen = ask_password(password, from_stdin=password_stdin, confirm=True)
    # Where registration is closed, an administrator makes the accounts, with their own token.
    with session.api() if session.config.token else session.anonymous() as api:
        try:
            api.register(email, chosen)
        except ApiError as error:
            if error.code == 200:
                raise ClientError(
                    "registration is closed on this platform", "ask an administrator for an account"
                ) from error
            raise
    enters = not session.config.token
    if enters:
        _login(session, email, chosen)
    words = f"registered {email}" + (", and logged in" if enters else "")
    output.result({"user": email, "logged_in": enters}, words, as_json=as_json)


@click.command()
@password_options
@json_option
@pass_session
def passwd(session: Session, password: str | None, password_stdin: bool, as_json: bool) -> None:
    """Change your own password."""
    with session.api() as api:
        email = session.user(api)
        api.change_password(email, ask_password(password, from_stdin=password_stdin, confirm=True))
    output.result({"user": email}, f"the password of {email} is changed", as_json=as_json)

"""Where the client talks to, and as whom: target, login, logout, register, passwd, users."""

from __future__ import annotations

import click

from components.client import output
from components.client.config import normalise_target
from components.client.errors import ApiError, ClientError
from components.client.session import Session, ask_password, json_option, pass_session, password_options


@click.command()
@click.argument("url", required=False)
@json_option
@pass_session
def target(session: Session, url: str | None, as_json: bool) -> None:
    """Show which platform is spoken to, or choose one by its URL (http://api.DOMAIN)."""
    config = session.config
    if url:
        address = normalise_target(url)
        with session.anonymous(address) as api:
            info = api.info()
        if not all(info.get(key) for key in ("name", "build", "version", "support")):
            raise ClientError(
                f"{address} answers, but not as a controller", "want the URL of its API: http://api.DOMAIN"
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
@pass_session
def login(session: Session, email: str, password: str | None, password_stdin: bool) -> None:
    """Log in; the password is asked for, or comes from INGOT_PASSWORD or standard input."""
    session.config.require_target()
    _login(session, email, ask_password(password, from_stdin=password_stdin))
    output.line(f"logged in to {session.config.current} as {email}")


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
@pass_session
def logout(session: Session) -> None:
    """Forget the login for this target."""
    if session.config.tokens.pop(session.config.require_target(), None) is None:
        output.line("nobody was logged in")
        return
    session.config.save()
    output.line(f"logged out of {session.config.current}")


@click.command()
@click.argument("email")
@password_options
@pass_session
def register(session: Session, email: str, password: str | None, password_stdin: bool) -> None:
    """Make an account, and log in where nobody is logged in."""
    chosen = ask_password(password, from_stdin=password_stdin, confirm=True)
    with session.anonymous() as api:
        try:
            api.register(email, chosen)
        except ApiError as error:
            if error.code == 200:
                raise ClientError(
                    "this platform lets nobody register", "ask an administrator for an account"
                ) from error
            raise
    output.line(f"registered {email}")
    if not session.config.token:
        _login(session, email, chosen)
        output.line(f"logged in as {email}")


@click.command()
@password_options
@pass_session
def passwd(session: Session, password: str | None, password_stdin: bool) -> None:
    """Change one's own password."""
    with session.api() as api:
        email = session.user(api)
        api.change_password(email, ask_password(password, from_stdin=password_stdin, confirm=True))
    output.line(f"the password of {email} is changed")


@click.command()
@json_option
@pass_session
def users(session: Session, as_json: bool) -> None:
    """List the platform's users (administrators only)."""
    with session.api() as api:
        listed = api.users()
    if as_json:
        output.data(listed)
        return
    output.table(
        ("EMAIL", "ADMIN", "APPLICATIONS"),
        (
            (
                user.get("email"),
                "yes" if user.get("admin") else "no",
                " ".join(str(app.get("name")) for app in user.get("apps") or []) or None,
            )
            for user in listed
        ),
        "no users",
    )

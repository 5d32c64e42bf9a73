"""Commands for data services: listing offers, making services, binding them to applications."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import click

from components.client import output
from components.client.api import Api
from components.client.completion import AppName
from components.client.errors import ClientError
from components.client.lifecycle import AppLifecycle
from components.client.offerings import NONE_OFFERED, choose, offerings_of, wish
from components.client.progress import Progress
from components.client.session import (
    F,
    Session,
    confirm,
    force_option,
    json_option,
    pass_session,
    timeout_option,
)


def _bound_to(apps: Iterable[Mapping[str, Any]], service: str) -> list[str]:
    return sorted(str(app.get("name")) for app in apps if service in (app.get("services") or []))


def _own(api: Api, name: str) -> dict[str, Any]:
    """Return one of the user's own services.

    Raises:
        ClientError: there is none of this name; lists those there are.
    """
    found = api.services()
    for service in found:
        if service.get("name") == name:
            return service
    if not found:
        raise ClientError(
            f"you have no service {name!r}, nor any other", "make one: `ingot create-service VENDOR`"
        )
    raise ClientError(
        f"you have no service {name!r}", f"you have: {', '.join(str(s.get('name')) for s in found)}"
    )


@click.command("services")
@json_option
@pass_session
def listing(session: Session, as_json: bool) -> None:
    """List the services on offer, and your own with their bindings."""
    with session.api() as api:
        offered, own, apps = offerings_of(api.offerings()), api.services(), api.apps()
    mine = [{**service, "apps": _bound_to(apps, str(service.get("name")))} for service in own]
    if as_json:
        kinds = [
            {
                "type": o.type,
                "vendor": o.vendor,
                "version": o.version,
                "description": o.description,
                "plans": list(o.plans),
            }
            for o in offered
        ]
        output.data({"offerings": kinds, "services": mine})
        return
    output.table(
        ("OFFERED", "VERSION", "PLANS", "DESCRIPTION"),
        ((o.vendor, o.version, " ".join(o.plans) or None, o.description) for o in offered),
        NONE_OFFERED,
    )
    output.line("")
    output.table(
        ("YOUR SERVICE", "VENDOR", "VERSION", "PLAN", "BOUND TO"),
        (
            (s.get("name"), s.get("vendor"), s.get("version"), s.get("tier"), " ".join(s["apps"]) or None)
            for s in mine
        ),
        "you have no services; next: `ingot create-service VENDOR`",
    )


@click.command("create-service")
@click.argument("vendor")
@click.argument("name", required=False)
@click.option("--plan", help="The plan; `ingot services` lists them.  [default: free]")
@json_option
@pass_session
def create(session: Session, vendor: str, name: str | None, plan: str | None, as_json: bool) -> None:
    """Make a service of your own: `ingot create-service redis my-redis`."""
    progress = Progress()
    with session.api() as api:
        offering = choose(offerings_of(api.offerings()), vendor)
        name = name or f"{offering.vendor}-{secrets.token_hex(3)}"
        wanted = wish(offering, name, plan)
        with progress.stage("creating"):
            api.create_service(wanted)
    if as_json:
        output.data(wanted)
        return
    output.line(
        f"{name} is made ({offering.vendor} {offering.version}, plan {wanted['tier']}); "
        f"next: `ingot bind-service {name} APP`"
    )


def _restart_options(function: F) -> F:
    return click.option(
        "--no-restart",
        is_flag=True,
        help="Do not restart the application; the change takes effect at its next start.",
    )(timeout_option(function))


@click.command("bind-service")
@click.argument("name")
@click.argument("app", type=AppName())
@_restart_options
@json_option
@pass_session
def bind(session: Session, *, name: str, app: str, no_restart: bool, timeout: float, as_json: bool) -> None:
    """Bind a service to an application, with its credentials in VCAP_SERVICES, and restart it."""
    progress = Progress()
    with session.api() as api:
        found = api.app(app)
        bound = list(found.get("services") or [])
        if name in bound:
            output.result(_binding(app, bound), f"{name} is bound to {app} already", as_json=as_json)
            return
        _own(api, name)
        bound.append(name)
        life = AppLifecycle(api, app, progress, timeout)
        with progress.stage("binding"):
            life.change(services=bound)
        said = _restarted(life, found, no_restart=no_restart)
    output.result(_binding(app, bound), f"{name} is bound to {app}; {said}", as_json=as_json)


@click.command("unbind-service")
@click.argument("name")
@click.argument("app", type=AppName())
@_restart_options
@json_option
@pass_session
def unbind(session: Session, *, name: str, app: str, no_restart: bool, timeout: float, as_json: bool) -> None:
    """Take a service from an application, end those credentials, and restart it."""
    progress = Progress()
    with session.api() as api:
        found = api.app(app)
        bound = list(found.get("services") or [])
        if name not in bound:
            raise ClientError(
                f"{name} is not bound to {app}", f"bound to it: {', '.join(bound) or 'nothing'}"
            )
        bound.remove(name)
        life = AppLifecycle(api, app, progress, timeout)
        with progress.stage("unbinding"):
            life.change(services=bound)
        said = _restarted(life, found, no_restart=no_restart)
    output.result(_binding(app, bound), f"{name} is no longer bound to {app}; {said}", as_json=as_json)


def _binding(app: str, bound: list[str]) -> dict[str, Any]:
    return {"name": app, "services": bound}


def _restarted(life: AppLifecycle, app: Mapping[str, Any], *, no_restart: bool) -> str:
    """Restart a running application; return in words what was done."""
    if app.get("state") != "STARTED":
        return f"the change takes effect when it is started: `ingot start {life.name}`"
    if no_restart:
        return f"the change takes effect when it is restarted: `ingot restart {life.name}`"
    life.restart()
    return f"it runs; took {life.progress.summary()}"


@click.command("delete-service")
@click.argument("name")
@click.option("--unbind", "unbind_it", is_flag=True, help="Unbind it from all applications.")
@force_option
@json_option
@pass_session
def delete(session: Session, *, name: str, unbind_it: bool, force: bool, as_json: bool) -> None:
    """Delete a service of yours with its data."""
    progress = Progress()
    with session.api() as api:
        _own(api, name)
        bound = _bound_to(api.apps(), name)
        if bound and not unbind_it:
            raise ClientError(
                f"{name} is bound to {', '.join(bound)}",
                f"unbind it: `ingot unbind-service {name} {bound[0]}`, or add --unbind",
            )
        confirm(f"Delete {name} and its data for good?", force=force)
        with progress.stage("deleting"):
            api.delete_service(name)
    said = (
        f"; it was unbound from {', '.join(bound)}, which see the change when they are restarted"
        if bound
        else ""
    )
    document = {"name": name, "deleted": True, "unbound_from": bound}
    output.result(document, f"{name} is deleted{said}", as_json=as_json)


COMMANDS: tuple[click.Command, ...] = (listing, create, bind, unbind, delete)

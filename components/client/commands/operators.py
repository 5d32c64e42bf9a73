"""Commands for operators: pools, machine images, and the share over NFS."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from components.client import output
from components.client.commands.jobs import ago, follow, jobs, named, wait_option
from components.client.session import Session, json_option, pass_session

_GOAL = {"scale_out": "to capacity", "scale_in": "to the last one deleted"}
_MACHINES = ("NAME", "ADDRESS", "STATE", "PROVIDER", "IMAGE", "#INSTANCES", "RELEASE", "#SINCE")


def _image_of(item: Mapping[str, Any]) -> str | None:
    return item.get("image") or None


@click.group()
def pool() -> None:
    """Show and resize pools of machines."""


@pool.command("list")
@json_option
@pass_session
def pool_list(session: Session, as_json: bool) -> None:
    """List the pools."""
    with session.orchestrator() as api:
        found = api.pools()
    if as_json:
        output.data(found)
        return
    output.table(
        ("NAME", "#SIZE", "#FLOOR", "#MAXIMUM", "PROVIDER", "IMAGE", "JOB"),
        (
            (
                p["name"],
                p["size"],
                p.get("floor"),
                p.get("maximum"),
                p.get("provider"),
                _image_of(p),
                p["job"],
            )
            for p in found
        ),
        "no pools: none is in the orchestrator's configuration",
    )


@pool.command("show")
@click.argument("name")
@json_option
@pass_session
def pool_show(session: Session, name: str, as_json: bool) -> None:
    """Show a pool and its machines."""
    with session.orchestrator() as api:
        found = api.pool(name)
    if as_json:
        output.data(found)
        return
    output.facts(
        (
            ("name", found["name"]),
            ("size", f"{found['size']} (floor {found.get('floor')}, maximum {found.get('maximum')})"),
            ("provider", found.get("provider")),
            ("image", _image_of(found)),
            ("job", found.get("job")),
        )
    )
    output.line("")
    output.table(_MACHINES, (_machine(item) for item in found.get("machines") or []), "no machines")


def _machine(item: Mapping[str, Any]) -> tuple[object, ...]:
    provider = "fixed" if item.get("fixed") else item.get("provider")
    return (
        item["name"],
        item.get("address"),
        item.get("state"),
        provider,
        _image_of(item),
        item.get("instances"),
        item.get("release") or None,
        ago(item.get("since")),
    )


@pool.command("scale")
@click.argument("name")
@click.option(
    "--size", type=click.IntRange(min=0), required=True, help="Number of machines that the pool is to have."
)
@wait_option
@json_option
@pass_session
def pool_scale(session: Session, name: str, size: int, no_wait: bool, as_json: bool) -> None:
    """Resize a pool: machines are made and checked, or emptied and removed."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        job = api.resize(name, size)
        if job is None:
            if as_json:
                output.data({"job": None})
            else:
                output.line(f"{name} has {size} machines already")
            return
        follow(
            api,
            job,
            begun,
            no_wait=no_wait,
            as_json=as_json,
            done=lambda done: f"{name} has {size} machines: from the command {_GOAL[done['kind']]}",
        )


_count = click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many.")


@pool.command("scale-out")
@click.argument("name")
@_count
@wait_option
@json_option
@pass_session
def pool_scale_out(session: Session, name: str, count: int, no_wait: bool, as_json: bool) -> None:
    """Add machines to a pool."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        follow(api, api.scale_out(name, count), begun, no_wait=no_wait, as_json=as_json, done=named)


@pool.command("scale-in")
@click.argument("name")
@_count
@click.option("--machine", default="", help="Remove this machine, instead of those that cost least to empty.")
@wait_option
@json_option
@pass_session
def pool_scale_in(
    session: Session, *, name: str, count: int, machine: str, no_wait: bool, as_json: bool
) -> None:
    """Remove machines from a pool, after moving their instances away."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        job = api.scale_in(name, count, machine)
        follow(api, job, begun, no_wait=no_wait, as_json=as_json, done=named)


@click.group()
def nfs() -> None:
    """Mount and unmount the droplet share over NFS."""


@nfs.command("wire")
@click.argument("hosts", nargs=-1)
@wait_option
@json_option
@pass_session
def nfs_wire(session: Session, hosts: Sequence[str], no_wait: bool, as_json: bool) -> None:
    """Mount the share on machines, one after the other, and check each mount; by default on all."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        follow(api, api.wire_nfs(hosts), begun, no_wait=no_wait, as_json=as_json, done=named)


@nfs.command("unwire")
@click.argument("hosts", nargs=-1)
@wait_option
@json_option
@pass_session
def nfs_unwire(session: Session, hosts: Sequence[str], no_wait: bool, as_json: bool) -> None:
    """Unmount the share on machines again; by default on all."""
    begun = time.monotonic()
    with session.orchestrator() as api:
        follow(api, api.unwire_nfs(hosts), begun, no_wait=no_wait, as_json=as_json, done=named)


@click.group()
def images() -> None:
    """Manage the images that machines are made from."""


@images.command("list")
@json_option
@pass_session
def images_list(session: Session, as_json: bool) -> None:
    """List the registered images."""
    with session.orchestrator() as api:
        found = api.images()
    if as_json:
        output.data(found)
        return
    output.table(
        ("PROVIDER", "NAME", "STATE", "MESSAGE"),
        ((i["provider"], i["name"], i.get("state"), i.get("message") or None) for i in found),
        "no images; next: `ingot images add PROVIDER NAME`",
    )


@images.command("add")
@click.argument("provider")
@click.argument("name")
@click.option("--source", default="", help="Source of the image, where its name does not tell the provider.")
@json_option
@pass_session
def images_add(session: Session, *, provider: str, name: str, source: str, as_json: bool) -> None:
    """Register an image with a provider."""
    with session.orchestrator() as api:
        image = api.add_image(provider, name, source)
    words = f"image {name} of {provider} is registered: {image.get('state')}"
    output.result(image, words, as_json=as_json)


@images.command("remove")
@click.argument("provider")
@click.argument("name")
@json_option
@pass_session
def images_remove(session: Session, provider: str, name: str, as_json: bool) -> None:
    """Remove an image, with the provider's copy of it."""
    with session.orchestrator() as api:
        api.remove_image(provider, name)
    said = {"provider": provider, "name": name, "removed": True}
    output.result(said, f"image {name} of {provider} is removed", as_json=as_json)


COMMANDS: Iterable[click.Command] = (pool, jobs, images, nfs)

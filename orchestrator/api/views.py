"""Machines and pools as the API shows them: the inventory, the rows and the beats together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from orchestrator.bus_view import Dea
from orchestrator.config import PoolConfig
from orchestrator.db.models import DRAINING, LOST, READY, Machine
from orchestrator.inventory.platform_inventory import Host
from orchestrator.services import Services

# The group whose machines beat.
DEA = "dea"


def machines(services: Services, *, listening: bool) -> list[dict[str, Any]]:
    """Return every machine, by name.

    Args:
        services: inventory, database, beats and pools.
        listening: the bus has been heard long enough for silence to mean something.
    """
    with services.db.session() as session:
        shown = {row.name: made(row) for row in session.scalars(select(Machine))}
    announced = {name: view["address"] for name, view in shown.items()}
    for host in services.inventory.hosts().values():
        # One of ours without a row now belongs to another writer: it is counted, and never deleted.
        if host.name not in shown:
            shown[host.name] = fixed(host, services.config.pools, services.ssh.known(host.address))
            announced[host.name] = host.platform_address
    for name, view in shown.items():
        judge(view, services.bus_view.at(announced[name]) if announced[name] else None, listening=listening)
    return [shown[name] for name in sorted(shown)]


def made(row: Machine) -> dict[str, Any]:
    """Return the view of a machine that the orchestrator made."""
    return {
        "name": row.name,
        "address": row.address,
        "groups": row.groups,
        "pool": row.pool,
        "provider": row.provider,
        "image": row.image,
        "state": row.state,
        "fixed": False,
        "host_key": row.host_key,
        "instances": None,
        "release": None,
        "since": row.since,
    }


def fixed(host: Host, pools: Mapping[str, PoolConfig], host_key: str) -> dict[str, Any]:
    """Return the view of a machine of the inventory that people or the lab made."""
    return {
        "name": host.name,
        "address": host.address,
        "groups": list(host.groups),
        "pool": pool_of(host, pools),
        "provider": None,
        "image": None,
        "state": READY,
        "fixed": True,
        "host_key": host_key,
        "instances": None,
        "release": None,
        "since": None,
    }


def judge(view: dict[str, Any], dea: Dea | None, *, listening: bool) -> None:
    """Add the facts of a DEA's beat; a machine that ought to be heard and is not is lost."""
    if dea is not None and dea.fresh:
        view.update(instances=dea.instances, release=dea.release or None)
        if view["state"] == READY and dea.evacuating:
            view["state"] = DRAINING
    elif listening and view["state"] == READY and DEA in view["groups"]:
        view["state"] = LOST


def pool_of(host: Host, pools: Mapping[str, PoolConfig]) -> str | None:
    """Return the pool that a host belongs to: the one whose first group it is in."""
    return next((name for name, pool in pools.items() if pool.groups[0] in host.groups), None)


def pool(name: str, config: PoolConfig, everything: list[dict[str, Any]], job: int | None) -> dict[str, Any]:
    """Return the view of a pool; its floor is never lower than the number of its fixed machines."""
    members = [machine for machine in everything if machine["pool"] == name]
    return {
        "name": name,
        "size": len(members),
        "floor": max(config.floor, sum(machine["fixed"] for machine in members)),
        "maximum": config.maximum,
        "provider": config.provider,
        "image": config.image,
        "machines": members,
        "job": job,
    }

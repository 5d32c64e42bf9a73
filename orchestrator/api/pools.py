"""Calls for pools: their sizes, and growing and shrinking them."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify

from orchestrator.api import views
from orchestrator.api.context import (
    Body,
    Orchestrator,
    accepted,
    body,
    current_orchestrator,
    operator,
    submit,
)
from orchestrator.api.machines import everything
from orchestrator.config import PoolConfig
from orchestrator.errors import RefusedError
from orchestrator.jobs.journal import StaleError

blueprint = Blueprint("pools", __name__)
_TRIES = 10


class SizeBody(Body, frozen=True):
    """`PUT /v2/pools/NAME`."""

    size: int


class OutBody(Body, frozen=True):
    """`POST /v2/pools/NAME/scale_out`."""

    count: int = 1


class InBody(Body, frozen=True):
    """`POST /v2/pools/NAME/scale_in`; a machine by name, or a number of machines."""

    count: int | msgspec.UnsetType = msgspec.UNSET
    machine: str | msgspec.UnsetType = msgspec.UNSET


@blueprint.get("/v2/pools")
def listed() -> Response:
    """List the pools."""
    orchestrator = current_orchestrator()
    machines = everything(orchestrator)
    found = [
        _view(orchestrator, name, pool, machines) for name, pool in sorted(orchestrator.config.pools.items())
    ]
    return jsonify({"pools": found})


@blueprint.get("/v2/pools/<name>")
def one(name: str) -> Response:
    """Return a pool."""
    orchestrator = current_orchestrator()
    return jsonify(_view(orchestrator, name, _known(name), everything(orchestrator)))


@blueprint.put("/v2/pools/<name>")
def resize(name: str) -> tuple[Response, int]:
    """Resize a pool."""
    orchestrator, pool, wanted = current_orchestrator(), _known(name), body(SizeBody).size
    about = f"pool:{name}"
    for _ in range(_TRIES):
        # The size read here must be that of the plan: if a job ends in between, it is read again.
        version = orchestrator.journal.version()
        view = _view(orchestrator, name, pool, everything(orchestrator))
        if not view["floor"] <= wanted <= view["maximum"]:
            raise RefusedError(
                f"size: must be {view['floor']} to {view['maximum']} for pool {name}, not {wanted}"
                + _why_floor(view, pool)
            )
        orchestrator.engine.refuse_locked(about)
        more = wanted - view["size"]
        if not more:
            return jsonify({"job": None}), 200
        kind = "scale_out" if more > 0 else "scale_in"
        request = {"pool": name, "count": abs(more)}
        try:
            return accepted(orchestrator.engine.submit(kind, request, operator(), (about,), version))
        except StaleError:
            continue
    raise RefusedError("other jobs end faster than this one can be planned; try again", 409)


@blueprint.post("/v2/pools/<name>/scale_out")
def scale_out(name: str) -> tuple[Response, int]:
    """Add machines."""
    _known(name)
    count = body(OutBody).count
    _positive(count)
    return submit("scale_out", {"pool": name, "count": count}, f"pool:{name}")


@blueprint.post("/v2/pools/<name>/scale_in")
def scale_in(name: str) -> tuple[Response, int]:
    """Remove machines."""
    _known(name)
    given = body(InBody)
    if given.machine is msgspec.UNSET:
        count = 1 if given.count is msgspec.UNSET else given.count
        _positive(count)
        return submit("scale_in", {"pool": name, "count": count}, f"pool:{name}")
    if given.count is not msgspec.UNSET:
        raise RefusedError("count: not together with machine")
    return submit("scale_in", {"pool": name, "machine": given.machine}, f"pool:{name}")


def _known(name: str) -> PoolConfig:
    pools = current_orchestrator().config.pools
    if name not in pools:
        raise RefusedError(f"there is no pool {name}; known: {', '.join(sorted(pools)) or 'none'}", 404)
    return pools[name]


def _positive(count: int) -> None:
    if count < 1:
        raise RefusedError(f"count: must be 1 or more, not {count}")


def _view(
    orchestrator: Orchestrator, name: str, pool: PoolConfig, machines: list[dict[str, Any]]
) -> dict[str, Any]:
    return views.pool(name, pool, machines, orchestrator.journal.holder(f"pool:{name}"))


def _why_floor(view: dict[str, Any], pool: PoolConfig) -> str:
    if view["floor"] == pool.floor:
        return ""
    return f": {view['floor']} of its machines are fixed and are never deleted"

"""What a worker's request handlers work with, and how they reach it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from flask import Response, current_app, g, request

from components.common import log
from components.common.bus_thread import BusThread
from components.common.identity import Identity
from components.common.probes import authorised
from components.common.share import Share
from components.controller.accounts.auth import Caller, Tokens
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.errors import BusyError, bad_request, denied, no_app
from components.controller.instances.dispatcher import Starter
from components.controller.instances.queries import Asker
from components.controller.lifecycle.use_cases import Lifecycle
from components.controller.operations import Operations
from components.controller.pool.registry import Pool
from components.controller.requests.body import MAX_ANONYMOUS, MAX_JSON, read_json
from components.controller.requests.insiders import Insiders
from components.controller.requests.thread_limits import REPEAT_SECONDS, Held, Places
from components.controller.rolling_updates.runner import Updates
from components.controller.services.broker import Services
from components.controller.services.gateway_client import Gateways
from components.controller.staging.stagings import Stagings
from components.controller.storage.store import Store
from components.controller.upkeep.platform_hosts import PlatformHosts
from components.controller.upkeep.sweeper import Sweeper

EXTENSION = "ingot"
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Controller:
    """One worker's parts."""

    config: ControllerConfig
    identity: Identity
    db: Database
    store: Store
    share: Share
    bus: BusThread
    pool: Pool
    tokens: Tokens
    stagings: Stagings
    lifecycle: Lifecycle
    asker: Asker
    services: Services
    updates: Updates
    sweeper: Sweeper
    operations: Operations
    platform_hosts: PlatformHosts
    held: Held
    insiders: Insiders
    stopping: threading.Event
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def build(cls, config: ControllerConfig, identity: Identity) -> Controller:
        """Make the parts; nothing connects yet."""
        stopping = threading.Event()
        db = Database(config.database_url, config.threads + 4)
        store = Store(Path(config.share_path), share := _share(config))
        bus = BusThread(config.bus, f"controller-{config.index}")
        pool = Pool()
        stagings = Stagings(config, db, store, bus, stopping)
        services = Services(config, db, Gateways(config.service_tokens, broker=config.service_broker_token))
        starter = Starter(bus, pool)
        held = Held.of(config.threads)
        updates = Updates(config, db, store, bus, starter=starter, services=services)
        return cls(
            config=config,
            identity=identity,
            db=db,
            store=store,
            share=share,
            bus=bus,
            pool=pool,
            tokens=Tokens(config.token_keys, config.token_expiration),
            stagings=stagings,
            lifecycle=Lifecycle(
                config, db, store, stagings=stagings, starter=starter, services=services, updates_=updates
            ),
            asker=Asker(bus),
            services=services,
            updates=updates,
            sweeper=Sweeper(config, db, store),
            operations=Operations.build(config, db, bus, pool, store, polls=held.polls),
            platform_hosts=PlatformHosts(config, db, store, bus, starter),
            held=held,
            insiders=Insiders(config.platform_networks, pool.addresses),
            stopping=stopping,
        )

    def draining(self) -> bool:
        """Whether somebody keeps this controller out of the routers' tables."""
        return Path(self.config.drain_file).exists()


def _share(config: ControllerConfig) -> Share:
    """Return the way to the share: a thread for each request that may be under way."""
    return Share(Store(Path(config.share_path)).problem, threads=config.threads + 2)


def here() -> Controller:
    """Give the parts of the worker that handles this request."""
    return cast("Controller", current_app.extensions[EXTENSION])


def user() -> Caller:
    """Give who asks.

    Raises:
        ApiError: 200 for nobody.
    """
    caller: Caller | None = g.caller
    if caller is None:
        raise denied()
    return caller


def admin() -> Caller:
    """Give the administrator who asks.

    Raises:
        ApiError: 200 for anyone else.
    """
    caller = user()
    if not caller.admin:
        raise denied()
    return caller


def json_value(largest: int = MAX_JSON) -> Any:
    """Read the body as JSON, once; an empty one is an empty object.

    Args:
        largest: how many bytes one who is known may send.

    Raises:
        ApiError: 100.
    """
    if "body" not in g:
        known = g.caller is not None or g.get("known", False)
        g.body = read_json(request, largest if known else MAX_ANONYMOUS)
    return g.body


def known(*, shown: bool) -> bool:
    """Note whether a component has shown a password or token that holds; return the same."""
    g.known = g.get("known", False) or shown
    return shown


def json_object() -> Mapping[str, Any]:
    """Read the body as a JSON object.

    Raises:
        ApiError: 100.
    """
    value = json_value()
    if not isinstance(value, dict):
        raise bad_request("the body is not a JSON object")
    return value


def nothing(status: int = 200) -> Response:
    """Give the empty success of 2011: one space."""
    if status == 204:
        return Response(status=204)
    return Response(" ", status=status, mimetype="text/html")


def stored(place: Path, kind: str) -> Response:
    """Give a file of the share.

    Raises:
        ApiError: 301 when it is not there.
        ShareUnwellError: the share does not answer.
    """
    try:
        blocks = here().store.read(place)
    except FileNotFoundError as error:
        raise no_app() from error
    return Response(
        blocks, mimetype=kind, headers={"Content-Length": str(blocks.size)}, direct_passthrough=True
    )


def holding(response: Response, places: Places) -> Response:
    """Return an answer that a client may take its time to read, for as long as there is a place for that.

    Raises:
        BusyError: there is none; what the answer had open is closed.
    """
    if not places.take():
        response.close()
        raise BusyError(REPEAT_SECONDS)
    # Else the server would send the file by itself, and nobody would hear of its end.
    response.direct_passthrough = False
    response.call_on_close(places.give_back)
    return response


def insiders_only() -> None:
    """Let nobody pass but the platform's own machines.

    Raises:
        ApiError: 200 for anyone else, and for whom a router speaks.
    """
    forwarded = "X-Forwarded-For" in request.headers
    if not here().insiders.has(request.remote_addr, forwarded=forwarded):
        logger.warning(
            "internal_route_refused", peer=request.remote_addr, forwarded=forwarded, path=request.path[:64]
        )
        raise denied()


def basic_only(name: str, password: str) -> Response | None:
    """Give the refusal for one who is not that basic user, else None."""
    if known(shown=authorised(request.headers.get("Authorization"), name, password)):
        return None
    return Response("denied\n", 401, {"WWW-Authenticate": 'Basic realm="ingot"'}, mimetype="text/plain")

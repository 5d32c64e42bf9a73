"""The composition root: it makes one worker's parts and connects them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from components.common.bus.thread import BusThread
from components.common.filesystem.share import Share
from components.common.identity import Identity
from components.controller.accounts.auth import Tokens
from components.controller.accounts.usage import UsageTaker
from components.controller.client_address import Network, networks
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.workers import Workers
from components.controller.instances.dispatcher import Dispatcher
from components.controller.instances.queries import InstanceQueries
from components.controller.lifecycle.use_cases import Lifecycle
from components.controller.logs.reader import LogReader
from components.controller.pool.registry import Pool
from components.controller.requests.insiders import Insiders
from components.controller.requests.limits import RequestLimits
from components.controller.requests.query import Cursors
from components.controller.requests.thread_limits import Held
from components.controller.rolling_updates.runner import RollingUpdates
from components.controller.services.broker import ServiceBroker
from components.controller.services.gateway_client import GatewayClient
from components.controller.staging.stagings import Stagings
from components.controller.storage.store import Store
from components.controller.tasks.runner import TaskRunner
from components.controller.upkeep.housekeeping import Housekeeping
from components.controller.upkeep.platform_hosts import PlatformHosts
from components.controller.upkeep.sweeper import Sweeper


@dataclass(frozen=True, slots=True)
class Controller:
    """One worker's parts.

    `limits` bounds the rate of clients' requests, `held` the number of clients that hold a thread. `routers` are the networks
    whose `X-Forwarded-For` is believed. `stopping` is set when the worker is told to end; `begun` is the time of its start, by the
    monotonic clock.
    """

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
    instance_queries: InstanceQueries
    services: ServiceBroker
    rolling_updates: RollingUpdates
    sweeper: Sweeper
    housekeeping: Housekeeping
    tasks: TaskRunner
    usage: UsageTaker
    log_reader: LogReader
    cursors: Cursors
    limits: RequestLimits
    routers: list[Network]
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
        services = ServiceBroker(
            config, db, GatewayClient(config.service_tokens, broker=config.service_broker_token)
        )
        dispatcher = Dispatcher(bus, pool)
        held = Held.of(config.threads)
        limits = RequestLimits.of(config, db)
        tasks = TaskRunner(config, db, store, bus, pool)
        rolling_updates = RollingUpdates(config, db, store, bus, dispatcher=dispatcher, services=services)
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
                config,
                db,
                store,
                stagings=stagings,
                dispatcher=dispatcher,
                services=services,
                rolling_updates=rolling_updates,
            ),
            instance_queries=InstanceQueries(bus),
            services=services,
            rolling_updates=rolling_updates,
            sweeper=Sweeper(config, db, store),
            housekeeping=Housekeeping(config, db, limits, Workers(db), tasks),
            tasks=tasks,
            usage=UsageTaker(db),
            log_reader=LogReader(held.polls),
            cursors=Cursors(config.token_keys),
            limits=limits,
            routers=networks(config.routers),
            platform_hosts=PlatformHosts(config, db, store, bus, dispatcher),
            held=held,
            insiders=Insiders(config.platform_networks, pool.addresses),
            stopping=stopping,
        )

    def draining(self) -> bool:
        """Return whether an operator keeps this controller out of the routers' tables."""
        return Path(self.config.drain_file).exists()


def _share(config: ControllerConfig) -> Share:
    """Return the access to the share, with a thread for each request that may be under way."""
    return Share(Store(Path(config.share_path)).problem, threads=config.threads + 2)

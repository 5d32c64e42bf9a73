"""The parts that jobs work with, made once when the orchestrator starts; tests pass their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.common.bus.thread import BusThread
from orchestrator import iaas
from orchestrator.bus_view import BusView
from orchestrator.config import OrchestratorConfig
from orchestrator.db.database import Database
from orchestrator.iaas.provider import Provider
from orchestrator.inventory.platform_inventory import PlatformInventory
from orchestrator.plays.runner import Plays
from orchestrator.ssh import SshVerifier


@dataclass(frozen=True, slots=True)
class Services:
    """The orchestrator's parts, as jobs use them.

    Attributes:
        config: all of it.
        db: machines, pools and jobs.
        bus: the bus; `bus.request("ingot.dea.<id>.evacuate", …)`.
        bus_view: the DEAs' beats and the routers' endpoints.
        inventory: reads the inventory's folder; writes `20-dea.yml` and `16-release.yml`.
        plays: runs playbooks, each in a unit of its own.
        ssh: checks that a machine answers SSH, and pins its host key.
        providers: IaaS drivers by their names in the configuration.
    """

    config: OrchestratorConfig
    db: Database
    bus: BusThread
    bus_view: BusView
    inventory: PlatformInventory
    plays: Plays
    ssh: SshVerifier
    providers: Mapping[str, Provider]


def build(config: OrchestratorConfig) -> Services:
    """Return all parts; nothing connects yet. The caller starts the bus, and closes bus and database.

    Raises:
        ConfigError: a provider's options are not its driver's.
    """
    providers = iaas.make(config)
    bus = BusThread(config.bus, f"orchestrator-{config.index}")
    inventory = PlatformInventory(Path(config.inventory))
    return Services(
        config=config,
        # Request handlers, jobs, and the few threads beside them.
        db=Database(config.database_url, config.threads + config.parallel_jobs + 4),
        bus=bus,
        bus_view=BusView(bus),
        inventory=inventory,
        plays=Plays(config, inventory),
        ssh=SshVerifier(config.ssh),
        providers=providers,
    )

"""Beats as they come, and services around a real database, a real inventory and hosts that are there already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from components.common.bus.messages import Capacity, DeaBeat, RouterRegister
from components.common.config import parse
from components.common.errors import IngotError
from orchestrator import iaas
from orchestrator.bus_view import BusView
from orchestrator.config import OrchestratorConfig
from orchestrator.db.database import Database
from orchestrator.db.models import Image
from orchestrator.inventory.platform_inventory import PlatformInventory
from orchestrator.jobs.kinds import Facts, JobKind
from orchestrator.plays.events import Failure, Recap
from orchestrator.plays.runner import Play, PlayResult
from orchestrator.services import Services
from orchestrator.ssh import SshError, VerifiedHost

RELEASE = "1.0.0"
KEY = "ssh-ed25519 AAAAC3Nz"


def beat(
    address: str,
    droplets: dict[str, int] | None = None,
    *,
    reserved: int | None = None,
    memory: int = 2048,
    release: str = RELEASE,
    evacuating: bool = False,
    tasks: Iterable[str] = (),
) -> DeaBeat:
    droplets = droplets or {}
    count = sum(droplets.values())
    return DeaBeat(
        id=f"id-{address}",
        address=address,
        capacity=Capacity(
            memory, 128 * count if reserved is None else reserved, instances=count, max_instances=20
        ),
        droplets=droplets,
        release=release,
        evacuating=evacuating,
        tasks=list(tasks),
    )


def route(
    address: str, port: int, app: int, uris: Iterable[str] = ("a.test",), instance: str = ""
) -> RouterRegister:
    return RouterRegister(
        host=address, port=port, uris=list(uris), app=app, private_instance_id=instance or f"i{port}"
    )


@dataclass
class FakePlays:
    """Plays that only note what they were told; `on_run` may say otherwise."""

    ran: list[Play] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    on_run: Callable[[Play], None] = lambda _: None

    def run(self, play: Play, say: Callable[[str], None]) -> PlayResult:
        self.ran.append(play)
        say(f"play: {play.playbook}")
        self.on_run(play)
        recap = {host: Recap(ok=1, failed=int(host in self.bad)) for host in play.limit}
        failures = tuple(Failure(host, "Install", why) for host, why in self.bad.items())
        return PlayResult(play.playbook, "failed" if self.bad else "successful", 0, recap, failures)


@dataclass
class FakeSsh:
    """Admits all but those whose addresses are named, or pinned to another key."""

    silent: set[str] = field(default_factory=set)
    pinned: dict[str, str] = field(default_factory=dict)

    def wait_ready(self, name: str, address: str, *, expected: str = "", say: Any = None) -> VerifiedHost:
        if address in self.silent:
            raise SshError(f"{name} ({address}) did not accept the login")
        if self.pinned.setdefault(address, KEY) != KEY:
            raise SshError(f"{name} ({address}) shows another host key")
        return VerifiedHost(KEY, "SHA256:x", 0.5)

    def forget(self, address: str) -> None:
        self.pinned.pop(address, None)


@dataclass
class FakeBus:
    """Answers for the DEAs: one that is told to evacuate says so from then on."""

    bus_view: BusView
    asked: list[tuple[str, bool]] = field(default_factory=list)
    on_evacuate: Callable[[DeaBeat], None] = lambda _: None
    tasks: tuple[str, ...] = ()

    def request(self, subject: str, message: dict[str, Any], kind: type, timeout: float) -> DeaBeat:
        address = subject.split(".", 2)[2].removeprefix("id-").removesuffix(".evacuate")
        self.asked.append((address, message["evacuating"]))
        dea = self.bus_view.at(address)
        assert dea is not None
        answer = beat(
            address,
            dict(dea.droplets),
            reserved=dea.reserved,
            evacuating=message["evacuating"],
            tasks=self.tasks,
        )
        self.bus_view.on_beat(answer)
        self.on_evacuate(answer)
        return answer


class Hands:
    """Two fixed DEAs, and a provider with `hosts` more. Silence of a second is believed at once."""

    def __init__(self, folder: Path, *, hosts: int = 3, floor: int = 1, maximum: int = 4) -> None:
        inventory = folder / "inventory"
        inventory.mkdir()
        dea = {f"dea{n}": {"ansible_host": f"10.0.0.{n}"} for n in (1, 2)}
        (inventory / "10-fixed.yml").write_text(
            yaml.safe_dump({"all": {"children": {"dea": {"hosts": dea}}}})
        )
        (inventory / "16-release.yml").write_text(
            yaml.safe_dump({"all": {"vars": {"ingot_release": RELEASE}}})
        )
        self.config = parse(
            {
                "bus": {"urls": ["nats://127.0.0.1:4222"]},
                "state_path": str(folder),
                "inventory": str(inventory),
                "releases": str(folder / "releases"),
                "operator_password": "for-tests-only",
                "ssh": {"private_key": "/dev/null", "known_hosts": [str(folder / "known_hosts")]},
                "providers": {
                    "rack": {
                        "driver": "static",
                        "hosts": [{"address": f"10.0.0.{n}"} for n in range(3, 3 + hosts)],
                    }
                },
                "pools": {
                    "dea": {
                        "provider": "rack",
                        "image": "none",
                        "prefix": "dea",
                        "groups": ["dea", "lab"],
                        "floor": floor,
                        "maximum": maximum,
                    }
                },
                "deadlines": {"beat": 0.3, "empty": 0.3},
            },
            OrchestratorConfig,
        )
        self.db = Database(f"sqlite:///{folder / 'orchestrator.db'}")
        self.db.migrate()
        with self.db.session() as session:
            session.add(Image(provider="rack", name="none", since=0))
        self.bus_view = BusView(None)
        self.inventory = PlatformInventory(inventory)
        self.plays, self.ssh, self.bus = FakePlays(), FakeSsh(), FakeBus(self.bus_view)
        self.providers = iaas.make(self.config)
        self.services = Services(
            config=self.config,
            db=self.db,
            bus=cast("Any", self.bus),
            bus_view=self.bus_view,
            inventory=self.inventory,
            plays=cast("Any", self.plays),
            ssh=cast("Any", self.ssh),
            providers=self.providers,
        )
        for n in (1, 2):
            self.bus_view.on_beat(beat(f"10.0.0.{n}"))

    def context(self, facts: Facts) -> FakeJob:
        return FakeJob(7, facts, self.services)

    def job(self, kind: JobKind, request: dict[str, Any]) -> Ended:
        """Do a whole job as the engine does."""
        job = self.context(kind.plan(self.services, request).facts)
        for step in kind.steps(self.services, job.facts):
            try:
                step.run(job)
            except IngotError as error:
                return Ended(job, step.name, str(error), kind.compensate(job, step, str(error)))
        return Ended(job)


@dataclass
class FakeJob:
    """A job at work."""

    job_id: int
    facts: Facts
    services: Services
    said: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.said.append(line)

    def save(self) -> None:
        """Facts live in memory here."""


@dataclass
class Ended:
    """A job that ended, and how."""

    job: FakeJob
    step: str = ""
    why: str = ""
    remedy: str = ""

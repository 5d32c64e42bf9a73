"""`scale_out`: makes a pool bigger. A machine counts as capacity when its DEA beats with the platform's release.

Machines of one job are made side by side. One that fails drops out with its reason, and the others go on; unproven machines
are deleted at the end, so that no machine is left outside of the records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.common.errors import IngotError
from orchestrator.bus_view import Dea
from orchestrator.db.models import CONFIGURING, CREATING, PLANNED, REACHING, READY, Image, Machine
from orchestrator.errors import RefusedError, StepError
from orchestrator.iaas.provider import READY as IMAGE_READY
from orchestrator.iaas.provider import MachineSpec, ProviderError
from orchestrator.jobs import machines
from orchestrator.jobs.kinds import Facts, JobContext, JobPlan, Step
from orchestrator.plays.runner import Play
from orchestrator.rules.pool import grow
from orchestrator.services import Services

_LAST_LINES = 12


class ScaleOut:
    """The kind `scale_out`. Facts: `pool`, `machines`, `release`, and by machine `failed` (why) and `addresses`."""

    name = "scale_out"

    def plan(self, services: Services, request: Mapping[str, Any]) -> JobPlan:
        """Name the machines, and check that there are an image and a release for them."""
        name = str(request["pool"])
        config = machines.known(services, name)
        names = grow(
            machines.pool(services, name), int(request.get("count", 1)), _taken(services, config.provider)
        )
        if (release := services.inventory.release()) is None:
            raise RefusedError(
                "no release is recorded (16-release.yml): install the platform with playbooks/site.yml", 409
            )
        _check_image(services, config.provider, config.image)
        facts = {"pool": name, "machines": names, "release": release, "failed": {}, "addresses": {}}
        return JobPlan(facts, frozenset({f"pool:{name}", *(f"machine:{n}" for n in names)}))

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        """Return the steps, from the provider to the pool."""
        names = tuple(facts["machines"])
        work: dict[str, Callable[[JobContext], None]] = {
            "plan": _plan,
            "create": _create,
            "start": _start,
            "reach": _reach,
            "inventory": _inventory,
            "configure": _configure,
            "capacity": _capacity,
            "settle": _settle,
        }
        return [Step(name, run, names) for name, run in work.items()]

    def compensate(self, job: JobContext, failed: Step, why: str) -> str:
        """Delete unproven machines; machines that are ready stay."""
        services = job.services
        states = {row.name: row.state for row in machines.rows(services, job.facts["machines"])}
        ready = [name for name, state in states.items() if state == READY]
        gone = [name for name in job.facts["machines"] if name not in ready]
        left = machines.each((n for n in gone if n in states), lambda name: _delete(job, name))
        pool = job.facts["pool"]
        words = []
        if ready:
            words.append(f"{', '.join(ready)}: ready, in the pool.")
        if removed := [name for name in gone if name not in left]:
            words.append(f"{', '.join(removed)}: deleted again.")
        words += [f"{name} could not be deleted: {reason}." for name, reason in left.items()]
        if left:
            words.append(f"Remove it with `ingot pool scale-in {pool} --machine {next(iter(left))}`.")
        size = len(machines.pool(services, pool).members)
        words.append(f"Pool {pool} has {size}. When the reason is removed, ask for the size again.")
        return " ".join(words)


def _taken(services: Services, provider: str) -> set[str]:
    """Return the names in use: of the inventory, of rows, and of machines that only the provider still knows."""
    names = {*services.inventory.hosts(), *(row.name for row in machines.rows(services))}
    try:
        return names | {machine.name for machine in services.providers[provider].machines()}
    except ProviderError as error:
        raise RefusedError(str(error), 409) from error


def _check_image(services: Services, provider: str, image: str) -> None:
    with services.db.session() as session:
        registered = session.get(Image, (provider, image)) is not None
    remedy = f"register it: POST /v2/images with provider {provider} and name {image}"
    if not registered:
        raise RefusedError(f"image {image} of provider {provider} is not registered: {remedy}", 409)
    try:
        found = services.providers[provider].find_image(image)
    except ProviderError as error:
        raise RefusedError(str(error), 409) from error
    if found is None or found.state != IMAGE_READY:
        state = found.state if found else "unknown there"
        raise RefusedError(
            f"image {image} of provider {provider} is {state}: {remedy}, which imports it", 409
        )


def _plan(job: JobContext) -> None:
    services, pool = job.services, job.facts["pool"]
    config = services.config.pools[pool]
    now = time.time()
    with services.db.session() as session:
        for name in job.facts["machines"]:
            if session.get(Machine, name) is None:
                session.add(
                    Machine(
                        name=name,
                        pool=pool,
                        provider=config.provider,
                        image=config.image,
                        groups=config.groups,
                        state=PLANNED,
                        job=job.job_id,
                        since=now,
                        created=now,
                    )
                )
    job.say(f"{', '.join(job.facts['machines'])}: from image {config.image} of {config.provider}")


def _create(job: JobContext) -> None:
    services = job.services
    config = services.config.pools[job.facts["pool"]]
    provider = machines.provider(services, config.provider)

    def create(name: str) -> None:
        machines.change(services, name, state=CREATING)
        machine = provider.create(MachineSpec(name, config.image, tuple(config.groups), config.options))
        if name not in job.facts["addresses"]:
            # Any earlier key of this address was another machine's.
            services.ssh.forget(machine.address)
            services.bus_view.forget(machine.address)
            job.facts["addresses"][name] = machine.address
        machines.change(services, name, address=machine.address, native=machine.native)
        job.say(f"{name}: made at {machine.address}")

    _together(job, create)


def _start(job: JobContext) -> None:
    provider = machines.provider_of(job)
    _together(job, provider.start)


def _reach(job: JobContext) -> None:
    services, provider = job.services, machines.provider_of(job)

    def reach(name: str) -> None:
        machines.change(services, name, state=REACHING)
        machine = provider.find(name)
        if machine is None:
            raise StepError("its provider no longer has this machine")
        try:
            verified = services.ssh.wait_ready(name, machine.address, expected=machine.host_key, say=job.say)
        except IngotError as error:
            last = "\n".join(provider.console_tail(name).splitlines()[-_LAST_LINES:])
            raise StepError(f"{error}\n{last}".rstrip()) from error
        machines.change(services, name, host_key=verified.host_key)
        job.say(f"{name}: answers after {verified.seconds:.1f} s, host key {verified.fingerprint} pinned")

    _together(job, reach)


def _inventory(job: JobContext) -> None:
    groups = job.services.config.pools[job.facts["pool"]].groups
    for name in _left(job):
        job.services.inventory.add(name, job.facts["addresses"][name], groups)
    job.say("in the inventory")


def _configure(job: JobContext) -> None:
    services, names = job.services, _left(job)
    for name in names:
        machines.change(services, name, state=CONFIGURING)
    key = f"{job.job_id}-configure"
    play = Play(key, "scale_out.yml", limit=names, release=job.facts["release"])
    result = services.plays.run(play, job.say)
    reasons = {f.host: f"{f.task}: {f.message}" for f in result.failures}
    bad = {}
    for name in names:
        recap = result.recap.get(name)
        if recap is None:
            # The play broke before it reached the hosts, or it never reached this one.
            result.check()
            bad[name] = reasons.get(name, "the play did not reach it")
        elif recap.failed or recap.unreachable:
            bad[name] = reasons.get(name, "the play failed")
    _drop(job, bad)


def _capacity(job: JobContext) -> None:
    services, names = job.services, _left(job)
    addresses = {name: job.facts["addresses"][name] for name in names}
    release = job.facts["release"]

    def missing() -> dict[str, str]:
        found = {
            name: _not_yet(services.bus_view.at(address), release) for name, address in addresses.items()
        }
        return {name: why for name, why in found.items() if why}

    def tell() -> str:
        return "; ".join(f"{name}: {why}" for name, why in missing().items())

    seconds = services.config.deadlines.beat
    machines.wait(job, lambda: not missing(), seconds, tell)
    for name in names:
        dea = services.bus_view.at(addresses[name])
        if dea is not None and not _not_yet(dea, release):
            job.say(f"{name}: beats as DEA {dea.id}, release {dea.release}, {dea.memory} MB for instances")
    _drop(job, {name: f"{why} after {seconds:.0f} s" for name, why in missing().items()})


def _settle(job: JobContext) -> None:
    names = _left(job)
    for name in names:
        machines.change(job.services, name, state=READY, message="")
    size = len(machines.pool(job.services, job.facts["pool"]).members) - len(job.facts["failed"])
    job.say(f"{', '.join(names)}: ready; pool {job.facts['pool']} has {size}")
    if job.facts["failed"]:
        raise StepError(_reasons(job))


def _not_yet(dea: Dea | None, release: str) -> str:
    if dea is None or not dea.fresh:
        return "no beat on the bus"
    if dea.release != release:
        return f"runs release {dea.release or 'unknown'}, not {release}"
    return "evacuates" if dea.evacuating else ""


def _left(job: JobContext) -> list[str]:
    """Return the machines that have not dropped out."""
    return [name for name in job.facts["machines"] if name not in job.facts["failed"]]


def _together(job: JobContext, work: Callable[[str], object]) -> None:
    _drop(job, machines.each(_left(job), work))


def _drop(job: JobContext, failed: Mapping[str, str]) -> None:
    """Let machines drop out; the step has failed where none is left."""
    for name, why in failed.items():
        machines.change(job.services, name, message=why)
        job.facts["failed"][name] = why
        job.say(f"{name}: {why}")
    if not _left(job):
        raise StepError(_reasons(job))


def _reasons(job: JobContext) -> str:
    return "; ".join(f"{name}: {why}" for name, why in job.facts["failed"].items())


def _delete(job: JobContext, name: str) -> None:
    """Delete a machine; instances that its DEA has already taken are moved first."""
    services = job.services
    address = job.facts["addresses"].get(name, "")
    dea = services.bus_view.at(address) if address else None
    if dea is not None and dea.fresh and dea.instances:
        machines.evacuate(services, address)
        services.bus_view.wait_for(
            lambda bus_view: (at := bus_view.at(address)) is None or not at.fresh or not at.instances,
            services.config.deadlines.beat,
        )
    machines.remove(services, name)
    job.say(f"{name}: deleted")

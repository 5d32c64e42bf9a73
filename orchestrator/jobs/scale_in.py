"""`scale_in`: makes a pool smaller without losing a request: a machine leaves when its instances are routed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.common.errors import IngotError
from orchestrator.bus_view import BusView
from orchestrator.db.models import DRAINING, FAILED, LEAVING, READY
from orchestrator.errors import StepError
from orchestrator.jobs import machines
from orchestrator.jobs.kinds import Facts, JobContext, JobPlan, Step
from orchestrator.plays.runner import Play
from orchestrator.rules.pool import busy, crowded, occupied, shrink, without
from orchestrator.services import Services

_STOP_SECONDS = 30.0


class ScaleIn:
    """The kind `scale_in`; see `JobKind`.

    Facts: `pool`, `machines`, `addresses` (by machine), `played` (those that the play stops), and `routes`: how many
    endpoints each application had in the whole platform when the first machine began to leave.
    """

    name = "scale_in"

    def plan(self, services: Services, request: Mapping[str, Any]) -> JobPlan:
        """Choose the machines that cost least to empty, or check the named one."""
        name = str(request["pool"])
        pool = machines.pool(services, name)
        chosen = (
            without(pool, str(request["machine"]))
            if "machine" in request
            else shrink(pool, int(request.get("count", 1)))
        )
        rows = {row.name: row for row in machines.rows(services, chosen)}
        facts = {
            "pool": name,
            "machines": chosen,
            "addresses": {n: rows[n].address for n in chosen},
        }
        return JobPlan(facts, frozenset({f"pool:{name}", *(f"machine:{n}" for n in chosen)}))

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        """Return the steps, from the pool back to the provider."""
        names = tuple(facts["machines"])
        work: dict[str, Callable[[JobContext], None]] = {
            "choose": _choose,
            "evacuate": _evacuate,
            "moved": _moved,
            "stop": _stop,
            "forget": _forget,
            "delete": _delete,
        }
        return [Step(name, run, names) for name, run in work.items()]

    def compensate(self, job: JobContext, failed: Step, why: str) -> str:
        """Let machines that still serve take instances again; half removed ones are named as failed."""
        services = job.services
        words, half = [], []
        for row in machines.rows(services, job.facts["machines"]):
            if row.state in (DRAINING, READY):
                unsure = _take_back(job, row.name, row.address)
                again = unsure or "takes instances again; nothing was stopped"
                words.append(f"{row.name}: {again}.")
            else:
                half.append(row.name)
                machines.change(services, row.name, state=FAILED, message=why)
        pool = job.facts["pool"]
        words += [
            f"{name}: empty and half removed; go on with `ingot pool scale-in {pool} --machine {name}`."
            for name in half
        ]
        words.append(f"Pool {pool} has {len(machines.pool(services, pool).members)}.")
        return " ".join(words)


def _choose(job: JobContext) -> None:
    services, names = job.services, job.facts["machines"]
    # The plan may be older than the last beats.
    pool = machines.pool(services, job.facts["pool"])
    if why := occupied(pool, names) or crowded(pool, names):
        raise StepError(why)
    for row in machines.rows(services, names):
        if row.state in (READY, DRAINING):
            machines.change(services, row.name, state=DRAINING, job=job.job_id)
        dea = services.bus_view.at(row.address) if row.address else None
        if dea is not None and dea.fresh:
            job.say(f"{row.name}: {dea.instances} instances, {dea.reserved} of {dea.memory} MB")
        else:
            job.say(f"{row.name}: not heard on the bus; it has nothing that could be moved")


def _evacuate(job: JobContext) -> None:
    services, facts = job.services, job.facts
    if "routes" not in facts:
        facts["routes"] = routed(services.bus_view, ())
        job.save()

    def evacuate(name: str) -> None:
        if (beat := machines.evacuate(services, facts["addresses"][name])) is not None:
            # A task began in between: from now on none can.
            if beat.tasks:
                raise StepError(busy(beat.tasks))
            job.say(f"{name}: evacuates, {sum(beat.droplets.values())} instances to move")

    _check(machines.each(facts["machines"], evacuate))


def _moved(job: JobContext) -> None:
    services, facts = job.services, job.facts
    addresses = {name: facts["addresses"][name] for name in facts["machines"] if facts["addresses"][name]}

    def waits() -> list[str]:
        return waiting(services.bus_view, addresses, facts["routes"])

    seconds = services.config.deadlines.empty
    if not machines.wait(job, lambda: not waits(), seconds, lambda: "; ".join(waits())):
        raise StepError(f"not empty after {seconds:.0f} s: {'; '.join(waits())}")
    job.say(f"{', '.join(facts['machines'])}: empty; all that ran there is routed elsewhere")


def _stop(job: JobContext) -> None:
    services, facts = job.services, job.facts
    if "played" not in facts:
        listed = services.inventory.hosts()
        # A silent machine cannot be reached either; and once the play has begun, they fall silent one by one.
        facts["played"] = [
            name
            for name in facts["machines"]
            if name in listed
            and (dea := services.bus_view.at(facts["addresses"][name])) is not None
            and dea.fresh
        ]
        job.save()
    for name in facts["machines"]:
        machines.change(services, name, state=LEAVING)
    if facts["played"]:
        services.plays.run(Play(f"{job.job_id}-stop", "scale_in.yml", limit=facts["played"]), job.say).check()
    provider = machines.provider_of(job)

    def stop(name: str) -> None:
        if provider.find(name) is not None:
            provider.stop(name, _STOP_SECONDS)
            job.say(f"{name}: stopped")

    _check(machines.each(facts["machines"], stop))


def _forget(job: JobContext) -> None:
    for name in job.facts["machines"]:
        machines.forget(job.services, name, job.facts["addresses"][name])
    job.say("out of the inventory, host keys forgotten")


def _delete(job: JobContext) -> None:
    def delete(name: str) -> None:
        machines.remove(job.services, name)
        job.say(f"{name}: deleted")

    _check(machines.each(job.facts["machines"], delete))


def routed(bus_view: BusView, without_addresses: Sequence[str]) -> dict[str, int]:
    """Return the number of endpoints of each application (by id as text) that are on other machines."""
    counts: dict[str, int] = {}
    for endpoint in bus_view.endpoints():
        if endpoint.app is not None and endpoint.address not in without_addresses:
            counts[str(endpoint.app)] = counts.get(str(endpoint.app), 0) + 1
    return counts


def waiting(bus_view: BusView, leaving: Mapping[str, str], routes: Mapping[str, int]) -> list[str]:
    """Return in words what leaving machines still wait for.

    Args:
        bus_view: the present beats and endpoints.
        leaving: address by machine.
        routes: endpoints of each application before the first machine began to leave.

    Returns:
        Instances and routes that are left there, and applications that are not routed elsewhere as often as they were (or as
        often as they run: one may have been scaled down meanwhile). Empty when the machines can go.
    """
    found = []
    for name, address in leaving.items():
        dea = bus_view.at(address)
        if dea is not None and dea.fresh and dea.instances:
            found.append(f"{name}: {dea.instances} instances left")
        # The routes of a silent machine end only when the routers prune them.
        if dea is not None and dea.fresh and (endpoints := bus_view.endpoints(address)):
            found.append(f"{name}: {len(endpoints)} routes left")
    gone = set(leaving.values())
    running: dict[str, int] = {}
    for dea in bus_view.deas():
        if dea.fresh and dea.address not in gone:
            for app, count in dea.droplets.items():
                running[app] = running.get(app, 0) + count
    elsewhere = routed(bus_view, tuple(gone))
    for app, before in routes.items():
        wanted = min(before, running.get(app, 0))
        if elsewhere.get(app, 0) < wanted:
            found.append(f"application {app}: {elsewhere.get(app, 0)} of {wanted} instances routed elsewhere")
    return found


def _take_back(job: JobContext, name: str, address: str) -> str:
    """Let a machine take instances again.

    Returns:
        The reason why it may not do so; empty where it does.
    """
    services = job.services
    try:
        machines.evacuate(services, address, evacuating=False)
    except IngotError as error:
        why = f"it may still evacuate: {error}"
    else:
        why = ""
    machines.change(services, name, state=READY, message=why)
    return why


def _check(failed: Mapping[str, str]) -> None:
    if failed:
        raise StepError("; ".join(f"{name}: {why}" for name, why in failed.items()))

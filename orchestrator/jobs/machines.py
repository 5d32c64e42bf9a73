"""Work on pools' machines that several jobs share: their rows, and their removal from the platform."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select

from components.common.bus.messages import DeaBeat
from components.common.errors import BusError, IngotError
from orchestrator.config import PoolConfig
from orchestrator.db.models import FAILED, LEAVING, Machine
from orchestrator.errors import RefusedError, StepError
from orchestrator.iaas.provider import Provider
from orchestrator.jobs.kinds import JobContext
from orchestrator.rules.pool import Member, Pool
from orchestrator.services import Services

# An agent answers at once, or is not there; a bus that is away comes back.
_ASK_SECONDS, _ASK_TRIES = 2.0, 5
# The engine may end meanwhile: no wait is longer than this without a check.
LOOK_SECONDS = 2.0


def known(services: Services, name: str) -> PoolConfig:
    """Return a pool's configuration.

    Raises:
        RefusedError: there is none of that name.
    """
    if (config := services.config.pools.get(name)) is None:
        names = ", ".join(sorted(services.config.pools)) or "none"
        raise RefusedError(f"there is no pool {name}; known: {names}", 404)
    return config


def pool(services: Services, name: str) -> Pool:
    """Return a pool as it stands: the machines that it made, and the others of its group."""
    config = known(services, name)
    made = {row.name: row for row in rows(services) if row.pool == name}
    members = [
        Member(
            row.name,
            fixed=False,
            state=row.state,
            dea=services.bus_view.at(row.address) if row.address else None,
        )
        for row in made.values()
    ]
    members += [
        Member(host.name, fixed=True, dea=services.bus_view.at(host.platform_address))
        for host in services.inventory.members(config.groups[0])
        if host.name not in made
    ]
    return Pool(name, config.prefix, config.floor, config.maximum, members)


def rows(services: Services, names: Sequence[str] | None = None) -> list[Machine]:
    """Return machines' rows, all of them or those of some names."""
    with services.db.session() as session:
        wanted = select(Machine).order_by(Machine.name)
        return list(session.scalars(wanted if names is None else wanted.where(Machine.name.in_(names))))


def row(services: Services, name: str) -> Machine:
    """Return a machine's row.

    Raises:
        StepError: it has none.
    """
    if found := rows(services, [name]):
        return found[0]
    raise StepError(f"{name} is gone: the orchestrator has no record of it")


def change(services: Services, name: str, **values: Any) -> None:
    """Change a machine's row, if it has one; a new state is dated."""
    with services.db.session() as session:
        if (there := session.get(Machine, name)) is None:
            return
        if values.get("state", there.state) != there.state:
            there.since = time.time()
        for key, value in values.items():
            setattr(there, key, value)


def each(names: Iterable[str], work: Callable[[str], object]) -> dict[str, str]:
    """Call a function for several machines at once.

    Returns:
        The reason of each failure, by machine.
    """
    listed = list(names)
    if not listed:
        return {}
    failed = {}
    with ThreadPoolExecutor(len(listed), thread_name_prefix="machine") as threads:
        begun = {name: threads.submit(work, name) for name in listed}
        for name, done in begun.items():
            try:
                done.result()
            except IngotError as error:
                failed[name] = str(error)
    return failed


def evacuate(services: Services, address: str, *, evacuating: bool = True) -> DeaBeat | None:
    """Tell the DEA of a machine to take no instances and have its own moved, or to take some again.

    Returns:
        Its beat; None where no DEA is heard there.

    Raises:
        StepError: it is heard and does not answer.
    """
    if (dea := services.bus_view.at(address)) is None or not dea.fresh:
        return None
    for tries_left in reversed(range(_ASK_TRIES)):
        try:
            return services.bus.request(
                f"ingot.dea.{dea.id}.evacuate", {"evacuating": evacuating}, DeaBeat, _ASK_SECONDS
            )
        except BusError as error:
            if not tries_left:
                raise StepError(f"the DEA at {address} does not answer: {error}") from error
            time.sleep(_ASK_SECONDS / 2)
    raise AssertionError("every way out of the loop is inside it")


def wait(job: JobContext, condition: Callable[[], bool], seconds: float, tell: Callable[[], str]) -> bool:
    """Wait until a condition of the beats holds, with lines of progress now and then.

    Args:
        job: the step.
        condition: called at every message.
        seconds: at most.
        tell: returns a line; the same line is written once.

    Returns:
        Whether it holds.
    """
    ends = time.monotonic() + seconds
    said = ""
    while not job.services.bus_view.wait_for(
        lambda _: condition(), min(LOOK_SECONDS, ends - time.monotonic())
    ):
        if time.monotonic() >= ends:
            return False
        if (line := tell()) != said:
            job.say(line)
            said = line
        # This also notices that the engine ends.
        job.save()
    return True


def forget(services: Services, name: str, address: str) -> None:
    """Remove a machine from the inventory, and its key from the trusted ones."""
    services.inventory.remove(name)
    if address:
        services.ssh.forget(address)


def remove(services: Services, name: str) -> None:
    """Remove a machine that the orchestrator made, and its row; a missing one is no error.

    Raises:
        IngotError: the removal failed; the row stays, as failed and with the reason.
    """
    for there in rows(services, [name]):
        change(services, name, state=LEAVING)
        try:
            forget(services, name, there.address)
            provider(services, there.provider).delete(name)
        except IngotError as error:
            change(services, name, state=FAILED, message=str(error))
            raise
        if there.address:
            services.bus_view.forget(there.address)
        with services.db.session() as session:
            if (last := session.get(Machine, name)) is not None:
                session.delete(last)


def provider(services: Services, name: str) -> Provider:
    """Return a driver.

    Raises:
        StepError: the configuration has none of that name any more.
    """
    if (found := services.providers.get(name)) is None:
        raise StepError(f"the orchestrator's configuration no longer has the provider {name}: put it back")
    return found


def provider_of(job: JobContext) -> Provider:
    """Return the driver of the pool that a job works on (`facts["pool"]`)."""
    return provider(job.services, job.services.config.pools[job.facts["pool"]].provider)

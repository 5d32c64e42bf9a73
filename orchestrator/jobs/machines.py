"""Work on pools' machines that several jobs share: their rows, and their removal from the platform."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select

from components.common.errors import BusError, IngotError
from components.common.messages import DeaBeat
from orchestrator.config import PoolConfig
from orchestrator.iaas.provider import Provider
from orchestrator.jobs.kinds import Doing, RefusedError, StepError
from orchestrator.models import FAILED, LEAVING, Machine
from orchestrator.pool import Member, Pool
from orchestrator.tools import Tools

# An agent answers at once, or is not there; a bus that is away comes back.
_ASK_SECONDS, _ASK_TRIES = 2.0, 5
# The engine may end meanwhile: no wait is longer than this without a check.
LOOK_SECONDS = 2.0


def known(tools: Tools, name: str) -> PoolConfig:
    """Return a pool's configuration.

    Raises:
        RefusedError: there is none of that name.
    """
    if (config := tools.config.pools.get(name)) is None:
        names = ", ".join(sorted(tools.config.pools)) or "none"
        raise RefusedError(f"there is no pool {name}; known: {names}", 404)
    return config


def pool(tools: Tools, name: str) -> Pool:
    """Return a pool as it stands: the machines that it made, and the others of its group."""
    config = known(tools, name)
    made = {row.name: row for row in rows(tools) if row.pool == name}
    members = [
        Member(
            row.name, fixed=False, state=row.state, dea=tools.beats.at(row.address) if row.address else None
        )
        for row in made.values()
    ]
    members += [
        Member(host.name, fixed=True, dea=tools.beats.at(host.platform_address))
        for host in tools.inventory.members(config.groups[0])
        if host.name not in made
    ]
    return Pool(name, config.prefix, config.floor, config.maximum, members)


def rows(tools: Tools, names: Sequence[str] | None = None) -> list[Machine]:
    """Return machines' rows, all of them or those of some names."""
    with tools.db.session() as session:
        wanted = select(Machine).order_by(Machine.name)
        return list(session.scalars(wanted if names is None else wanted.where(Machine.name.in_(names))))


def row(tools: Tools, name: str) -> Machine:
    """Return a machine's row.

    Raises:
        StepError: it has none.
    """
    if found := rows(tools, [name]):
        return found[0]
    raise StepError(f"{name} is gone: the orchestrator has no record of it")


def change(tools: Tools, name: str, **values: Any) -> None:
    """Change a machine's row, if it has one; a new state is dated."""
    with tools.db.session() as session:
        if (there := session.get(Machine, name)) is None:
            return
        if values.get("state", there.state) != there.state:
            there.since = time.time()
        for key, value in values.items():
            setattr(there, key, value)


def each(names: Iterable[str], work: Callable[[str], None]) -> dict[str, str]:
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


def evacuate(tools: Tools, address: str, *, evacuating: bool = True) -> DeaBeat | None:
    """Tell the DEA of a machine to take no instances and have its own moved, or to take some again.

    Returns:
        Its beat; None where no DEA is heard there.

    Raises:
        StepError: it is heard and does not answer.
    """
    if (dea := tools.beats.at(address)) is None or not dea.fresh:
        return None
    for tries_left in reversed(range(_ASK_TRIES)):
        try:
            return tools.bus.request(
                f"ingot.dea.{dea.id}.evacuate", {"evacuating": evacuating}, DeaBeat, _ASK_SECONDS
            )
        except BusError as error:
            if not tries_left:
                raise StepError(f"the DEA at {address} does not answer: {error}") from error
            time.sleep(_ASK_SECONDS / 2)
    raise AssertionError("every way out of the loop is inside it")


def wait(doing: Doing, condition: Callable[[], bool], seconds: float, tell: Callable[[], str]) -> bool:
    """Wait until a condition of the beats holds, with lines of progress now and then.

    Args:
        doing: the step.
        condition: called at every message.
        seconds: at most.
        tell: returns a line; the same line is written once.

    Returns:
        Whether it holds.
    """
    ends = time.monotonic() + seconds
    said = ""
    while not doing.tools.beats.wait_for(lambda _: condition(), min(LOOK_SECONDS, ends - time.monotonic())):
        if time.monotonic() >= ends:
            return False
        if (line := tell()) != said:
            doing.say(line)
            said = line
        # This also notices that the engine ends.
        doing.save()
    return True


def forget(tools: Tools, name: str, address: str) -> None:
    """Remove a machine from the inventory, and its key from the trusted ones."""
    tools.inventory.remove(name)
    if address:
        tools.gate.forget(address)


def remove(tools: Tools, name: str) -> None:
    """Remove a machine that the orchestrator made, and its row; a missing one is no error.

    Raises:
        IngotError: the removal failed; the row stays, as failed and with the reason.
    """
    for there in rows(tools, [name]):
        change(tools, name, state=LEAVING)
        try:
            forget(tools, name, there.address)
            provider(tools, there.provider).delete(name)
        except IngotError as error:
            change(tools, name, state=FAILED, message=str(error))
            raise
        if there.address:
            tools.beats.forget(there.address)
        with tools.db.session() as session:
            if (last := session.get(Machine, name)) is not None:
                session.delete(last)


def provider(tools: Tools, name: str) -> Provider:
    """Return a driver.

    Raises:
        StepError: the configuration has none of that name any more.
    """
    if (found := tools.providers.get(name)) is None:
        raise StepError(f"the orchestrator's configuration no longer has the provider {name}: put it back")
    return found

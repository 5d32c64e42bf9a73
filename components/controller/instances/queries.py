"""Questions to DEAs and health managers on behalf of clients (protocol 1.10 and 1.12)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from components.common.bus.client import Bus
from components.common.bus.messages import (
    FindDroplet,
    FoundDroplet,
    HealthQuery,
    HealthReply,
    IndicesReply,
    InstancesReply,
    StatusQuery,
)
from components.common.bus.thread import BusThread
from components.common.digits import whole_number
from components.common.errors import BusError, MessageError
from components.common.states import LIVE, AppState, IndexState, InstanceState
from components.controller.apps.summary import AppSummary
from components.controller.instances.health_cache import HealthCache
from components.controller.logs.merge import Source, chosen
from components.controller.logs.reader import source

HEALTH_SECONDS = 1.0
# The time for which a health manager's answer is reused: its own data is as old as the last heartbeats, 10 s.
RECENT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
# How long DEAs may take to say which instances they have: where a client is shown them, before their lines are read, and in
# each step of a rolling update. They answer in milliseconds; a step does not count one that is slower as empty.
SHOW_SECONDS, LOGS_SECONDS, STEP_SECONDS = 2.0, 1.0, 0.4
# A larger number is an instance's id.
LARGEST_INDEX = 9_999_999_999


async def find(
    bus: Bus,
    query: FindDroplet,
    seconds: float,
    enough: Callable[[list[FoundDroplet]], bool] | None = None,
) -> list[FoundDroplet]:
    """Return what the DEAs answer within `seconds`; `enough` is called after every answer, and True ends the wait.

    Raises:
        BusUnavailableError: no connection.
    """
    return await bus.request_many("dea.find.droplet", query, FoundDroplet, timeout=seconds, enough=enough)


class InstanceQueries:
    """Questions over the bus; without the bus the answers are empty."""

    def __init__(self, bus: BusThread) -> None:
        self._bus = bus
        self._recent = HealthCache(RECENT_SECONDS)

    def running(self, apps: Iterable[AppSummary]) -> dict[int, int]:
        """Return the numbers of healthy instances of started applications by id; unknown applications are left out."""
        wanted = {app.id: app.version for app in apps if app.state == AppState.STARTED}
        known = self._recent.of(wanted, time.monotonic())
        asked = {d: v for d, v in wanted.items() if d not in known}
        if not asked:
            return known
        query = HealthQuery(droplets=[{"droplet": d, "version": v} for d, v in asked.items()])

        def enough(replies: list[HealthReply]) -> bool:
            return {r.droplet for r in replies} >= asked.keys()

        try:
            work = self._bus.bus.request_many(
                "healthmanager.health", query, HealthReply, timeout=HEALTH_SECONDS, enough=enough
            )
            replies = self._bus.run(work)
        except BusError:
            return known
        fresh: dict[int, int] = {}
        for reply in replies:
            if reply.droplet in asked:
                fresh.setdefault(reply.droplet, reply.healthy)
        self._recent.keep({d: (asked[d], healthy) for d, healthy in fresh.items()}, time.monotonic())
        return {**known, **fresh}

    def instances(self, app: AppSummary) -> list[dict[str, Any]]:
        """Return one entry for each expected index, in order."""
        if app.state != AppState.STARTED:
            return []
        found, flapping = self._bus.run(self._instances(app))
        entries = {
            f.index: {
                "index": f.index,
                "state": f.state,
                "since": f.state_timestamp,
                "debug_ip": f.debug_ip,
                "debug_port": f.debug_port,
                "console_ip": f.console_ip,
                "console_port": f.console_port,
            }
            for f in found.values()
        }
        for entry in flapping:
            index = entry.get("index", -1)
            entries.setdefault(
                index,
                {"index": index, "state": IndexState.FLAPPING, "since": entry.get("since", int(time.time()))},
            )
        now = int(time.time())
        return [
            entries.get(i, {"index": i, "state": IndexState.DOWN, "since": now}) for i in range(app.instances)
        ]

    def stats(self, app: AppSummary) -> dict[str, dict[str, Any]]:
        """Return one entry for each expected index, keyed by the index as text."""
        if app.state != AppState.STARTED:
            return {}
        query = FindDroplet(
            droplet=app.id, version=app.version, states=[InstanceState.RUNNING], include_stats=True
        )
        found = self._bus.run(self._find(query, app.instances))
        now = int(time.time())
        return {
            str(i): {"state": found[i].state, "stats": found[i].stats or {}}
            if i in found
            else {"state": IndexState.DOWN, "since": now}
            for i in range(app.instances)
        }

    def crashes(self, app: AppSummary) -> list[dict[str, Any]]:
        """Return the crashed instances that a health manager knows."""
        query = StatusQuery(droplet=app.id, state=InstanceState.CRASHED)
        try:
            return self._bus.request(
                "healthmanager.status", query, InstancesReply, timeout=ANSWER_SECONDS
            ).instances
        except (BusError, MessageError):
            return []

    def locate(self, app: AppSummary, instance: str) -> FoundDroplet | None:
        """Return the place of an instance's files, by its index (up to ten digits) or its id; None where it is not found."""
        index = whole_number(instance, LARGEST_INDEX)
        if index is not None:
            query = FindDroplet(
                droplet=app.id, version=app.version, indices=[index], states=[*LIVE, InstanceState.CRASHED]
            )
        else:
            query = FindDroplet(droplet=app.id, instances=[instance], instance_ids=[instance])

        def enough(answers: list[FoundDroplet]) -> bool:
            return any(a.state in LIVE or a.instance == instance for a in answers)

        try:
            answers = self._bus.run(find(self._bus.bus, query, SHOW_SECONDS, enough))
        except BusError:
            return None
        if query.indices is None:
            # A DEA of 2011 ignores both members and answers for all.
            answers = [a for a in answers if a.instance == instance]
        answers.sort(key=lambda a: (a.state in LIVE, a.state_timestamp), reverse=True)
        return answers[0] if answers else None

    def log_sources(self, app: AppSummary, index: int | None = None) -> list[Source]:
        """Return the sources of an application's lines, of crashed instances too: of all, or of one index."""
        query = FindDroplet(
            droplet=app.id, indices=None if index is None else [index], states=[*LIVE, InstanceState.CRASHED]
        )
        wanted = set(range(app.instances)) if index is None else {index}

        def enough(answers: list[FoundDroplet]) -> bool:
            return {a.index for a in answers if a.state in LIVE} >= wanted

        try:
            answers = self._bus.run(find(self._bus.bus, query, LOGS_SECONDS, enough))
        except BusError:
            return []
        return chosen(source(a) for a in answers if index is None or a.index == index)

    async def _instances(self, app: AppSummary) -> tuple[dict[int, FoundDroplet], list[dict[str, int]]]:
        # Both questions at once; the flapping instances matter only where an index is missing.
        flapping = asyncio.create_task(self._flapping(app))
        query = FindDroplet(droplet=app.id, version=app.version, states=[*LIVE])
        found = await self._find(query, app.instances)
        if len(found) >= app.instances:
            flapping.cancel()
            return found, []
        return found, await flapping

    async def _find(self, query: FindDroplet, expected: int) -> dict[int, FoundDroplet]:
        def enough(answers: list[FoundDroplet]) -> bool:
            return {a.index for a in answers} >= set(range(expected))

        try:
            answers = await find(self._bus.bus, query, SHOW_SECONDS, enough)
        except BusError:
            return {}
        # Of two instances with one index the running one is shown.
        answers.sort(key=lambda a: a.state == InstanceState.RUNNING)
        return {a.index: a for a in answers if a.index < expected}

    async def _flapping(self, app: AppSummary) -> list[dict[str, int]]:
        query = StatusQuery(droplet=app.id, state=IndexState.FLAPPING, version=app.version)
        try:
            reply = await self._bus.bus.request(
                "healthmanager.status", query, IndicesReply, timeout=ANSWER_SECONDS
            )
        except (BusError, MessageError):
            return []
        return reply.indices

"""The replies to `healthmanager.status` and `healthmanager.health`, and `/varz` (protocol 5.5). Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from components.common.bus.messages import HealthQuery, HealthReply, IndicesReply, InstancesReply, StatusQuery
from components.health_manager.actual import ActualTable
from components.health_manager.analysis import Decision
from components.health_manager.config import Intervals
from components.health_manager.desired import STARTED, DesiredTable
from components.health_manager.state import RUNNING


def status(
    query: StatusQuery, desired: DesiredTable, table: ActualTable, now: float, s: Intervals
) -> IndicesReply | InstancesReply | None:
    """Return the reply to `healthmanager.status`; None, which is silence, for an unknown application or state."""
    app = desired.apps.get(query.droplet)
    if app is None:
        return None
    actual = table.apps.get(query.droplet)
    if query.state == "FLAPPING":
        version = query.version or app.version
        return IndicesReply(
            indices=[
                {"index": number, "since": index.crashed_since}
                for (of, number), index in (sorted(actual.indices.items()) if actual else ())
                if of == version and index.flapping(now, s)
            ]
        )
    if query.state == "CRASHED":
        return InstancesReply(
            instances=[
                {"instance": name, "since": crash.since}
                for name, crash in (actual.crashed.items() if actual else ())
            ]
        )
    return None


def health(query: HealthQuery, desired: DesiredTable, table: ActualTable) -> list[HealthReply]:
    """Return the replies to `healthmanager.health`, one per known application; healthy is running in the asked version."""
    replies = []
    for item in query.droplets:
        app = desired.apps.get(item.get("droplet", -1))
        if app is None:
            continue
        version = str(item.get("version") or app.version)
        actual = table.apps.get(app.id)
        healthy = {
            i.index
            for i in (actual.live.values() if actual else ())
            if i.state == RUNNING
            # While an update rolls, an index is served by either version.
            and (i.version == version or (version == app.version and app.serves(i.version)))
        }
        replies.append(HealthReply(droplet=app.id, version=version, healthy=len(healthy)))
    return replies


def varz(desired: DesiredTable, table: ActualTable, decisions: Mapping[int, Decision]) -> dict[str, Any]:
    """Return the counts of protocol 5.5; those of instances are -1 before the first reading."""
    total: dict[str, dict[str, Counter[str]]] = {
        "frameworks": defaultdict(Counter),
        "runtimes": defaultdict(Counter),
    }
    running: dict[str, dict[str, Counter[str]]] = {
        "frameworks": defaultdict(Counter),
        "runtimes": defaultdict(Counter),
    }
    sums: Counter[str] = Counter()
    for app in desired.apps.values():
        started = app.state == STARTED
        decision = decisions.get(app.id, Decision())
        actual = table.apps.get(app.id)
        crashes = len(actual.crashed) if actual else 0
        sums.update(
            instances=app.instances if started else 0,
            running=decision.running,
            down=decision.missing,
            crashed=crashes,
        )
        for kind, name in (("frameworks", app.framework), ("runtimes", app.runtime)):
            total[kind][name or "unknown"].update(
                apps=1,
                started_apps=int(started),
                instances=app.instances,
                started_instances=app.instances if started else 0,
                memory=app.memory * app.instances,
                started_memory=app.memory * app.instances if started else 0,
            )
            if started:
                running[kind][name or "unknown"].update(
                    apps=1,
                    crashes=crashes,
                    running_instances=decision.running,
                    missing_instances=decision.missing,
                    flapping_instances=len(decision.flapping),
                )
    loaded = desired.loaded
    return {
        "total_apps": len(desired.apps),
        "total_users": desired.total_users,
        "users": [{"email": o} for o in sorted({a.owner for a in desired.apps.values()} - {""})],
        "apps": [
            {"droplet_id": a.id, "state": a.state, "name": a.name, "user": a.owner, "instances": a.instances}
            for a in desired.apps.values()
        ],
        "total_instances": sums["instances"] if loaded else -1,
        "running_instances": sums["running"] if loaded else -1,
        "down_instances": sums["down"] if loaded else -1,
        "crashed_instances": sums["crashed"] if loaded else -1,
        "total": total,
        "running": running,
        "deas": [
            {
                "id": dea.id,
                "state": "lost" if dea.lost_at is not None else "evacuating" if dea.evacuating else "up",
                "instances": len(dea.instances),
            }
            for dea in table.deas.values()
        ],
    }

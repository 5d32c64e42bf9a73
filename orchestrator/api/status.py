"""The probes of this daemon, on the API's own port (docs/platform.md)."""

from __future__ import annotations

from sqlalchemy import func, select

from components.common.web.probes import probes
from orchestrator.api.context import Orchestrator, current_orchestrator
from orchestrator.db.database import DatabaseUnavailableError
from orchestrator.db.models import Machine


def problems(orchestrator: Orchestrator) -> list[str]:
    """Return the reasons against operating."""
    found = []
    if orchestrator.stopping.is_set():
        found.append("this orchestrator is being stopped")
    try:
        orchestrator.services.db.check()
    except DatabaseUnavailableError:
        found.append("the database does not answer")
    if not orchestrator.engine.works:
        found.append("the engine takes no jobs")
    if not orchestrator.services.bus.bus.connected:
        found.append("no connection to the message bus")
    return found


def _varz() -> dict[str, object]:
    orchestrator = current_orchestrator()
    with orchestrator.services.db.session() as session:
        rows = session.execute(select(Machine.state, func.count()).group_by(Machine.state))
        made = {row[0]: row[1] for row in rows}
    return {
        **orchestrator.identity.varz(),
        "jobs": orchestrator.journal.counts(),
        "machines": made,
        "deas": sum(dea.fresh for dea in orchestrator.services.bus_view.deas()),
    }


blueprint = probes(
    lambda: problems(current_orchestrator()), _varz, lambda: current_orchestrator().config.status
)

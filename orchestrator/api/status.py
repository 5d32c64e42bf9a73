"""The probes of this daemon, on the API's own port (docs/platform.md)."""

from __future__ import annotations

from sqlalchemy import func, select

from components.common.web.probes import probes
from orchestrator.api.context import Orchestrator, here
from orchestrator.database import DatabaseUnavailableError
from orchestrator.models import Machine


def problems(orchestrator: Orchestrator) -> list[str]:
    """Return the reasons against operating."""
    found = []
    if orchestrator.stopping.is_set():
        found.append("this orchestrator is being stopped")
    try:
        orchestrator.tools.db.check()
    except DatabaseUnavailableError:
        found.append("the database does not answer")
    if not orchestrator.engine.works:
        found.append("the engine takes no jobs")
    if not orchestrator.tools.bus.bus.connected:
        found.append("no connection to the message bus")
    return found


def _varz() -> dict[str, object]:
    orchestrator = here()
    with orchestrator.tools.db.session() as session:
        rows = session.execute(select(Machine.state, func.count()).group_by(Machine.state))
        made = {row[0]: row[1] for row in rows}
    return {
        **orchestrator.identity.varz(),
        "jobs": orchestrator.journal.counts(),
        "machines": made,
        "deas": sum(dea.fresh for dea in orchestrator.tools.beats.deas()),
    }


blueprint = probes(lambda: problems(here()), _varz, lambda: here().config.status)

"""Probes of this daemon, on the API's own port (docs/platform.md)."""

from __future__ import annotations

from sqlalchemy import func, select

from components.common.states import AppState
from components.common.web.probes import probes
from components.controller.api.context import current_worker
from components.controller.composition import Controller
from components.controller.db.database import DatabaseUnavailableError
from components.controller.db.models import App, User


def problems(controller: Controller) -> list[str]:
    """Return the reasons against serving."""
    found = []
    if controller.stopping.is_set():
        found.append("this controller is being stopped")
    if controller.draining():
        found.append("draining")
    try:
        controller.db.check()
    except DatabaseUnavailableError:
        found.append("the database does not answer")
    trouble = controller.store.trouble()
    if trouble:
        found.append(trouble)
    if not controller.bus.bus.connected:
        found.append("no connection to the message bus")
    return found


def _varz() -> dict[str, object]:
    controller = current_worker()
    with controller.db.session() as session:
        total = session.scalar(select(func.count()).select_from(App))
        started = session.scalar(select(func.count()).where(App.state == AppState.STARTED))
        users = session.scalar(select(func.count()).select_from(User))
    return {
        **controller.identity.varz(),
        "apps": total,
        "started_apps": started,
        "users": users,
        "deas": len(controller.pool.beats()),
    }


blueprint = probes(lambda: problems(current_worker()), _varz, lambda: current_worker().config.status)

"""The removal of the platform's hosts from applications, which got one before it was reserved or by an older release."""

from __future__ import annotations

import time

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from components.common import log
from components.common.bus.thread import BusThread
from components.common.errors import BusUnavailableError
from components.controller.apps import rows as app_rows
from components.controller.apps.messages import start_message
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App, Event, Route
from components.controller.instances.dispatcher import Dispatcher
from components.controller.storage.store import Store

# The actor that events name.
PLATFORM = "platform"
logger = log.get(__name__)


class PlatformHosts:
    """The check for such hosts; concurrent checks are safe: the one that holds the application's row finds the host, others none.

    Args:
        config: with the platform's hosts.
        db: of the routes.
        store: of droplets, which messages to DEAs name.
        bus: on which events are published, too.
        dispatcher: of messages to the DEAs.
    """

    def __init__(
        self, config: ControllerConfig, db: Database, store: Store, bus: BusThread, dispatcher: Dispatcher
    ) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._bus = bus
        self._dispatcher = dispatcher
        self._hosts = sorted(config.platform_hosts)

    def take_back(self) -> None:
        """Check once, and remove the hosts.

        Raises:
            SQLAlchemyError: the database does not answer.
            BusUnavailableError: DEAs cannot be told; the hosts stay until they can.
        """
        with self._db.session() as session:
            query = select(Route.app_id).where(Route.url.in_(self._hosts)).distinct()
            holders = sorted(session.scalars(query))
        for app_id in holders:
            with self._db.session() as session:
                app = app_rows.by_id(session, app_id, lock=True)
                gone = self._take(session, app) if app is not None else {}
            if gone:
                self._dispatcher.changed(app_id)
                logger.warning("platform_hosts_taken_back", app=app_id, hosts=list(gone))
            for path in gone.values():
                line = [int(time.time()), "SYSTEM", PLATFORM, f"DELETE:{path}", "SUCCEEDED"]
                self._bus.publish("vcap.cc.events", line)

    def _take(self, session: Session, app: App) -> dict[str, str]:
        """Remove the hosts from an application; return each with the path in its event."""
        theirs = Route.app_id == app.id, Route.url.in_(self._hosts)
        urls = sorted(session.scalars(select(Route.url).where(*theirs)))
        gone = {host: f"/apps/{app.name}/uris/{host}"[:512] for host in urls}
        if not gone:
            return {}
        session.execute(delete(Route).where(*theirs))
        session.expire(app, ["routes"])
        app_rows.touch(app)
        app.lock_version += 1
        session.add_all(_event(app, host, path) for host, path in gone.items())
        session.flush()
        # Before the commit: instances that go on registering the host would not be told again.
        if not self._dispatcher.update(start_message(app, self._config, self._store)):
            raise BusUnavailableError("DEAs cannot be told which hosts an application has")
        return gone


def _event(app: App, host: str, path: str) -> Event:
    return Event(
        at=time.time(),
        who=PLATFORM,
        acting_for=app.owner.email,
        method="DELETE",
        path=path,
        status=200,
        app=app.name,
        origin="",
        outcome=f"taken off: {host} is a host of the platform",
    )

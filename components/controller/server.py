"""The embedded gunicorn server: workers with threads, each with a bus connection of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import multiprocess
from sqlalchemy.exc import IntegrityError

from components.common import log
from components.common.filesystem.share import Share, ShareUnwellError, answers
from components.common.identity import Identity
from components.common.web.gunicorn_daemon import GunicornDaemon, with_status_password
from components.controller.accounts.auth import add_user, find_user
from components.controller.api.app import create_app
from components.controller.bus_handlers import BusHandlers
from components.controller.composition import Controller
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.storage.store import Store

logger = log.get(__name__)


def _forget_metrics(pid: int) -> None:
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


class ControllerWorker:
    """One worker's parts, its application and its work on the bus."""

    def __init__(self, config: ControllerConfig, identity: Identity) -> None:
        self._controller = Controller.build(config, identity)
        self._bus_handlers = BusHandlers(self._controller)
        self.app = create_app(self._controller)

    def start(self) -> None:
        """Connect, and begin the work without a request."""
        self._bus_handlers.start()

    def leave(self) -> None:
        """Withdraw the route."""
        self._bus_handlers.leave()

    def stop(self) -> None:
        """Stop the work and close what is open."""
        self._bus_handlers.stop()
        self._controller.services.close()
        self._controller.share.close()
        self._controller.db.close()


def gunicorn_settings(config: ControllerConfig) -> dict[str, Any]:
    """Return gunicorn's settings that are the controller's own."""
    return {
        "workers": config.workers,
        "worker_class": "components.controller.gunicorn_worker.Worker",
        "backlog": 512,
        "limit_request_line": 8190,
        # Routers of 2011 write this header with underscores; other headers with underscores are dropped.
        "forwarder_headers": "X-FORWARDED_PROTO,X_FORWARDED_PROTO",
        "forwarded_allow_ips": "*",
        "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
        "child_exit": lambda _arbiter, worker: _forget_metrics(worker.pid),
    }


def serve(config: ControllerConfig) -> None:
    """Prepare ccdb and the share, then serve until SIGTERM.

    Raises:
        IngotError: ccdb does not answer in time.
        OSError: the share cannot be prepared.
    """
    config = with_status_password(config)
    prepare(config)
    identity = Identity.fresh("CloudController", config.index)
    logger.info("daemon_started", port=config.port, workers=config.workers, id=identity.uuid)
    GunicornDaemon(
        "controller", config, lambda: ControllerWorker(config, identity), gunicorn_settings(config)
    ).run()


def prepare(config: ControllerConfig) -> None:
    """Migrate ccdb, make the share's folders, and add a missing administrator."""
    prepare_share(Path(config.share_path))
    db = Database(config.database_url, 1)
    try:
        db.wait(config.database_wait_seconds)
        db.migrate()
        if config.admin_email:
            bootstrap_admin(db, config)
    finally:
        db.close()


def prepare_share(root: Path) -> None:
    """Make the share's folders; a share that hangs has them already, or lacks them until the next start."""
    store = Store(root)
    share = Share(lambda: answers(root))
    try:
        share.run(store.prepare)
    except ShareUnwellError as error:
        logger.warning("share_not_prepared", reason=str(error))
    finally:
        share.close()


def bootstrap_admin(db: Database, config: ControllerConfig) -> None:
    """Add the administrator; an existing one keeps the chosen password."""
    try:
        with db.session() as session:
            found = find_user(session, config.admin_email)
            if found is None:
                add_user(session, config.admin_email, config.admin_password, admin=True)
                logger.info("administrator_added", email=config.admin_email)
            elif not found.admin:
                found.admin = True
    except IntegrityError:
        # Another controller that starts at the same moment has added it.
        logger.info("administrator_exists")

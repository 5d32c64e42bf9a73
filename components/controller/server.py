"""The embedded gunicorn server: workers with threads, each with a bus connection of its own."""

from __future__ import annotations

import secrets
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import gunicorn.app.base
import msgspec
from prometheus_client import multiprocess
from sqlalchemy.exc import IntegrityError

from components.common import log
from components.common.daemon import notify
from components.common.gunicorn_log import GunicornLogger
from components.common.identity import Identity
from components.common.share import Share, ShareUnwellError, answers
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


class Server(gunicorn.app.base.BaseApplication):
    """The daemon: a master process that watches workers."""

    def __init__(self, config: ControllerConfig, identity: Identity) -> None:
        self._config = config
        self._identity = identity
        self._controller: Controller | None = None
        self._bus_handlers: BusHandlers | None = None
        super().__init__()

    def load_config(self) -> None:
        """Translate the controller's configuration into gunicorn's."""
        config = self._config
        settings: dict[str, Any] = {
            "bind": f"{config.host}:{config.port}",
            "workers": config.workers,
            "worker_class": "components.controller.gunicorn_worker.Worker",
            "threads": config.threads,
            # A worker whose loop stands still is replaced; the duration of requests does not matter.
            "timeout": 60,
            "graceful_timeout": 20,
            "keepalive": 20,
            "backlog": 512,
            "limit_request_line": 8190,
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - gunicorn's heartbeat
            "logger_class": GunicornLogger,
            "loglevel": config.log.level,
            "control_socket_disable": True,
            # Routers of 2011 write this header with underscores; other headers with underscores are dropped.
            "forwarder_headers": "X-FORWARDED_PROTO,X_FORWARDED_PROTO",
            "forwarded_allow_ips": "*",
            "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
            "proc_name": "ingot-controller",
            "when_ready": lambda _arbiter: notify("READY=1"),
            "on_exit": lambda _arbiter: notify("STOPPING=1"),
            "post_worker_init": self._worker_begins,
            "worker_exit": self._worker_ends,
            "child_exit": lambda _arbiter, worker: _forget_metrics(worker.pid),
        }
        for name, value in settings.items():
            if value is not None:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """Return a worker's application; called in the worker, after the fork."""
        self._controller = Controller.build(self._config, self._identity)
        return create_app(self._controller)

    def _worker_begins(self, worker: Any) -> None:
        assert self._controller is not None
        self._bus_handlers = BusHandlers(self._controller)
        self._bus_handlers.start()
        handlers, drain = self._bus_handlers, self._config.drain_seconds

        def leave(number: int, frame: FrameType | None) -> None:
            # The route goes first; requests that are still on their way through a router are served.
            threading.Thread(target=handlers.leave, name="leave", daemon=True).start()
            threading.Timer(drain, worker.handle_exit, (number, frame)).start()

        signal.signal(signal.SIGTERM, leave)

    def _worker_ends(self, _arbiter: Any, _worker: Any) -> None:
        if self._bus_handlers is not None:
            self._bus_handlers.stop()
        if self._controller is not None:
            self._controller.services.close()
            self._controller.share.close()
            self._controller.db.close()


def serve(config: ControllerConfig) -> None:
    """Prepare ccdb and the share, then serve until SIGTERM.

    Raises:
        IngotError: ccdb does not answer in time.
        OSError: the share cannot be prepared.
    """
    if not config.status.password:
        # All workers announce the same password.
        status = msgspec.structs.replace(config.status, password=secrets.token_hex(16))
        config = msgspec.structs.replace(config, status=status)
    prepare(config)
    identity = Identity.fresh("CloudController", config.index)
    logger.info("daemon_started", port=config.port, workers=config.workers, id=identity.uuid)
    Server(config, identity).run()


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

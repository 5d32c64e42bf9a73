"""The gunicorn server: one worker of threads, which holds the engine, so that the journal has one writer."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import gunicorn.app.base
import msgspec

from components.common import log
from components.common.daemon import notify
from components.common.gunicorn_log import GunicornLogger
from components.common.identity import Identity
from orchestrator import redact, services
from orchestrator.api.app import create_app
from orchestrator.api.auth import Authenticator
from orchestrator.api.context import Orchestrator
from orchestrator.config import OrchestratorConfig
from orchestrator.db.database import Database
from orchestrator.images import Images
from orchestrator.jobs import registry
from orchestrator.jobs.engine import Engine
from orchestrator.jobs.journal import Journal
from orchestrator.link import Link

KIND = "Orchestrator"
GUARD = "engine.lock"
# A step that has not ended by then is left to the next process.
STOP_SECONDS = 5.0
logger = log.get(__name__)


class Server(gunicorn.app.base.BaseApplication):
    """The daemon: a master that watches its worker."""

    def __init__(self, config: OrchestratorConfig, identity: Identity) -> None:
        self._config = config
        self._identity = identity
        self._orchestrator: Orchestrator | None = None
        self._link: Link | None = None
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's configuration from the daemon's."""
        config = self._config
        settings: dict[str, Any] = {
            "bind": f"{config.host}:{config.port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": config.threads,
            "timeout": 60,
            "graceful_timeout": 20,
            "keepalive": 20,
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - gunicorn's heartbeat
            "logger_class": GunicornLogger,
            "loglevel": config.log.level,
            "control_socket_disable": True,
            "proc_name": "ingot-orchestrator",
            "when_ready": lambda _arbiter: notify("READY=1"),
            "on_exit": lambda _arbiter: notify("STOPPING=1"),
            "post_worker_init": self._worker_begins,
            "worker_exit": self._worker_ends,
        }
        for name, value in settings.items():
            if value is not None:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the worker's application; called in the worker, after the fork."""
        self._orchestrator = build(self._config, self._identity)
        return create_app(self._orchestrator)

    def _worker_begins(self, worker: Any) -> None:
        orchestrator = self._orchestrator
        assert orchestrator is not None
        link = self._link = Link(self._config, self._identity, orchestrator.services.bus)
        orchestrator.images.prepare()
        link.start()
        orchestrator.engine.start()
        drain = self._config.drain_seconds

        def leave(number: int, frame: FrameType | None) -> None:
            # The route goes first; requests on their way through a router are served for a moment more.
            orchestrator.stopping.set()
            threading.Thread(target=link.leave, name="leave", daemon=True).start()
            threading.Timer(drain, worker.handle_exit, (number, frame)).start()

        signal.signal(signal.SIGTERM, leave)

    def _worker_ends(self, _arbiter: Any, _worker: Any) -> None:
        orchestrator = self._orchestrator
        if orchestrator is None:
            return
        orchestrator.stopping.set()
        ended = orchestrator.engine.stop(STOP_SECONDS)
        if self._link is not None:
            self._link.stop()
        orchestrator.authenticator.close()
        if not ended:
            # A step is waiting. The interpreter would wait for its threads, which the journal does not need.
            logging.shutdown()
            os._exit(0)
        orchestrator.services.db.close()


def build(config: OrchestratorConfig, identity: Identity) -> Orchestrator:
    """Return the daemon's parts; nothing connects yet.

    Raises:
        ConfigError: a provider's options are not its driver's.
    """
    parts = services.build(config)
    journal = Journal(parts.db)

    def redactor() -> redact.Redactor:
        # Made anew each time: the inventory may have a new secret.
        return redact.redactor(config)

    engine = Engine(
        services=parts,
        journal=journal,
        kinds=registry.kinds(),
        resumable=registry.RESUMABLE,
        redactor=redactor,
        guard=Path(config.state_path) / GUARD,
        parallel=config.parallel_jobs,
        keep_seconds=config.jobs_days * 86_400.0,
    )
    return Orchestrator(
        config=config,
        identity=identity,
        services=parts,
        journal=journal,
        engine=engine,
        images=Images(config, parts.db, parts.providers, redactor),
        authenticator=Authenticator(config),
        stopping=threading.Event(),
    )


def serve(config: OrchestratorConfig) -> None:
    """Prepare the database, then serve until SIGTERM.

    Raises:
        IngotError: the database does not answer in time.
        OSError: the state's folder cannot be made.
    """
    if not config.status.password:
        status = msgspec.structs.replace(config.status, password=secrets.token_hex(16))
        config = msgspec.structs.replace(config, status=status)
    prepare(config)
    identity = Identity.fresh(KIND, config.index)
    logger.info("daemon_started", port=config.port, id=identity.uuid)
    Server(config, identity).run()


def prepare(config: OrchestratorConfig) -> None:
    """Make the state's folder, and bring the database to this release's shape."""
    Path(config.state_path).mkdir(mode=0o700, parents=True, exist_ok=True)
    db = Database(config.database_url, 1)
    try:
        db.wait(config.database_wait_seconds)
        db.migrate()
    finally:
        db.close()

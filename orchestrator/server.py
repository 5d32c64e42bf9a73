"""The gunicorn server: one worker of threads, which holds the engine, so that the journal has one writer."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from components.common import log
from components.common.identity import Identity
from components.common.web.gunicorn_daemon import GunicornDaemon, with_status_password
from components.common.web.presence import Presence
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

KIND = "Orchestrator"
GUARD = "engine.lock"
# A step that has not ended by then is left to the next process.
STOP_SECONDS = 5.0
logger = log.get(__name__)


class OrchestratorWorker:
    """The one worker: its parts, its application and its presence on the bus."""

    def __init__(self, config: OrchestratorConfig, identity: Identity) -> None:
        orchestrator = self._orchestrator = build(config, identity)
        self._presence = Presence(
            "orchestrator", config, identity, orchestrator.services.bus, leaving=orchestrator.stopping.is_set
        )
        self.app = create_app(orchestrator)

    def start(self) -> None:
        """Connect, and begin to work through the jobs."""
        self._orchestrator.images.prepare()
        self._presence.start()
        self._orchestrator.engine.start()

    def leave(self) -> None:
        """Withdraw the route."""
        self._orchestrator.stopping.set()
        self._presence.leave()

    def stop(self) -> None:
        """Stop the jobs after their present steps, and close what is open."""
        orchestrator = self._orchestrator
        self.leave()
        ended = orchestrator.engine.stop(STOP_SECONDS)
        self._presence.stop()
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
    config = with_status_password(config)
    prepare(config)
    identity = Identity.fresh(KIND, config.index)
    logger.info("daemon_started", port=config.port, id=identity.uuid)
    settings = {"workers": 1, "worker_class": "gthread"}
    GunicornDaemon("orchestrator", config, lambda: OrchestratorWorker(config, identity), settings).run()


def prepare(config: OrchestratorConfig) -> None:
    """Make the state's folder, and bring the database to this release's shape."""
    Path(config.state_path).mkdir(mode=0o700, parents=True, exist_ok=True)
    db = Database(config.database_url, 1)
    try:
        db.wait(config.database_wait_seconds)
        db.migrate()
    finally:
        db.close()

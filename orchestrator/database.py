"""Sessions and migrations of the orchestrator's database, the same over SQLite and PostgreSQL."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from components.common import log
from components.common.errors import IngotError

MIGRATIONS = Path(__file__).parent / "migrations"
logger = log.get(__name__)


class DatabaseUnavailableError(IngotError):
    """The orchestrator's database does not answer."""


class Database:
    """The orchestrator's database.

    Args:
        url: an SQLAlchemy URL, `sqlite:///…` or `postgresql+psycopg://…`.
        connections: how many threads may use it at once.
    """

    def __init__(self, url: str, connections: int = 16) -> None:
        self.postgresql = url.startswith("postgresql")
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": connections, "max_overflow": 4}
        # Seconds: a connection to PostgreSQL, and SQLite's patience with another writer.
        options["connect_args"] = {"connect_timeout": 5} if self.postgresql else {"timeout": 30}
        self.engine: Engine = create_engine(url, **options)
        if not self.postgresql:
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", _sqlite_begin)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction: committed at the end, rolled back on an exception. Rows stay readable afterwards.

        Keep it short: with SQLite a transaction keeps all others out.
        """
        with self._sessions.begin() as session:
            yield session

    def lock(self, session: Session, name: str) -> None:
        """Hold a named lock until the transaction ends; with SQLite every transaction holds the only one there is."""
        if self.postgresql:
            key = {"key": zlib.crc32(f"ingot-orchestrator:{name}".encode())}
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), key)

    def check(self) -> None:
        """Ask whether it answers.

        Raises:
            DatabaseUnavailableError: it does not.
        """
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError as error:
            raise DatabaseUnavailableError(_reason(error)) from error

    def wait(self, seconds: float) -> None:
        """Wait until it answers.

        Raises:
            DatabaseUnavailableError: not within that many seconds.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.check()
            except DatabaseUnavailableError as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("database_unreachable", reason=str(error))
                time.sleep(min(1.0, seconds))
            else:
                return

    def migrate(self) -> None:
        """Bring the tables to this release's shape. One orchestrator owns its database: nobody else does it meanwhile."""
        with self.engine.connect() as connection:
            config = alembic_config(connection)
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
            connection.rollback()
            if unknown:
                # After a roll back: a newer release has been here. What a release adds, those before it do not mind.
                logger.warning("database_is_newer", revisions=sorted(unknown))
                return
            alembic.command.upgrade(config, "head")
            connection.commit()

    def close(self) -> None:
        """Give up all connections."""
        self.engine.dispose()


def alembic_config(connection: Connection | None = None) -> alembic.config.Config:
    """Give Alembic's configuration; no file of its own is needed."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes too late and too weak; _sqlite_begin says it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: OperationalError) -> str:
    return str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__

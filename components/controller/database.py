"""Sessions, locks and migrations of ccdb, the same over PostgreSQL and SQLite."""

from __future__ import annotations

import fcntl
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
# Any number nobody else uses: the name of the advisory lock that migrations hold.
MIGRATION_LOCK = 7_106_009
logger = log.get(__name__)


class DatabaseUnavailableError(IngotError):
    """ccdb does not answer."""


class Database:
    """ccdb.

    Args:
        url: an SQLAlchemy URL, `postgresql+psycopg://…` or `sqlite:///…`.
        connections: how many threads may use it at once.
    """

    def __init__(self, url: str, connections: int = 16) -> None:
        self.postgresql = url.startswith("postgresql")
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": connections, "max_overflow": 4}
        if self.postgresql:
            options["connect_args"] = {"connect_timeout": 5}
        else:
            options["connect_args"] = {"timeout": 30}
        self.engine: Engine = create_engine(url, **options)
        if not self.postgresql:
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", _sqlite_begin)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction: committed at the end, rolled back on an exception."""
        with self._sessions.begin() as session:
            yield session

    def now(self, session: Session) -> float:
        """Read the clock all controllers share: the database's; seconds since 1970."""
        if not self.postgresql:
            return time.time()
        return float(session.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def lock(self, session: Session, name: str) -> None:
        """Hold a named lock until the transaction ends; with SQLite every transaction holds the only one there is."""
        if self.postgresql:
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(name.encode())})

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
                time.sleep(1)
            else:
                return

    def migrate(self) -> None:
        """Bring the tables to this release's shape; controllers that start together do it once, one after another."""
        with self._one_migrator(), self.engine.connect() as connection:
            if self.postgresql:
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
            try:
                _upgrade(connection)
            finally:
                if self.postgresql:
                    connection.rollback()
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                    connection.commit()

    def close(self) -> None:
        """Give up all connections."""
        self.engine.dispose()

    @contextmanager
    def _one_migrator(self) -> Iterator[None]:
        path = self.engine.url.database
        if self.postgresql or not path:
            yield
            return
        with Path(f"{path}.migrating").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield


def alembic_config(connection: Connection | None = None) -> alembic.config.Config:
    """Give Alembic's configuration; no file of its own is needed."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
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


def _sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes too late and too weak; _sqlite_begin says it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: OperationalError) -> str:
    return str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__

"""A daemon's database: sessions, named locks and migrations, the same over PostgreSQL and SQLite."""

from __future__ import annotations

import fcntl
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    exc,
    inspect,
    make_url,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import DisconnectionError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from components.common import log
from components.common.errors import IngotError

# A connection that was used within this time is assumed to be alive.
_FRESH_SECONDS = 1.0
# A connection that ended while idle is refused at once. A longer wait means that nothing comes back from the server
# at all.
_SILENT_SECONDS = 1.0
# The time after which a network that drops packets ends a connection (milliseconds), and the interval of keepalives
# while a server computes (seconds). The API has five seconds to report that it cannot answer, a new connection
# included.
_SILENCE: dict[str, Any] = {
    "connect_timeout": 4,
    "tcp_user_timeout": 2500,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
}
# PostgreSQL's side, in milliseconds and seconds. Locks of a machine that lost its power are free soon; by itself
# PostgreSQL waits for two hours. A file of the share is synced under a lock, hence the patience with locks.
_SERVER: dict[str, int] = {
    "statement_timeout": 30_000,
    "lock_timeout": 20_000,
    "idle_in_transaction_session_timeout": 120_000,
    # The client may be gone while its statement runs.
    "client_connection_check_interval": 5000,
    "tcp_user_timeout": 10_000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
}
_POOL_SECONDS = 4.0
# Rows that one statement removes: far fewer than fit into `statement_timeout`.
BATCH = 10_000
_UNBOUNDED = ("statement_timeout", "lock_timeout")
logger = log.get(__name__)


class DatabaseUnavailableError(IngotError):
    """The database does not answer."""


class Database:
    """The database of one kind of daemon, shared by any number of threads and processes.

    Args:
        url: an SQLAlchemy URL, `postgresql+psycopg://…` or `sqlite:///…`.
        migrations: the folder of Alembic's revisions.
        locks: the prefix of its locks' names, so that others may use the same PostgreSQL.
        connections: how many threads may use it at once.
        synchronous: SQLite's `PRAGMA synchronous`; NORMAL may lose the last transactions when the machine loses power.
    """

    def __init__(
        self, url: str, *, migrations: Path, locks: str, connections: int = 16, synchronous: str = "FULL"
    ) -> None:
        self.postgresql = url.startswith("postgresql")
        self._migrations = migrations
        self._locks = locks
        self._synchronous = synchronous
        # Seconds: SQLite's patience with another writer.
        patience: dict[str, Any] = _patience(url) if self.postgresql else {"timeout": 30}
        # In the pool each statement of a connection is a transaction of its own: most connections are used in this
        # way, and one costs nothing to hand out and to take back. The most recently used is handed out first, because
        # it is known to be alive.
        modes: dict[str, Any] = {
            "isolation_level": "AUTOCOMMIT",
            "skip_autocommit_rollback": True,
            "pool_timeout": _POOL_SECONDS,
        }
        self._pool: Engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=4,
            pool_use_lifo=True,
            connect_args=patience,
            **(modes if self.postgresql else {}),
        )
        event.listen(self._pool, "checkin", _note_use)
        event.listen(self._pool, "checkout", self._ask_if_idle)
        if not self.postgresql:
            event.listen(self._pool, "connect", self._sqlite_connect)
            event.listen(self._pool, "begin", _sqlite_begin)
        # The same connections, for transactions.
        levels = {"isolation_level": "READ COMMITTED"} if self.postgresql else {}
        self.engine: Engine = self._pool.execution_options(**levels)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction, committed at the end and rolled back on an exception. Rows stay readable afterwards.

        Keep it short: with SQLite a transaction keeps all others out.
        """
        with self._sessions.begin() as session:
            yield session

    def connection(self) -> AbstractContextManager[Connection]:
        """Open a connection for columns instead of objects, without a common snapshot.

        On PostgreSQL each statement commits by itself, without the two round trips of a transaction.
        On SQLite all of them are one transaction.
        """
        return self._pool.connect() if self.postgresql else self._pool.begin()

    def now(self, session: Session) -> float:
        """Return the time of the clock that all users of the database share, its own, in seconds since 1970."""
        if not self.postgresql:
            return time.time()
        return float(session.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def lock(self, session: Session, name: str) -> None:
        """Hold a named lock until the transaction ends; with SQLite every transaction holds the only lock."""
        if self.postgresql:
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._key(name)})

    def prune(self, table: type[DeclarativeBase], *which: ColumnElement[bool]) -> int:
        """Remove the rows for which all conditions hold, however many they are; return their number.

        A table may have grown beyond what one statement removes in its time, so it shrinks by batches, each a transaction.
        Concurrent callers share the work.
        """
        key = inspect(table).primary_key
        some = select(*key).where(*which).limit(BATCH).with_for_update(skip_locked=True)
        count, removed = 0, BATCH
        while removed >= BATCH:
            with self.engine.begin() as connection:
                removed = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
            count += removed
        return count

    def check(self) -> None:
        """Check that the database answers.

        Raises:
            DatabaseUnavailableError: it does not answer.
        """
        try:
            with self.connection() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError as error:
            raise DatabaseUnavailableError(_reason(error)) from error

    def wait(self, seconds: float) -> None:
        """Wait until the database answers.

        Raises:
            DatabaseUnavailableError: it does not answer within that many seconds.
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
        """Bring the tables to this release's shape; of daemons that start together one does it, and the others wait."""
        with self._one_migrator(), self.engine.connect() as connection:
            key = {"key": self._key("migrations")}
            if self.postgresql:
                # A large table takes long, and a daemon that waits for another migrator waits as long.
                for name in _UNBOUNDED:
                    connection.execute(text(f"SET {name} = 0"))
                connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
                connection.commit()
            try:
                self._upgrade(connection)
            finally:
                if self.postgresql:
                    connection.rollback()
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
                    for name in _UNBOUNDED:
                        connection.execute(text(f"RESET {name}"))
                    connection.commit()

    def alembic_config(self, connection: Connection) -> alembic.config.Config:
        """Return Alembic's configuration on a connection; no file of its own is needed."""
        config = alembic.config.Config()
        config.set_main_option("script_location", str(self._migrations))
        config.attributes["connection"] = connection
        return config

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _key(self, name: str) -> int:
        return zlib.crc32(f"{self._locks}{name}".encode())

    @contextmanager
    def _one_migrator(self) -> Iterator[None]:
        path = self.engine.url.database
        if self.postgresql or not path:
            yield
            return
        with Path(f"{path}.migrating").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def _upgrade(self, connection: Connection) -> None:
        config = self.alembic_config(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
        connection.rollback()
        if unknown:
            # A newer release has run here and was rolled back. Older releases ignore the additions of newer ones.
            logger.warning("database_is_newer", revisions=sorted(unknown))
            return
        alembic.command.upgrade(config, "head")
        connection.commit()

    def _ask_if_idle(self, connection: Any, record: Any, _proxy: object) -> None:
        """Replace a connection that died while idle; one that was used just now is not checked.

        Where the server is silent, no new connection is tried: the caller has waited long enough.
        """
        asked = time.monotonic()
        if asked - record.info.get("used", 0.0) < _FRESH_SECONDS:
            return
        try:
            self.engine.dialect.do_ping(connection)
        except Exception as error:
            if time.monotonic() - asked >= _SILENT_SECONDS:
                raise
            raise DisconnectionError("the database has closed an idle connection") from error

    def _sqlite_connect(self, connection: Any, _record: object) -> None:
        # The driver's own BEGIN comes too late and too weak; _sqlite_begin issues it.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")


def unavailable(error: SQLAlchemyError) -> bool:
    """Return whether an error means that the database is away, silent, full or busy, and not that the statement is wrong."""
    if getattr(getattr(error, "orig", None), "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        # SQLite's message for both.
        return False
    return isinstance(error, OperationalError | exc.InterfaceError | exc.TimeoutError)


def _patience(url: str) -> dict[str, Any]:
    """Return the timeouts of PostgreSQL; a value that the URL itself sets stays."""
    server = " ".join(f"-c {name}={value}" for name, value in _SERVER.items())
    said = make_url(url).query
    return {name: value for name, value in {**_SILENCE, "options": server}.items() if name not in said}


def _note_use(_connection: object, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: OperationalError) -> str:
    return str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__

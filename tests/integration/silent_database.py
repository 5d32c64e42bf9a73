"""PostgreSQL behind a network that drops every packet; run in a network namespace of its own, prints JSON.

unshare --net python -m tests.integration.silent_database
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from components.common.database import unavailable
from components.controller.db.database import Database
from tests.integration.servers import postgres

TABLE = "ip silence"


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def drop(port: str) -> None:
    run("nft", f"add table {TABLE}")
    run("nft", f"add chain {TABLE} in {{ type filter hook input priority 0; }}")
    for side in ("sport", "dport"):
        run("nft", f"add rule {TABLE} in tcp {side} {port} drop")


def failing(work: Callable[[], object]) -> float:
    """Return the seconds until the work fails because the database is away."""
    begun = time.monotonic()
    with pytest.raises(SQLAlchemyError) as caught:
        work()
    assert unavailable(caught.value), caught.value
    return time.monotonic() - begun


def select(db: Database, statement: str) -> object:
    with db.connection() as connection:
        return connection.scalar(text(statement))


def hold(db: Database, key: int) -> None:
    """Hold a lock in a transaction for as long as the server allows."""
    with db.session() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        session.execute(text("SELECT pg_sleep(300)"))


def main() -> None:
    run("ip", "link", "set", "lo", "up")
    with postgres() as address:
        port = address.rpartition(":")[2]
        url = f"postgresql+psycopg://ingot@{address}/postgres"
        db, found = Database(url, 4), {}
        threads = []

        def measure(name: str, work: Callable[[], object]) -> None:
            def timed() -> None:
                found[name] = failing(work)

            threads.append(threading.Thread(target=timed))
            threads[-1].start()

        # One connection computes, one holds a lock, one lies in the pool.
        with db.connection() as idle:
            idle.execute(text("SELECT 1"))
            measure("computing", lambda: select(db, "SELECT pg_sleep(300)"))
            measure("holding", lambda: hold(db, 7))
            watch = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
            busy = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            while watch.execute(busy).fetchone() != (2,):
                time.sleep(0.05)
        # Older than the age up to which a connection is used without a check.
        time.sleep(1.2)
        drop(port)
        measure("idle", lambda: select(db, "SELECT 1"))
        for thread in threads:
            thread.join()
        found["new"] = failing(lambda: select(db, "SELECT 1"))
        run("nft", f"delete table {TABLE}")
        begun = time.monotonic()
        assert select(db, "SELECT 1") == 1
        found["back"] = time.monotonic() - begun
        # Another connection gets the lock of the lost one.
        begun = time.monotonic()
        with db.session() as session:
            session.execute(text("SELECT pg_advisory_xact_lock(7)"))
        found["freed"] = time.monotonic() - begun
        db.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()

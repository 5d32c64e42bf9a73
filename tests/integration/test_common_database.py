"""The database of a daemon, where it differs between the two: connections that died unnoticed, and sessions that only read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError

from components.common import database
from components.controller.db.database import Database
from components.controller.db.models import Event

PID = text("SELECT pg_backend_pid()")


def end_all(url: str) -> None:
    """The server ends all connections but the one that asks."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_connection_that_died_while_idle_is_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_FRESH_SECONDS", 0.0)
    db = Database(postgres_url, 2)
    with db.session() as session:
        before = session.scalar(PID)
    end_all(postgres_url)
    for opened in (db.session, db.connection):
        with opened() as session:
            assert session.scalar(PID) != before
        end_all(postgres_url)
    db.close()


def test_one_that_was_used_just_now_is_not_asked(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_FRESH_SECONDS", 3600.0)
    db = Database(postgres_url, 2)
    with db.session() as session:
        before = session.scalar(PID)
    end_all(postgres_url)
    with pytest.raises(OperationalError), db.session() as session:
        session.scalar(PID)
    # That was noticed: it is not handed out again.
    with db.session() as session:
        assert session.scalar(PID) != before
    db.close()


def test_who_only_reads_opens_no_transaction(postgres_url: str) -> None:
    db = Database(postgres_url, 1)
    when = text("SELECT transaction_timestamp()")
    with db.connection() as connection:
        assert connection.scalar(when) < connection.scalar(when)
    # The same connection is a transaction's next.
    with db.session() as session:
        assert session.scalar(when) == session.scalar(when)
    db.close()


def test_with_sqlite_all_are_the_same(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'ccdb'}", 1)
    for opened in (db.session, db.connection):
        with opened() as session:
            assert session.scalar(text("SELECT 1")) == 1
    db.close()


def test_a_database_behind_a_network_that_drops_packets_is_away_within_five_seconds() -> None:
    """And it is back at once, with what the lost connections held."""
    own = ["--net"] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps", "--net"]
    command = ["unshare", *own, sys.executable, "-m", "tests.integration.silent_database"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: seconds for name, seconds in found.items() if name != "freed" and seconds > 5} == {}
    assert found["freed"] < 15


def test_what_the_url_says_of_patience_stays(postgres_url: str) -> None:
    db = Database(f"{postgres_url}?connect_timeout=9&options=-c%20statement_timeout%3D1234", 1)
    with db.connection() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "1234ms"
        assert connection.scalar(text("SHOW lock_timeout")) == "0"
    db.close()


def test_a_migration_takes_the_time_it_needs_and_others_do_not(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_SERVER", {"statement_timeout": 100, "lock_timeout": 100})
    db = Database(postgres_url, 1)
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (db._key("migrations"),))
        waiting = threading.Thread(target=db.migrate)
        waiting.start()
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while other.execute(query).fetchone() != (1,):
            time.sleep(0.02)
        time.sleep(0.3)
        assert waiting.is_alive()
    waiting.join(60)
    with pytest.raises(OperationalError, match="statement timeout"), db.connection() as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
    db.close()


def test_a_table_beyond_one_statement_shrinks(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row takes the server 10 ms to remove; a statement has half a second."""
    monkeypatch.setattr(database, "_SERVER", {"statement_timeout": 500})
    monkeypatch.setattr(database, "BATCH", 10)
    db = Database(postgres_url, 2)
    db.migrate()
    with db.session() as session:
        session.execute(
            text(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
                " AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END $$"
            )
        )
        session.execute(
            text("CREATE TRIGGER slow BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION slow()")
        )
        session.add_all(Event(at=float(n), who="a", method="PUT", path="/x", status=200) for n in range(130))
    with db.session() as other:
        # Another controller removes these just now.
        other.execute(select(Event.id).where(Event.at < 5).with_for_update())
        assert db.prune(Event, Event.at < 120) == 115
    with db.session() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 15
    db.close()

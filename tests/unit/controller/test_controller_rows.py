"""Rows that users and strangers add without end are bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.event import listens_for

from components.common import database
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from components.controller.accounts import events
from components.controller.accounts.auth import Caller
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App, Base, Event, User
from components.controller.db.models_records import Task, TaskState, UsageDay
from components.controller.db.workers import Workers
from components.controller.pool.registry import Pool
from components.controller.requests.limits import RequestLimits
from components.controller.storage.store import Store
from components.controller.tasks import runner
from components.controller.tasks.runner import LISTED, TAILS, TaskRunner
from components.controller.upkeep.housekeeping import Housekeeping


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/ccdb.sqlite", 2)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def config(tmp_path: Path) -> ControllerConfig:
    return ControllerConfig(
        bus=BusConfig(urls=["nats://127.0.0.1:1"]),
        database_url="sqlite:///x",
        share_path=str(tmp_path / "share"),
        token_keys=["0123456789abcdef"],
        bulk_password="b",
        staging_password="s",
    )


@pytest.fixture
def tasks(config: ControllerConfig, db: Database, tmp_path: Path) -> Iterator[TaskRunner]:
    bus = BusThread(config.bus, "test")
    bus.start()
    yield TaskRunner(config, db, Store(tmp_path / "share"), bus, Pool())
    bus.close()


@pytest.fixture
def housekeeping(config: ControllerConfig, db: Database, tasks: TaskRunner) -> Housekeeping:
    return Housekeeping(config, db, RequestLimits.of(config, db), Workers(db), tasks)


def task(number: int, app_id: int, ended_at: float | None) -> Task:
    return Task(
        id=f"{app_id}-{number}",
        app_id=app_id,
        command="true",
        memory=1,
        timeout=1.0,
        state=TaskState.RUNNING if ended_at is None else TaskState.SUCCEEDED,
        tail="said",
        by="me",
        created_at=0.0,
        ended_at=ended_at,
    )


def test_an_application_keeps_a_hundred_tasks_and_what_twenty_said(db: Database) -> None:
    with db.session() as session:
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        for app_id in (1, 2):
            session.add(
                App(id=app_id, owner=owner, name=f"a{app_id}", framework="wsgi", created_at=0, updated_at=0)
            )
        session.flush()
        session.add_all(task(number, 1, float(number)) for number in range(1, LISTED + 30))
        session.add_all([task(0, 1, None), task(1, 2, 1.0)])
        session.flush()
        runner._forget(session, 1)
    with db.session() as session:
        ended = (
            select(Task).where(Task.app_id == 1, Task.ended_at.is_not(None)).order_by(Task.ended_at.desc())
        )
        rows = list(session.scalars(ended))
        # The next one is about to be added to these.
        assert len(rows) == LISTED - 1
        assert rows[0].id == f"1-{LISTED + 29}"
        assert [row.tail for row in rows] == ["said"] * (TAILS - 1) + [""] * (LISTED - TAILS)
        assert session.get_one(Task, "1-0").tail == session.get_one(Task, "2-1").tail == "said"


def test_a_task_that_is_begun_bounds_those_that_ended(db: Database, tasks: TaskRunner) -> None:
    with db.session() as session:
        owner = User(id=1, email="o@example.org", crypted_password="x", created_at=0)
        session.add(
            App(
                id=1,
                owner=owner,
                name="a",
                framework="wsgi",
                memory=64,
                staged_package_hash="a" * 40,
                created_at=0,
                updated_at=0,
            )
        )
        session.flush()
        session.add_all(task(number, 1, float(number)) for number in range(1, LISTED + 30))
    begun = tasks.create(Caller(1, "o@example.org", admin=False), "a", {"command": "true"})
    with db.session() as session:
        ids = set(session.scalars(select(Task.id).where(Task.app_id == 1)))
    assert ids == {begun["id"], *(f"1-{number}" for number in range(31, LISTED + 30))}


def event(who: str, method: str, path: str, status: int) -> Event:
    return Event(at=time.time(), who=who, method=method, path=path, status=status)


def test_refusals_at_the_door_are_bounded_and_push_out_nothing_else(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_REFUSED", 3)
    kept = [
        event("a@b.com", "POST", "/users/a@b.com/tokens", 200),
        event("a@b.com", "POST", "/users", 204),
        event("a@b.com", "PUT", "/apps/a", 400),
        event("a@b.com", "PUT", "/users/a@b.com", 403),
    ]
    refused = [
        event("anonymous", "DELETE", "/apps/a", 403),
        event("x@b.com", "POST", "/users/x@b.com/tokens", 403),
        event("y@b.com", "POST", "/users", 400),
    ]
    with db.session() as session:
        for row in (*kept, *refused):
            session.add(row)
            session.flush()
        session.add_all(event("anonymous", "POST", "/apps", 403) for _ in range(2))
        ids = [row.id for row in kept]
    events.prune_refused(db)
    with db.session() as session:
        left = list(session.scalars(select(Event).order_by(Event.id)))
    assert [row.id for row in left if row.id in ids] == ids
    assert [row.path for row in left if row.id not in ids] == ["/users", "/apps", "/apps"]


def test_old_rows_go_however_many_they_are_and_one_kind_after_another(
    db: Database,
    housekeeping: Housekeeping,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(database, "BATCH", 2)
    with db.session() as session:
        old = [event("a@b.com", "PUT", f"/{n}", 200) for n in range(5)]
        for row in old:
            row.at -= 91 * 86_400.0
        session.add_all([*old, event("a@b.com", "PUT", "/new", 200)])
        session.add_all(
            UsageDay(day=day, app_id=n, user_id=1, email="", app="")
            for day in ("2020-01-01", "2020-01-02", time.strftime("%Y-%m-%d", time.gmtime()))
            for n in range(3)
        )
    removals: list[int] = []
    count(db, removals)
    housekeeping.prune(time.time())
    assert removals == [2, 2, 1, 2, 2, 2, 0, 0, 0]
    with db.session() as session:
        assert [row.path for row in session.scalars(select(Event))] == ["/new"]
        assert len(list(session.scalars(select(UsageDay)))) == 3
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        session.add(App(id=1, owner=owner, name="a", framework="wsgi", created_at=0, updated_at=0))
        session.flush()
        session.add(task(1, 1, 1.0))
        session.execute(text("ALTER TABLE events RENAME TO lost"))
    housekeeping.prune(time.time())
    with db.session() as session:
        assert session.get(Task, "1-1") is None
    assert "prune_failed" in capsys.readouterr().out


def count(db: Database, removals: list[int]) -> None:
    @listens_for(db.engine, "after_cursor_execute")
    def note(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("DELETE"):
            removals.append(cursor.rowcount)

"""Rows that users and strangers add without end are bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from components.controller import events, one_off
from components.controller.database import Database
from components.controller.models import App, Base, Event, User
from components.controller.models_records import TASK_RUNNING, TASK_SUCCEEDED, Task
from components.controller.one_off import LISTED, TAILS


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/ccdb.sqlite", 2)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


def task(number: int, app_id: int, ended_at: float | None) -> Task:
    return Task(
        id=f"{app_id}-{number}",
        app_id=app_id,
        command="true",
        memory=1,
        timeout=1.0,
        state=TASK_RUNNING if ended_at is None else TASK_SUCCEEDED,
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
        one_off._forget(session, 1)
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
    events.prune(db, 90, time.time())
    with db.session() as session:
        left = list(session.scalars(select(Event).order_by(Event.id)))
    assert [row.id for row in left if row.id in ids] == ids
    assert [row.path for row in left if row.id not in ids] == ["/users", "/apps", "/apps"]

"""Changes that come to nothing: what is taken back, and what stays as others have made it since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from components.common.states import AppState, PackageState
from components.controller.apps import rows as app_rows
from components.controller.apps.change_plan import AppSpec
from components.controller.db.database import Database
from components.controller.db.models import App, AppBefore, AppUpdate, Base, Route, User
from components.controller.rolling_updates import rows as update_rows
from components.controller.rolling_updates import saved_states

FIRST = AppSpec(
    "a",
    framework="wsgi",
    runtime="python3",
    uris=("a.x",),
    instances=1,
    memory=64,
    env=("A=1",),
    details={"command": "one", "health": {"path": "/"}},
    services=("r1",),
)
CHANGED = replace(
    FIRST,
    uris=("b.x",),
    instances=2,
    memory=96,
    env=("A=2",),
    details={"command": "two", "console": True},
    services=("r2",),
)


def test_a_change_is_taken_back_whole() -> None:
    assert saved_states.rewind(CHANGED, FIRST, CHANGED) == FIRST


def test_what_others_have_changed_since_stays() -> None:
    now = replace(
        CHANGED,
        instances=5,
        env=("A=3",),
        uris=("b.x", "c.x"),
        details={"command": "two", "console": False, "debug": "run"},
    )
    back = saved_states.rewind(now, FIRST, CHANGED)
    assert (back.instances, back.env, back.memory) == (5, ("A=3",), 64)
    assert back.uris == ("a.x", "c.x")
    assert back.details == {"command": "one", "health": {"path": "/"}, "console": False, "debug": "run"}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    database = Database(f"sqlite:///{tmp_path}/ccdb.sqlite", 2)
    Base.metadata.create_all(database.engine)
    with database.session() as opened:
        yield opened
    database.close()


@pytest.fixture
def app(session: Session) -> App:
    owner = User(email="o@example.org", crypted_password="x", created_at=0)
    made = App(
        owner=owner,
        name="a",
        framework="wsgi",
        state=AppState.STARTED,
        package_state=PackageState.STAGED,
        package_hash="1" * 40,
        staged_package_hash="2" * 40,
        started_package_hash="2" * 40,
        memory=64,
        created_at=0,
        updated_at=0,
    )
    made.routes = [Route(url="a.x")]
    session.add(made)
    session.flush()
    return made


def change(session: Session, app: App, **values: Any) -> AppSpec:
    """Change the row as a request does; gives what it goes back to."""
    current = app_rows.spec(session, app)
    target = replace(current, lock_version=current.lock_version + 1, **values)
    before = saved_states.note(session, app, current, target)
    app_rows.apply(session, app, current, target)
    return before


def opened(session: Session, app: App) -> tuple[str, AppSpec]:
    """Open an update; gives its serial and what it goes back to."""
    update_rows.begin(session, app, "me", 5.0)
    serial = session.get_one(AppUpdate, app.id).serial
    row = session.get_one(AppBefore, (app.id, saved_states.UPDATE))
    assert row.key == serial
    return serial, saved_states._pair(row)[0]


def test_two_changes_that_no_update_brings_go_back_to_what_was_before_both(
    session: Session, app: App
) -> None:
    change(session, app, memory=96, uris=("b.x",))
    before = change(session, app, env=("A=2",))
    assert (before.memory, before.uris, before.env) == (64, ("a.x",), ())


def test_an_update_over_another_goes_back_to_what_was_before_both(session: Session, app: App) -> None:
    change(session, app, memory=96)
    assert opened(session, app)[1].memory == 64
    change(session, app, env=("A=2",))
    _, before = opened(session, app)
    assert (before.memory, before.env) == (64, ())
    # One that changes nothing inherits.
    assert opened(session, app)[1] == before


def test_an_update_that_proved_itself_is_what_the_next_goes_back_to(session: Session, app: App) -> None:
    change(session, app, memory=96)
    opened(session, app)
    session.get_one(AppUpdate, app.id).state = "SUCCEEDED"
    saved_states.forget(session, app.id, saved_states.UPDATE)
    change(session, app, env=("A=2",))
    _, before = opened(session, app)
    assert (before.memory, before.env) == (96, ())


def test_what_a_release_without_this_table_left_behind_is_not_gone_back_to(
    session: Session, app: App
) -> None:
    change(session, app, memory=96)
    opened(session, app)
    # A controller of the release before opens the next update, and knows no row but its own.
    session.get_one(AppUpdate, app.id).serial = "another"
    update_rows.begin(session, app, "me", 6.0)
    assert session.get(AppBefore, (app.id, saved_states.UPDATE)) is None


def test_a_stop_leaves_nothing_to_go_back_to(session: Session, app: App) -> None:
    change(session, app, memory=96)
    opened(session, app)
    change(session, app, memory=128)
    update_rows.close(session, app.id, "the application was stopped", 7.0)
    assert session.query(AppBefore).count() == 0

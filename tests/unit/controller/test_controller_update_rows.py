"""Updates and revisions as rows: what is remembered, what is gone back to, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from components.common.states import AppState, PackageState
from components.controller.apps import revisions
from components.controller.apps.revisions import KEPT, REMEMBERED
from components.controller.db.database import Database
from components.controller.db.models import App, AppUpdate, Base, UpdateState, User
from components.controller.errors import ApiError
from components.controller.rolling_updates import rows as update_rows
from components.controller.storage import references
from components.controller.storage.store import Store


def sha(number: int) -> str:
    return f"{number:040x}"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/ccdb.sqlite", 2)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def session(db: Database) -> Iterator[Session]:
    with db.session() as opened:
        yield opened


@pytest.fixture
def app(session: Session) -> App:
    owner = User(email="o@example.org", crypted_password="x", created_at=0)
    made = App(
        owner=owner, name="a", framework="wsgi", instances=2, details={"keep": 1}, created_at=0, updated_at=0
    )
    session.add(made)
    session.flush()
    stage(made, 1)
    start(session, made)
    return made


def stage(app: App, number: int) -> None:
    app.package_hash, app.staged_package_hash = sha(100 + number), sha(number)
    app.staged_from, app.package_state = sha(200 + number), PackageState.STAGED


def start(session: Session, app: App) -> None:
    app.state = AppState.STARTED
    revisions.begin(session, app, "me")


def update(session: Session, app: App, number: int) -> AppUpdate:
    stage(app, number)
    update_rows.begin(session, app, "me", 5.0)
    row = session.get(AppUpdate, app.id)
    assert row is not None
    return row


def end(row: AppUpdate, state: str = UpdateState.SUCCEEDED) -> None:
    row.state = state


def test_an_update_knows_both_versions(session: Session, app: App) -> None:
    before = app.version
    row = update(session, app, 2)
    assert (row.state, row.from_version, row.to_version) == (UpdateState.UPDATING, before, f"{sha(2)}-0")
    assert app.version == row.to_version
    assert update_rows.leaving(session, [app.id, 99]) == {app.id: before}
    assert update_rows.outcome(app.version, row) == UpdateState.UPDATING
    end(row)
    assert update_rows.outcome(app.version, row) == UpdateState.SUCCEEDED
    assert update_rows.leaving(session, [app.id]) == {}
    # Once it was started anew, the row says nothing about what runs.
    start(session, app)
    assert update_rows.outcome(app.version, row) is None


def test_going_back_restores_all_that_made_the_version(session: Session, app: App) -> None:
    app.details = {**app.details, "command": "run"}
    before = app.version
    row = update(session, app, 2)
    update_rows.turn_back(session, app, row, "instance 0 crashed", 6.0)
    assert (row.state, row.message, app.version) == (UpdateState.GOING_BACK, "instance 0 crashed", before)
    assert (app.package_hash, app.package_state, app.staged_from) == (sha(101), PackageState.STAGED, sha(201))
    assert app.details == {"keep": 1}
    assert update_rows.leaving(session, [app.id]) == {app.id: f"{sha(2)}-0"}
    end(row, UpdateState.CANARY_FAILED)
    assert update_rows.outcome(app.version, row) == UpdateState.CANARY_FAILED
    # The same broken bits once more are a version of their own: what is left of the first try is not theirs.
    assert update(session, app, 2).to_version == f"{sha(2)}-1"


def test_bits_that_came_during_an_update_survive_its_failure(session: Session, app: App) -> None:
    row = update(session, app, 2)
    app.package_hash, app.package_state = sha(103), PackageState.PENDING
    update_rows.turn_back(session, app, row, "crashed", 6.0)
    assert (app.package_hash, app.package_state) == (sha(103), PackageState.PENDING)
    assert app.staged_package_hash == sha(1)


def test_an_update_over_another_goes_back_to_what_served(session: Session, app: App) -> None:
    before = app.version
    serial = update(session, app, 2).serial
    row = update(session, app, 3)
    assert row.serial != serial
    assert (row.from_version, row.to_version) == (before, f"{sha(3)}-0")
    update_rows.turn_back(session, app, row, "crashed", 6.0)
    assert app.version == before


def test_the_same_droplet_again_is_an_update_to_its_next_run(session: Session, app: App) -> None:
    row = update(session, app, 1)
    assert (row.from_version, row.to_version) == (f"{sha(1)}-0", f"{sha(1)}-1")
    update_rows.turn_back(session, app, row, "crashed", 6.0)
    assert app.version == f"{sha(1)}-0"
    end(row, UpdateState.CANARY_FAILED)
    assert update(session, app, 1).to_version == f"{sha(1)}-2"


def test_a_stop_closes_it(session: Session, app: App) -> None:
    row = update(session, app, 2)
    update_rows.close(session, app.id, "stopped", 7.0)
    assert (row.state, row.message) == (UpdateState.CANARY_FAILED, "stopped")
    update_rows.close(session, app.id, "again", 8.0)
    assert row.message == "stopped"


def test_refused_before_it_began(session: Session, app: App) -> None:
    before = app.version
    app.package_hash, app.package_state = sha(102), PackageState.PENDING
    update_rows.refuse(session, app, "me", "staging failed: no", 7.0)
    row = session.get(AppUpdate, app.id)
    assert row is not None
    assert (row.state, row.message) == (UpdateState.CANARY_FAILED, "staging failed: no")
    assert (app.version, app.package_hash, app.package_state) == (before, sha(101), PackageState.STAGED)
    assert update_rows.outcome(app.version, row) == UpdateState.CANARY_FAILED


def test_rolling_back(session: Session, app: App) -> None:
    end(update(session, app, 2))
    assert update_rows.roll_back(session, app, "you", 9.0, None)
    row = session.get(AppUpdate, app.id)
    assert row is not None
    assert (row.from_version, row.to_version) == (f"{sha(2)}-0", f"{sha(1)}-1")
    assert [r["current"] for r in revisions.to_json(app, revisions.of(session, app.id))] == [False, True]
    end(row)
    for number, word in ((None, "before"), (1, "current"), (9, "no revision 9")):
        with pytest.raises(ApiError, match=word):
            update_rows.roll_back(session, app, "you", 9.0, number)
    app.state = AppState.STOPPED
    assert not update_rows.roll_back(session, app, "you", 9.0, 2)
    assert app.staged_package_hash == sha(2)


def test_ten_keep_their_droplet(session: Session, app: App) -> None:
    for number in range(2, KEPT + 4):
        end(update(session, app, number))
    shown = revisions.to_json(app, revisions.of(session, app.id))
    assert [r["number"] for r in shown if r["available"]] == list(range(KEPT + 3, 3, -1))
    assert len(shown) == KEPT + 3
    with pytest.raises(ApiError, match="not kept"):
        revisions.choose(session, app, 1)


def test_a_hundred_revisions_are_remembered(session: Session, app: App) -> None:
    for number in range(2, REMEMBERED + 6):
        end(update(session, app, number))
    session.flush()
    rows = revisions.of(session, app.id)
    assert [row.number for row in rows] == list(range(REMEMBERED + 5, 5, -1))
    with pytest.raises(ApiError, match="there is no revision 1"):
        revisions.choose(session, app, 1)


def test_a_revision_that_an_update_needs_is_remembered(session: Session, app: App) -> None:
    for number in range(2, REMEMBERED):
        end(update(session, app, number))
    row = update(session, app, REMEMBERED)
    row.from_revision = 1
    for number in range(REMEMBERED + 1, REMEMBERED + 5):
        stage(app, number)
        start(session, app)
    session.flush()
    assert [r.number for r in revisions.of(session, app.id)][-2:] == [5, 1]


def test_an_application_of_before_gets_its_first_revision(session: Session, app: App) -> None:
    for row in revisions.of(session, app.id):
        session.delete(row)
    app.revision = None
    session.flush()
    revisions.adopt(session, app)
    (row,) = revisions.of(session, app.id)
    assert (row.number, row.droplet, row.kept) == (1, sha(1), True)
    assert revisions.current(session, app) is row
    # Nobody knows what it was built from, so what is there is taken to be it.
    row.package = None
    revisions.restore(app, row)
    assert app.package_hash == sha(101)


def test_files_of_kept_revisions_stay(db: Database, tmp_path: Path) -> None:
    store = Store(tmp_path / "share")
    store.prepare()
    with db.session() as session:
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        made = App(owner=owner, name="a", framework="wsgi", created_at=0, updated_at=0)
        session.add(made)
        session.flush()
        for number in (1, 2):
            stage(made, number)
            start(session, made)
            store.droplet(sha(number)).write_bytes(b"")
            store.package(sha(100 + number)).write_bytes(b"")
        app_id = made.id
    references.release(db, store, packages=[sha(101)], droplets=[sha(1)])
    assert store.droplet(sha(1)).exists()
    assert store.package(sha(101)).exists()
    with db.session() as session:
        made = session.get_one(App, app_id)
        gone = revisions.files(session, made)
        session.delete(made)
    with db.session() as session:
        assert not revisions.of(session, app_id)
    references.release(db, store, packages=gone.packages, droplets=gone.droplets)
    assert not [p for f in (store.droplets, store.packages) for p in f.iterdir() if p.is_file()]
    assert [sorted(p.name for p in f.iterdir()) for f in store.trash] == [
        [sha(1), sha(2)],
        [sha(101), sha(102)],
    ]

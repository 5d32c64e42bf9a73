"""The journal keeps jobs, steps, lines and locks, and its tables are what the migrations make."""

import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from orchestrator.db.database import Database, DatabaseUnavailableError
from orchestrator.db.models import Base, Line, Lock
from orchestrator.db.models import Step as StepRow
from orchestrator.errors import RefusedError
from orchestrator.jobs import journal as journals
from orchestrator.jobs.journal import Journal, LockedError, StaleError, collides
from orchestrator.jobs.kinds import PLATFORM, JobPlan, Step


def nothing(job):
    pass


def plan(*locks, **facts):
    return JobPlan(facts, frozenset(locks))


@pytest.fixture
def db(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'journal.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def journal(db):
    return Journal(db)


def add(journal, *locks, kind="grow"):
    return journal.add(kind, {"size": 3}, plan(*locks), "op", journal.version())


def test_the_migrations_make_the_tables_of_the_models(db):
    db.migrate()
    with db.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_database_of_a_newer_release_is_left_as_it_is(db):
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    db.migrate()
    with db.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_heads() == ("9999",)


def test_sqlite_is_in_write_ahead_mode_and_waits_for_its_turn(db):
    with db.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30000
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_database_that_is_not_there_is_named(tmp_path):
    away = Database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
    with pytest.raises(DatabaseUnavailableError, match="unable to open"):
        away.wait(0)
    away.close()


@pytest.mark.parametrize(
    ("some", "others", "collide"),
    [
        ([], [], False),
        ([], [PLATFORM], False),
        (["pool:dea"], ["machine:dea3"], False),
        (["pool:dea", "machine:dea3"], ["machine:dea3"], True),
        ([PLATFORM], ["machine:dea3"], True),
        (["machine:dea3"], [PLATFORM], True),
        ([PLATFORM], [PLATFORM], True),
    ],
)
def test_which_locks_collide(some, others, collide):
    assert collides(some, others) is collide


def test_a_job_holds_its_locks_until_it_ends(journal):
    first = add(journal, "pool:dea", "machine:dea3")
    with pytest.raises(LockedError) as caught:
        add(journal, "machine:dea3")
    assert caught.value.job == first
    with pytest.raises(LockedError):
        add(journal, PLATFORM)
    assert add(journal, "machine:dea4") == first + 1
    journal.end(first, {})
    assert add(journal, "machine:dea3") == first + 2


def test_a_refused_job_is_not_there_at_all(journal):
    add(journal, "machine:dea3")
    with pytest.raises(LockedError):
        add(journal, "machine:dea2", "machine:dea3")
    assert len(journal.jobs(10)) == 1
    assert journal.holder("machine:dea2") is None


def test_a_plan_made_before_another_job_ended_is_stale(journal):
    first = add(journal)
    version = journal.version()
    journal.end(first, {})
    with pytest.raises(StaleError):
        journal.add("grow", {}, plan("pool:dea"), "op", version)
    journal.add("grow", {}, plan("pool:dea"), "op", journal.version())


def test_resuming_and_failing_again_makes_a_plan_stale_too(journal):
    first = add(journal, "pool:dea")
    journal.end(first, {}, "it failed", "go on")
    version = journal.version()
    journal.again(first)
    assert journal.holder("pool:dea") == first
    journal.end(first, {}, "it failed", "go on")
    assert journal.version() != version


def test_a_job_that_has_not_failed_is_not_resumed(journal):
    first = add(journal, "pool:dea")
    with pytest.raises(RefusedError, match=f"job {first} is waiting"):
        journal.again(first)


def test_a_failed_job_whose_locks_are_held_is_not_resumed(journal):
    first = add(journal, "pool:dea")
    journal.end(first, {}, "it failed", "go on")
    second = add(journal, PLATFORM)
    with pytest.raises(LockedError) as caught:
        journal.again(first)
    assert caught.value.job == second
    assert journal.job(first)["state"] == "failed"


def test_steps_of_a_newer_release_keep_what_was_done(journal):
    job_id = add(journal)
    old = [Step("preflight", nothing), Step("roll", nothing, ("ctl1",)), Step("roll", nothing, ("ctl2",))]
    assert [k.state for k in journal.steps(job_id, old)] == ["waiting"] * 3
    journal.step_begins(job_id, 0, {})
    journal.step_ends(job_id, 0, {})
    journal.step_begins(job_id, 1, {})
    journal.step_ends(job_id, 1, {})
    journal.step_begins(job_id, 2, {"at": "ctl2"})
    new = [
        Step("preflight", nothing),
        Step("announce", nothing),
        Step("roll", nothing, ("ctl1",)),
        Step("roll", nothing, ("ctl2",)),
    ]
    known = journal.steps(job_id, new)
    assert [(k.position, k.name, k.state) for k in known] == [
        (0, "preflight", "done"),
        (1, "announce", "waiting"),
        (2, "roll", "done"),
        (3, "roll", "running"),
    ]
    assert journal.steps(job_id, new) == known
    assert [s["machines"] for s in journal.job(job_id)["steps"]] == [[], [], ["ctl1"], ["ctl2"]]


def test_lines_are_counted_and_read_from_a_number_on(journal):
    job_id = add(journal)
    journal.say(job_id, None, ["one"])
    journal.say(job_id, "create", ["two", "three"])
    found = journal.lines(job_id, 1)
    assert [(line["n"], line["step"], line["text"]) for line in found["lines"]] == [
        (2, "create", "two"),
        (3, "create", "three"),
    ]
    assert found["state"] == "waiting"
    assert journal.lines(job_id, 3)["lines"] == []
    assert journal.lines(99, 0) is None


def test_jobs_that_ended_long_ago_go_with_their_steps_and_lines(journal, db):
    old, failed, fresh, open_ = (add(journal, f"machine:{n}") for n in range(4))
    for job_id in (old, failed, fresh, open_):
        journal.steps(job_id, [Step("create", nothing)])
        journal.say(job_id, "create", ["one", "two"])
    journal.end(old, {})
    journal.end(failed, {}, "no", "begin again")
    between = time.time()
    journal.end(fresh, {})
    assert journal.prune(between - 3600) == 0
    assert journal.prune(between) == 2
    assert [job["id"] for job in journal.jobs(10)] == [open_, fresh]
    with db.session() as session:
        assert {row.job_id for row in session.scalars(select(Line))} == {fresh, open_}
        assert {row.job_id for row in session.scalars(select(StepRow))} == {fresh, open_}
        assert [row.job_id for row in session.scalars(select(Lock))] == [open_]
    with pytest.raises(RefusedError, match="there is no job"):
        journal.again(failed)


def test_more_jobs_than_are_kept_go_a_few_at_a_time(journal, monkeypatch):
    monkeypatch.setattr(journals, "MOST_JOBS", 3)
    monkeypatch.setattr(journals, "_JOBS_AT_ONCE", 2)
    waits = add(journal)
    ids = [add(journal, kind=f"k{i}") for i in range(8)]
    for job_id in ids:
        journal.say(job_id, None, ["a", "b"])
        journal.end(job_id, {})
    assert journal.prune(0) == 5
    assert [job["id"] for job in journal.jobs(20)] == [*reversed(ids[-3:]), waits]
    assert journal.prune(0) == 0


def test_a_job_keeps_its_newest_lines(journal, monkeypatch):
    monkeypatch.setattr(journals, "MOST_LINES", 3)
    job_id = add(journal)
    for number in range(1, 6):
        journal.say(job_id, None, [f"line {number}"])
    journal.say(job_id, None, ["x" * 20_000])
    assert [line["n"] for line in journal.lines(job_id, 0)["lines"]] == [4, 5, 6]
    assert len(journal.lines(job_id, 5)["lines"][0]["text"]) == 10_000


def test_jobs_are_listed_newest_first(journal):
    ids = [add(journal, kind=f"k{i}") for i in range(3)]
    journal.end(ids[1], {}, "no", "begin again")
    assert [j["id"] for j in journal.jobs(2)] == [ids[2], ids[1]]
    assert [j["kind"] for j in journal.jobs(10, "failed")] == ["k1"]
    assert "steps" not in journal.jobs(1)[0]
    assert journal.counts() == {"waiting": 2, "failed": 1}
    assert journal.job(99) is None


def test_facts_are_kept_as_they_are_at_each_write(journal):
    job_id = add(journal)
    journal.steps(job_id, [Step("create", nothing)])
    facts = {"made": []}
    journal.step_begins(job_id, 0, facts)
    facts["made"].append("dea3")
    journal.save(job_id, facts)
    assert journal.begin(job_id)[1] == {"made": ["dea3"]}
    facts["made"].append("dea4")
    journal.step_ends(job_id, 0, facts, "no room")
    assert journal.begin(job_id)[1] == {"made": ["dea3", "dea4"]}
    assert journal.job(job_id)["steps"][0]["message"] == "no room"

"""The engine works through jobs, ends each in a clear state, and goes on where an earlier one ended."""

import copy
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog.testing
from sqlalchemy.exc import OperationalError

from orchestrator.db.models import Job
from orchestrator.errors import EngineStopping, RefusedError, StepError
from orchestrator.jobs.journal import LockedError
from orchestrator.jobs.kinds import PLATFORM
from tests.unit.orchestrator.engine_rig import SECRET, Gate, Small, World, note, until

ROOT = Path(__file__).resolve().parents[3]
DEA3 = {"locks": ["machine:dea3"]}


def fail(job):
    raise StepError("dea3 never answered")


@pytest.fixture(autouse=True)
def quiet():
    """Unconfigured, the logger draws exceptions with all variables, which takes seconds."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def world(tmp_path):
    worlds = []

    def make(*kinds, **options):
        worlds.append(World(tmp_path, *kinds, **options))
        return worlds[-1]

    yield make
    for one in worlds:
        for kind in one.kinds.values():
            for _, step in kind.work:
                if isinstance(step, Gate):
                    step.open.set()
        one.close()


def test_steps_run_in_order_and_are_journalled(world):
    w = world(Small("grow", [("create", note("a")), ("configure", note("b"))]))
    job_id = w.engine().submit("grow", {**DEA3, "count": 1}, "op@x")
    job = w.ended(job_id)
    assert (job["state"], job["message"], job["way_out"]) == ("succeeded", "", "")
    assert (job["kind"], job["by"], job["wish"]["count"]) == ("grow", "op@x", 1)
    assert [(s["name"], s["machines"], s["state"]) for s in job["steps"]] == [
        ("create", ["dea3"], "done"),
        ("configure", ["dea3"], "done"),
    ]
    assert job["created"] <= job["started"] <= job["steps"][0]["started"] <= job["ended"]
    assert job["seconds"] >= 0
    assert w.lines(job_id) == ["did a", "did b"]
    assert w.journal.holder("machine:dea3") is None
    _, facts = w.journal.begin(job_id)
    assert facts == {"done": ["a", "b"]}


def test_jobs_of_long_ago_are_forgotten_by_the_engine_that_begins(world):
    w = world(Small("grow", [("create", note("a"))]))
    engine = w.engine()
    old, fresh = (w.ended(engine.submit("grow", {**DEA3, "count": 1}, "op"))["id"] for _ in range(2))
    assert engine.stop(20)
    with w.db.session() as session:
        session.get_one(Job, old).ended -= 91 * 86_400
    w.engine()
    until(lambda: w.journal.job(old) is None, "the old one is forgotten")
    assert w.journal.job(fresh) is not None


def test_a_failing_step_ends_the_job_gives_up_once_and_says_the_remedy(world):
    kind = Small("grow", [("create", note("a")), ("reach", fail), ("configure", note("never"))])
    w = world(kind)
    job = w.ended(w.engine().submit("grow", DEA3, "op"))
    assert job["state"] == "failed"
    assert job["message"] == "reach: dea3 never answered"
    assert job["way_out"] == "put right; begin again"
    assert kind.gave_up == [("reach", "dea3 never answered")]
    assert [s["state"] for s in job["steps"]] == ["done", "failed", "waiting"]
    assert job["steps"][1]["message"] == "dea3 never answered"
    assert w.journal.holder("machine:dea3") is None


def test_whatever_a_step_raises_ends_the_job_by_its_name(world):
    w = world(Small("grow", [("create", lambda job: {}["nothing"])]))
    job = w.ended(w.engine().submit("grow", {}, "op"))
    assert (job["state"], job["message"]) == ("failed", "create: KeyError: 'nothing'")


def test_giving_up_that_fails_is_said(world):
    w = world(Small("grow", [("create", fail)], on_compensate=fail))
    job = w.ended(w.engine().submit("grow", DEA3, "op"))
    assert job["state"] == "failed"
    assert "Cleaning up failed as well: dea3 never answered" in job["way_out"]
    assert w.journal.holder("machine:dea3") is None


def test_facts_that_cannot_be_written_end_the_job(world):
    def spoil(job):
        job.facts["thing"] = object()

    w = world(Small("grow", [("create", spoil)]))
    job = w.ended(w.engine().submit("grow", DEA3, "op"))
    assert job["state"] == "failed"
    assert "the engine failed: " in job["message"]
    assert "not JSON serializable" in job["message"]
    assert job["way_out"]
    assert w.journal.holder("machine:dea3") is None


def test_a_kind_whose_steps_cannot_be_told_fails(world):
    kind = Small("grow", [])
    kind.steps = lambda services, facts: 1 / 0
    job = (w := world(kind)).ended(w.engine().submit("grow", DEA3, "op"))
    assert job["state"] == "failed"
    assert job["message"] == "plan: ZeroDivisionError: division by zero"
    assert len(kind.gave_up) == 1


def test_a_job_of_a_kind_this_release_does_not_know_fails(world):
    w = world(Small("grow", [("create", note("a"))]))
    job_id = w.engine(start=False).submit("grow", {}, "op")
    w.kinds.clear()
    w.engine()
    assert "knows no jobs of kind grow" in w.ended(job_id)["message"]


def test_secrets_reach_neither_lines_nor_messages(world):
    def leak(job):
        job.say(f"password is {SECRET}\nand then")
        raise StepError(f"could not log in with {SECRET}")

    w = world(Small("grow", [("create", leak)], remedy=f"try {SECRET}"))
    job_id = w.engine().submit("grow", {}, "op")
    job = w.ended(job_id)
    assert w.lines(job_id) == ["password is ***", "and then"]
    assert job["message"] == "create: could not log in with ***"
    assert job["steps"][0]["message"] == "could not log in with ***"
    assert job["way_out"] == "try ***"
    assert not [p for p in w.folder.glob("orchestrator.db*") if SECRET.encode() in p.read_bytes()]


def test_two_operations_on_one_machine_the_second_is_refused_by_the_firsts_number(world):
    gate = Gate()
    w = world(Small("grow", [("create", gate)]), Small("shrink", [("drain", note("a"))]))
    engine = w.engine()
    first = engine.submit("grow", DEA3, "op")
    assert gate.reached.wait(10)
    with pytest.raises(LockedError, match=rf"job {first} \(grow\) works on machine dea3") as caught:
        engine.submit("shrink", DEA3, "op")
    assert (caught.value.status, caught.value.job) == (409, first)
    with pytest.raises(LockedError, match=f"job {first} "):
        engine.submit("shrink", {"impossible": True}, "op", about=("machine:dea3",))
    gate.open.set()
    w.ended(first)
    assert w.ended(engine.submit("shrink", DEA3, "op"))["state"] == "succeeded"


def test_disjoint_jobs_run_at_once_and_the_platform_excludes_all(world):
    one, other = Gate(), Gate()
    kinds = [
        Small("one", [("go", one)]),
        Small("other", [("go", other)]),
        Small("roll", [("go", note("a"))]),
    ]
    w = world(*kinds)
    engine = w.engine()
    ids = [
        engine.submit("one", {"locks": ["machine:dea3"]}, "op"),
        engine.submit("other", {"locks": ["machine:dea4"]}, "op"),
    ]
    assert one.reached.wait(10)
    assert other.reached.wait(10)
    with pytest.raises(LockedError):
        engine.submit("roll", {"locks": [PLATFORM]}, "op")
    one.open.set()
    other.open.set()
    for job_id in ids:
        w.ended(job_id)
    w.kinds["roll"].work = [("go", gate := Gate())]
    roll = engine.submit("roll", {"locks": [PLATFORM]}, "op")
    assert gate.reached.wait(10)
    assert w.journal.holder("pool:dea") == roll
    with pytest.raises(LockedError, match="the whole platform"):
        engine.submit("one", {"locks": ["machine:dea9"]}, "op")
    gate.open.set()
    assert w.ended(roll)["state"] == "succeeded"


def test_no_more_than_so_many_at_once(world):
    gates = [Gate(), Gate()]
    w = world(*(Small(f"k{i}", [("go", gate)]) for i, gate in enumerate(gates)))
    engine = w.engine(parallel=1)
    first, second = engine.submit("k0", {}, "op"), engine.submit("k1", {}, "op")
    assert gates[0].reached.wait(10)
    assert w.job(second)["state"] == "waiting"
    gates[0].open.set()
    gates[1].open.set()
    w.ended(first)
    assert w.ended(second)["state"] == "succeeded"


def test_a_wish_is_planned_again_when_a_job_ended_meanwhile(world):
    w = world(Small("first", [("go", note("a"))]), Small("grow", [("create", note("b"))]))
    engine = w.engine()
    plans = []

    def another_job_ends():
        plans.append(1)
        if len(plans) == 1:
            w.ended(engine.submit("first", {}, "op"))

    w.kinds["grow"].on_plan = another_job_ends
    w.ended(engine.submit("grow", {}, "op"))
    assert len(plans) == 2


def test_a_stopped_engine_leaves_its_job_to_the_next(world):
    gate = Gate()
    w = world(Small("grow", [("create", note("a")), ("configure", gate), ("beat", note("b"))]))
    job_id = w.engine().submit("grow", DEA3, "op")
    assert gate.reached.wait(10)
    w.engines[0].stop(10)
    assert (w.job(job_id)["state"], w.states(job_id)) == ("running", ["done", "running", "waiting"])
    assert w.journal.holder("machine:dea3") == job_id
    gate.open.set()
    w.engine()
    assert w.ended(job_id)["state"] == "succeeded"
    assert gate.runs == 2
    assert w.lines(job_id) == ["did a", "did b"]
    assert w.kinds["grow"].gave_up == []


def test_an_engine_killed_while_it_gave_up_gives_up_again_and_runs_no_step(world):
    runs = []

    def create(job):
        runs.append(1)
        fail(job)

    kind = Small("grow", [("create", create), ("configure", note("never"))])

    def stop(job):
        raise EngineStopping

    kind.on_compensate = stop
    w = world(kind)
    job_id = w.engine().submit("grow", DEA3, "op")
    until(lambda: kind.gave_up, "it gives up")
    w.engines[0].stop(10)
    assert (w.job(job_id)["state"], w.states(job_id)) == ("running", ["failed", "waiting"])
    kind.on_compensate = None
    kind.gave_up.clear()
    w.engine()
    assert w.ended(job_id)["state"] == "failed"
    assert kind.gave_up == [("create", "dea3 never answered")]
    assert (len(runs), w.lines(job_id)) == (1, [])


def test_one_engine_at_a_time_works_on_a_journal(world):
    w = world(Small("grow", [("create", note("a"))]))
    first = w.engine()
    until(lambda: first.works, "the first works")
    second = w.engine()
    job_id = w.journal.add("grow", {}, w.kinds["grow"].plan(None, {}), "op", w.journal.version())
    w.ended(job_id)
    assert not second.works
    first.stop(5)
    until(lambda: second.works, "the second takes over")


def test_a_journal_that_does_not_answer_fails_no_job(world):
    seen = threading.Event()

    def away(job):
        if not seen.is_set():
            seen.set()
            raise OperationalError("INSERT", {}, Exception("connection refused"))
        job.say("back")

    kind = Small("grow", [("create", away)])
    w = world(kind)
    job_id = w.engine().submit("grow", {}, "op")
    assert w.ended(job_id)["state"] == "succeeded"
    assert w.lines(job_id) == ["back"]
    assert kind.gave_up == []


def test_a_failed_job_is_resumed_from_its_failed_step(world):
    broken = threading.Event()
    broken.set()

    def configure(job):
        if broken.is_set():
            raise StepError("the share is full")
        job.say("configured")

    w = world(Small("roll", [("canary", note("a")), ("configure", configure)]), resumable=["roll"])
    engine = w.engine()
    job_id = engine.submit("roll", DEA3, "op")
    assert w.ended(job_id)["state"] == "failed"
    broken.clear()
    engine.resume(job_id, "op@x")
    until(lambda: w.job(job_id)["state"] == "succeeded", "it succeeds")
    job = w.job(job_id)
    assert (job["message"], job["way_out"]) == ("", "")
    assert w.lines(job_id) == ["did a", "resumed by op@x", "configured"]
    with pytest.raises(RefusedError, match="only a failed one"):
        engine.resume(job_id, "op")


def test_what_cannot_be_resumed_says_why(world):
    w = world(Small("grow", [("create", fail)]), Small("roll", [("go", fail)]), resumable=["roll"])
    engine = w.engine()
    grow = engine.submit("grow", DEA3, "op")
    roll = engine.submit("roll", {"locks": ["machine:dea4"]}, "op")
    w.ended(grow)
    w.ended(roll)
    with pytest.raises(RefusedError, match="a failed grow is not resumed"):
        engine.resume(grow, "op")
    with pytest.raises(RefusedError, match="there is no job 99") as caught:
        engine.resume(99, "op")
    assert caught.value.status == 404
    later = engine.submit("grow", {"locks": [PLATFORM]}, "op")
    w.ended(later)
    with pytest.raises(RefusedError, match=rf"job {later} \(grow\) has worked on the same since"):
        engine.resume(roll, "op")


def test_a_refused_wish_leaves_no_job(world):
    w = world(Small("grow", [("create", note("a"))]))
    with pytest.raises(RefusedError, match="size: want less"):
        w.engine().submit("grow", {"impossible": True}, "op")
    assert w.journal.jobs(10) == []


DIES = """
import os, sys, pathlib, time
from tests.unit.orchestrator.engine_rig import Small, World, note

def die(job):
    job.facts["native"] = "vm-17"
    job.save()
    job.facts["lost"] = True
    os._exit(9)

world = World(pathlib.Path(sys.argv[1]), Small("grow", [("create", note("a")), ("configure", die), ("beat", note("b"))]))
world.engine().submit("grow", {"locks": ["machine:dea3"]}, "op")
time.sleep(60)
"""


def test_a_process_killed_inside_a_step_is_followed_by_one_that_goes_on(world, tmp_path):
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], cwd=ROOT, check=False, timeout=60)
    assert died.returncode == 9
    found = {}

    def configure(job):
        found.update(copy.deepcopy(job.facts))
        job.say("found it half done")

    w = world(Small("grow", [("create", fail), ("configure", configure), ("beat", note("b"))]))
    ((job_id, state),) = w.journal.unended()
    assert (state, w.states(job_id)) == ("running", ["done", "running", "waiting"])
    assert w.journal.holder("machine:dea3") == job_id
    w.engine()
    assert w.ended(job_id)["state"] == "succeeded"
    assert found == {"done": ["a"], "native": "vm-17"}
    assert w.lines(job_id) == ["did a", "found it half done", "did b"]

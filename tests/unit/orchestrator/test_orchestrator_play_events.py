"""What is kept of a play's events, and what is said."""

from __future__ import annotations

from typing import Any

from orchestrator.plays.events import Event, PlaySummary, message, reduce, tail


def event(name: str, /, **data: Any) -> dict[str, Any]:
    return {"event": name, "event_data": data}


def test_progress_is_plays_tasks_changes_and_failures() -> None:
    heard = [
        event("playbook_on_start"),
        event("playbook_on_play_start", name="DEAs"),
        event("playbook_on_task_start", name="Install", task="Install"),
        event("playbook_on_task_start", name="Validating arguments against arg spec 'main'"),
        event("runner_on_start", host="dea1", task="Install"),
        event("runner_on_ok", host="dea1", task="Install", res={"changed": True}),
        event("runner_on_ok", host="dea2", task="Install", res={"changed": False}),
        event("runner_on_failed", host="dea3", task="Install", res={"msg": "no"}, ignore_errors=True),
        event("runner_on_failed", host="dea4", task="Install", res={"msg": "no space"}),
        event("runner_on_unreachable", host="dea5", task="Install", res={"msg": "timed out"}),
        event("verbose"),
    ]
    lines = [kept.line() for e in heard if (kept := reduce(e)) is not None]
    assert lines == [
        "play: DEAs",
        "Install",
        "dea1: changed: Install",
        "dea4: failed: Install: no space",
        "dea5: unreachable: Install: timed out",
    ]


def test_a_rescued_failure_is_none_in_the_end() -> None:
    summary = PlaySummary()
    for heard in (
        Event("failed", "Try", "dea1", "no"),
        Event("failed", "Drain", "dea2", "still full"),
        Event("failed", "Stop the roll", "dea2", "dea2 stays drained"),
    ):
        summary.add(heard)
    assert len(summary.failures) == 3
    stats = event("playbook_on_stats", ok={"dea1": 3, "dea2": 1}, failures={"dea2": 1}, rescued={"dea1": 1})
    closing = reduce(stats)
    assert closing is not None
    assert closing.line() == ""
    summary.add(closing)
    assert [(f.host, f.task) for f in summary.failures] == [("dea2", "Drain"), ("dea2", "Stop the roll")]
    assert (summary.recap["dea1"].ok, summary.recap["dea2"].failed) == (3, 1)


def test_a_message_is_found_where_modules_leave_it() -> None:
    assert message({"msg": "non-zero return code", "rc": 2, "stderr": "mount: no such device\n"}) == (
        "non-zero return code: mount: no such device"
    )
    assert message({"msg": ["a is wrong", "b is wrong"]}) == "a is wrong; b is wrong"
    items = [{"failed": True, "msg": "first"}, {"msg": "fine"}, {"failed": True, "msg": "third"}]
    assert message({"msg": "One or more items failed", "results": items}) == "first; third"
    assert message({}) == message(None) == ""
    assert len(message({"msg": "x" * 9000})) < 2100


def test_a_hidden_result_stays_hidden() -> None:
    assert (
        message({"censored": "the output has been hidden", "changed": True})
        == "hidden, as the task has no_log"
    )
    looped = {"results": [{"failed": True, "censored": "hidden"}], "msg": "One or more items failed"}
    assert message(looped) == "hidden, as the task has no_log"


def test_the_tail_has_no_colours() -> None:
    assert tail("one\n\x1b[0;31mtwo\x1b[0m\n\n", 1) == "two"

"""The contract of the bus, and the permissions that are generated from it."""

import json
from pathlib import Path

import msgspec
import pytest

from components.common.bus import subjects
from components.common.bus.subjects import (
    BY_NAME,
    COMPONENTS,
    CONTRACT,
    OPERATOR,
    PEER,
    inbox_prefix,
    is_inbox,
    overlap,
    permissions,
)

ROOT = Path(__file__).resolve().parents[3]


def test_a_subject_stands_once():
    assert len(BY_NAME) == len(CONTRACT)


@pytest.mark.parametrize("user", [*COMPONENTS, OPERATOR])
def test_a_user_may_do_what_the_table_says_and_hear_its_own_inbox(user):
    may = permissions(user)
    # A staging is answered minutes later, perhaps by way of a server that has restarted and knows of no question.
    late = {"_INBOX_controller.>"} if user == subjects.STAGER else set()
    answers = {s for s in may.publish if s.startswith("_INBOX")} if not may.allow_responses else late
    assert set(may.publish) == {s.name for s in CONTRACT if user in s.publishers} | answers
    heard = {s.heard_as(user) for s in CONTRACT if user in s.subscribers}
    assert set(may.subscribe) == heard | {f"_INBOX_{user}.>"}


def test_a_member_of_a_group_hears_nothing_outside_of_it():
    assert "staging staging" in permissions(subjects.STAGER).subscribe
    assert "ingot.task.ended cc" in permissions(subjects.CONTROLLER).subscribe
    # Whoever takes over knows what is in flight.
    requests = BY_NAME["cloudcontrollers.hm.requests"]
    assert requests.heard_as(subjects.CONTROLLER) == "cloudcontrollers.hm.requests cc"
    assert requests.heard_as(subjects.HEALTH_MANAGER) == requests.name
    # Peers of 2011 name their groups themselves.
    assert "staging" in permissions(PEER).subscribe
    for subject in CONTRACT:
        assert subject.all_heard <= subject.subscribers
        assert subject.queue or not subject.all_heard


@pytest.mark.parametrize(
    ("subject", "inbox"),
    [
        ("_INBOX.6b1f9a0c2d", True),
        ("_INBOX_controller.aa.bb", True),
        ("_INBOX_health_manager.aa", True),
        ("_INBOX", False),
        ("_INBOX.", False),
        ("_INBOX..a", False),
        ("_INBOX.>", False),
        ("_INBOX_dea.*", False),
        ("_INBOXES.a", False),
        ("_INBOX.a b", False),
        ("_INBOX.a\n", False),
        ("dea.stop", False),
        ("x._INBOX.a", False),
        ("", False),
    ],
)
def test_what_is_an_inbox(subject, inbox):
    assert is_inbox(subject) is inbox


def test_no_user_can_listen_to_anothers_answers():
    for user in (*COMPONENTS, OPERATOR):
        foreign = [s for s in permissions(user).subscribe if s.startswith("_INBOX") and user not in s]
        assert foreign == []
        assert ">" not in permissions(user).subscribe


@pytest.mark.parametrize("user", [*COMPONENTS, OPERATOR, PEER])
def test_a_user_that_could_ask_itself_may_answer_at_listed_inboxes_only(user):
    may = permissions(user)
    assert may.allow_responses is not overlap(may.publish, may.subscribe)
    inboxes = {s for s in may.publish if s.startswith("_INBOX")}
    if may.allow_responses:
        assert inboxes <= {"_INBOX_controller.>"}
        return
    for subject in CONTRACT:
        if subject.reply is not None and user in subject.subscribers:
            assert inboxes >= {f"_INBOX_{asker}.>" for asker in subject.publishers}
            assert subject.ours or "_INBOX.>" in inboxes
    assert not [s for s in may.publish if overlap([s], ["ingot.platform.>"])] or user in (
        subjects.CONTROLLER,
        subjects.ORCHESTRATOR,
    )


def test_which_users_can_ask_themselves():
    asks_itself = {u for u in (*COMPONENTS, OPERATOR, PEER) if not permissions(u).allow_responses}
    others = {subjects.DEA, subjects.ROUTER, subjects.STAGER, OPERATOR}
    assert asks_itself == {*COMPONENTS, PEER} - others
    # Nobody but the requesters of what data services answer: the inbox of a DEA is none of them.
    assert [s for s in permissions(subjects.SERVICES).publish if s.startswith("_INBOX")] == [
        "_INBOX.>",
        "_INBOX_controller.>",
        "_INBOX_operator.>",
        "_INBOX_orchestrator.>",
        "_INBOX_services.>",
    ]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "*.b", True),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a.b", True),
        ("a.*.c", "a.>", True),
        ("_INBOX.>", "_INBOX_dea.>", False),
        ("a.b", "a.b group", True),
        ("a.c", "a.b c", False),
    ],
)
def test_patterns_overlap_where_a_subject_matches_both(one, other, meet):
    assert overlap([one], ["x", other]) is overlap([other, "y"], [one]) is meet


def test_the_peer_of_2011_never_meets_what_is_ours():
    may = permissions(PEER)
    assert not [s for s in (*may.publish, *may.subscribe) if s.startswith("ingot.")]
    assert "_INBOX.>" in may.subscribe
    assert inbox_prefix(PEER) == inbox_prefix("") == "_INBOX"


def test_only_controllers_start_and_only_deas_beat():
    for name in ("dea.*.start", "dea.stop"):
        assert BY_NAME[name].publishers == {subjects.CONTROLLER}
    assert BY_NAME["ingot.dea.beat"].publishers == {subjects.DEA}


def test_only_controllers_and_the_orchestrator_speak_for_the_platform():
    for name in ("ingot.platform.register", "ingot.platform.unregister"):
        assert BY_NAME[name].publishers == {subjects.CONTROLLER, subjects.ORCHESTRATOR}
        assert BY_NAME[name].subscribers == {subjects.ROUTER}


def test_nobody_else_is_a_user():
    with pytest.raises(ValueError, match="mallory"):
        permissions("mallory")


def test_every_publisher_has_a_listener_and_every_body_is_a_message():
    for subject in CONTRACT:
        assert subject.publishers, subject.name
        assert subject.subscribers, subject.name
        for kind in (subject.carries, subject.reply):
            assert kind is None or issubclass(kind, msgspec.Struct)


def test_what_the_role_carries_is_what_the_table_says(capsys):
    subjects.main()
    generated = json.loads(capsys.readouterr().out)
    assert set(generated) == {*COMPONENTS, OPERATOR, PEER}
    carried = json.loads((ROOT / "roles/nats/files/permissions.json").read_text())
    assert carried == generated

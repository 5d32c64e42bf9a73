"""The contract of the bus, and the permissions that are generated from it."""

import json
from pathlib import Path

import msgspec
import pytest

from components.common import subjects
from components.common.subjects import (
    BY_NAME,
    COMPONENTS,
    CONTRACT,
    OPERATOR,
    PEER,
    inbox_prefix,
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
    assert set(may.publish) == {s.name for s in CONTRACT if user in s.publishers} | late
    assert set(may.subscribe) == {s.name for s in CONTRACT if user in s.subscribers} | {f"_INBOX_{user}.>"}


def test_no_user_can_listen_to_anothers_answers():
    for user in (*COMPONENTS, OPERATOR):
        foreign = [s for s in permissions(user).subscribe if s.startswith("_INBOX") and user not in s]
        assert foreign == []
        assert ">" not in permissions(user).subscribe


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

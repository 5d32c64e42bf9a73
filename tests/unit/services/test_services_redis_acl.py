"""The users and passwords of an instance's server."""

from components.services.base.credentials import digest
from components.services.redis import acl
from tests.unit.services.redis_samples import A, B, record


def test_each_binding_is_a_user_and_a_password_of_default():
    users = acl.wanted(record(A, B))
    assert users["ua"] == {A.digest}
    assert users["default"] == {A.digest, B.digest, digest("owner")}
    assert users["owner"] == {digest("owner")}


def test_the_list_on_disk_holds_digests_alone_and_lets_nobody_in_without_a_password():
    text = acl.file(record(A))
    assert "password" not in text
    assert "admin secret" not in text
    assert "nopass" not in text
    lines = {line.split()[1]: line.split()[2:] for line in text.splitlines()}
    assert set(lines) == {"default", "owner", "ua", "ingot-node"}
    assert all(words[0] == "reset" for words in lines.values())
    assert {"-@admin", "-@dangerous"} <= set(lines["default"])
    assert "+@all" not in lines["ingot-node"]
    assert "~*" not in lines["ingot-node"]


def test_letting_in_interrupts_nobody():
    commands = acl.changes(acl.wanted(record(A)), acl.wanted(record(A, B)))
    assert [c[:3] for c in commands] == [("ACL", "SETUSER", "default"), ("ACL", "SETUSER", "ub")]


def test_ending_takes_the_password_first_and_then_closes_what_it_opened():
    commands = acl.changes(acl.wanted(record(A, B)), acl.wanted(record(B)))
    assert [c[:3] for c in commands] == [
        ("ACL", "DELUSER", "ua"),
        ("ACL", "SETUSER", "default"),
        ("CLIENT", "KILL", "USER"),
    ]
    assert f"#{A.digest}" not in commands[1]
    assert commands[2] == ("CLIENT", "KILL", "USER", "default")


def test_what_is_right_already_is_left_alone():
    assert acl.changes(acl.wanted(record(A)), acl.wanted(record(A))) == []


def test_a_server_that_was_found_with_strangers_throws_them_out():
    live = {**acl.wanted(record(A)), "eve": frozenset({digest("x")}), "default": frozenset({digest("x")})}
    commands = acl.changes(live, acl.wanted(record(A)))
    assert ("ACL", "DELUSER", "eve") in commands
    assert ("CLIENT", "KILL", "USER", "default") in commands

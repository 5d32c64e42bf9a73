"""Redis's pure parts: who may enter, where servers listen, what is remembered."""

import json
import os

import msgspec
import pytest

from components.common.config import parse
from components.common.errors import ConfigError
from components.services.base.config import GatewayConfig
from components.services.base.credentials import digest
from components.services.base.errors import ServiceError
from components.services.base.ports import next_port
from components.services.redis import acl, settings
from components.services.redis.config import RedisNodeConfig
from components.services.redis.folders import Folders
from components.services.redis.records import Binding, Record, wanted_identity, wanted_user

A, B = Binding("ua", digest("password of a")), Binding("ub", digest("password of b"))
NODE = {"bus": {"urls": ["nats://h:4222"]}, "node_id": "redis_node_1", "base_dir": "/var/lib/x"}
GATEWAY = {
    "bus": {"urls": ["nats://h:4222"]},
    "status": {"port": 9081},
    "controllers": ["http://h:9022"],
    "token": "long enough",
    "version": "7.0",
    "base_dir": "/var/lib/x",
}


def record(*bindings: Binding) -> Record:
    return Record("i1", 5000, "free", "admin secret", digest("owner"), list(bindings))


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


def test_a_binding_is_found_by_its_user_or_by_its_password():
    known = record(A, B)
    assert known.find({"username": "ub"}) == B
    assert known.find({"password": "password of a"}) == A
    assert known.find({"username": "uc", "password": "password of a"}) is None
    assert known.find({}) is None


@pytest.mark.parametrize("name", ["../etc", "a/b", "", " ", "-x", "x" * 65, "a b", "a\n"])
def test_a_name_from_the_bus_is_no_path(name):
    given = {"name": name, "username": name, "password": "long enough"}
    if not name:
        # An empty one is none: a new one is made.
        assert wanted_identity(given)[0]
        return
    for judge in (wanted_identity, wanted_user):
        with pytest.raises(ServiceError):
            judge(given)


@pytest.mark.parametrize("name", ["default", "owner", "ingot-node"])
def test_users_of_our_own_are_not_given_away(name):
    with pytest.raises(ServiceError):
        wanted_user({"username": name, "password": "long enough"})


def test_names_and_passwords_are_new_each_time():
    made = [wanted_user(None) for _ in range(50)]
    assert len({u for u, _ in made}) == len({p for _, p in made}) == 50
    assert all(p.isalnum() and len(p) > 40 for _, p in made)


def test_ports_go_round_and_skip_what_is_taken():
    def every(_port: int) -> bool:
        return True

    assert next_port(5000, 5002, set(), 0, every) == 5000
    assert next_port(5000, 5002, {5001}, 5000, every) == 5002
    assert next_port(5000, 5002, set(), 5002, every) == 5000
    assert next_port(5000, 5002, {5000, 5001, 5002}, 5001, every) is None
    assert next_port(5000, 5002, set(), 5000, lambda port: port == 5000) == 5000
    assert next_port(5000, 5002, set(), 9999, every) == 5000


def test_the_servers_settings_hold_no_secret_and_keep_what_is_written(tmp_path):
    text = settings.render(tmp_path, bind="0.0.0.0", port=5000, memory_mb=64, max_clients=500)
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    assert lines["appendonly"] == "yes"
    assert lines["maxmemory"] == "64mb"
    assert lines["maxmemory-policy"] == "noeviction"
    assert "requirepass" not in lines
    assert lines["aclfile"] == str(tmp_path / "users.acl")


def test_records_survive_and_what_cannot_be_read_is_left_alone(tmp_path):
    config = parse({**NODE, "base_dir": str(tmp_path), "sandbox": "process"}, RedisNodeConfig)
    folders = Folders(config)
    folders.make(record(A))
    broken = folders.of("broken")
    broken.mkdir()
    (broken / "instance.json").write_text("{")
    (folders.of("empty")).mkdir()
    assert folders.load() == [record(A)]
    assert broken.is_dir()
    assert "password of a" not in json.dumps((folders.of("i1") / "instance.json").read_text())
    folders.remove("i1")
    folders.remove("i1")
    assert folders.load() == []


def test_a_unit_says_nothing_secret_and_hides_its_neighbours(tmp_path):
    config = parse(NODE | {"base_dir": str(tmp_path)}, RedisNodeConfig)
    spec = Folders(config).spec(msgspec.structs.replace(record(A), uid=48003))
    assert spec.name == "ingot-redis-i1"
    assert next(iter(spec.argv)) == "/usr/bin/redis-server"
    assert (spec.uid, spec.gid, spec.memory_mb) == (48003, None, 192)
    assert tmp_path / "instances" in spec.empty
    assert "admin secret" not in repr(spec)


def wrong(kind, given, **changes: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse({**given, **changes}, kind)
    return " ".join(caught.value.problems)


def test_a_good_configuration_has_no_problems():
    parse(NODE, RedisNodeConfig)
    parse(GATEWAY, GatewayConfig)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"node_id": "a.b"}, "node_id"),
        ({"node_id": ""}, "node_id"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": 2000}, "capacity"),
        ({"ports": {"first": 9, "last": 5}}, "ports.first"),
        ({"capacity": 200}, "the number of uids"),
        ({"uids": {"first": 48009, "last": 48000}}, "uids.first"),
        ({"uids": {"first": 0, "last": 48000}}, "uids.first"),
        ({"bind": "everywhere"}, "bind"),
        ({"memory_mb": 1}, "memory_mb"),
        ({"sandbox": "none"}, "sandbox"),
        ({"base_dir": "here"}, "base_dir"),
        ({"announce_interval": 0}, "announce_interval"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_nodes_problems_are_named(changes, named):
    assert named in wrong(RedisNodeConfig, NODE, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"controllers": []}, "controllers"),
        ({"controllers": ["h:9022"]}, "controllers"),
        ({"token": "short"}, "token"),
        ({"version": "7-0"}, "version"),
        ({"plans": []}, "plans"),
        ({"status": {"port": 0}}, "status.port"),
        ({"timeout": 10, "node_timeout": 10}, "timeout"),
        ({"late_timeout": 1}, "late_timeout"),
        ({"check_orphan_interval": 0}, "check_orphan_interval"),
    ],
)
def test_a_gateways_problems_are_named(changes, named):
    assert named in wrong(GatewayConfig, GATEWAY, **changes)


def test_servers_get_through_to_their_own_whatever_the_daemons_mask(tmp_path):
    before = os.umask(0o077)
    try:
        folders = Folders(parse({**NODE, "base_dir": str(tmp_path), "sandbox": "process"}, RedisNodeConfig))
        folders.make(record(A))
    finally:
        os.umask(before)
    assert folders.of("i1").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "instances").stat().st_mode & 0o777 == 0o711


def test_a_server_that_ended_is_asked_for_its_last_words(tmp_path):
    folders = Folders(parse({**NODE, "base_dir": str(tmp_path), "sandbox": "process"}, RedisNodeConfig))
    folders.make(record(A))
    assert folders.last_words("i1") == ""
    (folders.of("i1") / "redis.log").write_text("first\nFatal: no\n\n")
    assert folders.last_words("i1") == "Fatal: no"

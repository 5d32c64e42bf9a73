"""The bus on its machine: its users may do what the contract says and nothing else."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import testinfra

PORT = 4222


class Peer:
    """A client in the protocol's own words, from the host that runs the tests."""

    def __init__(self, address: str, user: str = "", password: str = "") -> None:
        self._socket = socket.create_connection((address, PORT), timeout=5)
        self._file = self._socket.makefile("rb")
        self._line()
        options = {
            "verbose": False,
            "pedantic": False,
            "user": user,
            "pass": password,
            "lang": "test",
            "version": "1",
        }
        self.said = self.tell(f"CONNECT {json.dumps(options)}")

    def tell(self, *lines: str, lines_wanted: int = 0) -> list[str]:
        """Send lines; return what the server says until it has answered a ping and said as many lines as wanted."""
        self._socket.sendall("".join(f"{line}\r\n" for line in (*lines, "PING")).encode())
        said: list[str] = []
        answered = False
        while not answered or len(said) < lines_wanted:
            line = self._line()
            if line == "PONG":
                answered = True
            elif line is None:
                break
            else:
                said.append(line)
        return said

    def _line(self) -> str | None:
        try:
            return self._file.readline().decode().strip() or None
        except OSError:
            return None

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    return known


@pytest.fixture
def peer(facts: dict[str, Any]) -> Any:
    made: list[Peer] = []

    def connect(user: str, password: str | None = None) -> Peer:
        known = facts["ingot_bus_passwords"]
        made.append(Peer(facts["ansible_host"], user, known[user] if password is None else password))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def test_the_server_runs_and_starts_with_the_machine(host: Any) -> None:
    service = host.service("nats-server")
    if not service.is_running:
        pytest.fail(host.run("journalctl -u nats-server -n 50 --no-pager").stdout)
    assert service.is_enabled


def test_only_the_servers_group_reads_the_passwords(host: Any) -> None:
    config = host.file("/etc/nats-server.conf")
    assert (config.user, config.group, config.mode) == ("root", "nats", 0o640)


def test_monitoring_stays_on_the_machine(host: Any) -> None:
    assert host.socket("tcp://127.0.0.1:8222").is_listening
    assert not host.socket("tcp://0.0.0.0:8222").is_listening


def test_the_unit_is_fenced_in(host: Any) -> None:
    shown = host.run(
        "systemctl show nats-server -p NoNewPrivileges -p ProtectSystem -p Restart --value"
    ).stdout.split()
    assert sorted(shown) == ["always", "strict", "yes"]


@pytest.mark.parametrize(
    "user", ["controller", "dea", "health_manager", "router", "stager", "operator", "peer"]
)
def test_every_user_gets_in_with_its_own_password(peer: Any, user: str) -> None:
    assert peer(user).said == []


@pytest.mark.parametrize("user", ["dea", "nobody", ""])
def test_nobody_gets_in_with_another_one(peer: Any, user: str) -> None:
    assert "-ERR 'Authorization Violation'" in peer(user, "something else").said


def test_a_dea_hears_its_own_start_and_says_its_beat(peer: Any) -> None:
    dea, controller = peer("dea"), peer("controller")
    assert dea.tell("SUB dea.0123abcd.start 1") == []
    assert controller.tell("SUB ingot.dea.beat 1", "PUB dea.0123abcd.start 2", "{}") == []
    assert dea.tell("PUB ingot.dea.beat 2", "{}", lines_wanted=2) == ["MSG dea.0123abcd.start 1 2", "{}"]
    assert controller.tell(lines_wanted=2) == ["MSG ingot.dea.beat 1 2", "{}"]


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ("dea", "PUB dea.stop 2"),
        ("dea", "PUB cloudcontrollers.hm.requests 2"),
        ("dea", "PUB ingot.platform.register 2"),
        ("router", "PUB router.register 2"),
        ("stager", "PUB ingot.dea.beat 2"),
        ("peer", "PUB ingot.dea.beat 2"),
        ("peer", "PUB ingot.platform.register 2"),
        ("services", "PUB ingot.platform.register 2"),
    ],
)
def test_a_user_publishes_nothing_beyond_its_part(peer: Any, user: str, line: str) -> None:
    said = peer(user).tell(line, "{}")
    assert any(word.startswith("-ERR 'Permissions Violation for Publish") for word in said)


@pytest.mark.parametrize(
    ("user", "subject"),
    [("dea", "_INBOX_controller.>"), ("dea", "_INBOX.>"), ("stager", "dea.*.start"), ("router", ">")],
)
def test_a_user_hears_nothing_beyond_its_part(peer: Any, user: str, subject: str) -> None:
    said = peer(user).tell(f"SUB {subject} 1")
    assert any(word.startswith("-ERR 'Permissions Violation for Subscription") for word in said)


def test_everyone_who_is_asked_may_answer_and_more_than_once(peer: Any) -> None:
    dea, controller = peer("dea"), peer("controller")
    dea.tell("SUB dea.find.droplet 1")
    controller.tell("SUB _INBOX_controller.x 1", "PUB dea.find.droplet _INBOX_controller.x 2", "{}")
    asked = dea.tell(lines_wanted=2)
    assert asked[0] == "MSG dea.find.droplet 1 _INBOX_controller.x 2"
    assert dea.tell("PUB _INBOX_controller.x 1", "1", "PUB _INBOX_controller.x 1", "2") == []
    assert controller.tell(lines_wanted=4) == [
        "MSG _INBOX_controller.x 1 1",
        "1",
        "MSG _INBOX_controller.x 1 1",
        "2",
    ]


def test_what_is_said_to_one_server_is_heard_at_the_others(
    facts: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    inventory = request.config.option.ansible_inventory
    password = facts["ingot_bus_passwords"]["controller"]
    there = [
        testinfra.get_host(f"ansible://{n}", ansible_inventory=inventory) for n in facts["groups"]["nats"]
    ]
    addresses = [machine.ansible.get_variables()["ansible_host"] for machine in there]
    assert len(addresses) == 2
    listeners = [Peer(address, "controller", password) for address in addresses]
    speaker = Peer(facts["ansible_host"], "dea", facts["ingot_bus_passwords"]["dea"])
    for listener in listeners:
        listener.tell("SUB ingot.dea.beat 1")
    # Interest spreads between servers in its own time, so it is said until it is heard.
    for listener in listeners:
        heard: list[str] = []
        for _ in range(100):
            speaker.tell("PUB ingot.dea.beat 2", "{}")
            heard = listener.tell()
            if heard:
                break
        assert heard[:2] == ["MSG ingot.dea.beat 1 2", "{}"]
    for connection in (*listeners, speaker):
        connection.close()


def test_an_answer_nobody_asked_for_is_refused(peer: Any) -> None:
    said = peer("dea").tell("PUB _INBOX_controller.x 1", "1")
    assert any(word.startswith("-ERR 'Permissions Violation for Publish") for word in said)

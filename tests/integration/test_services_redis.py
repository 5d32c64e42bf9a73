"""Redis as a data service: real bus, gateway, node and servers; the controller is a stub that keeps handles."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.integration import forked
from tests.integration.common_rig import NatsServer
from tests.integration.services_rig import LABEL, ServicesRig, Stub, client, cut, opens
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def controller() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.shutdown()
    stub.server_close()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path, users=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def rig(tmp_path: Path, controller: Stub, nats: NatsServer) -> Iterator[ServicesRig]:
    # The first controller is not there: the gateway goes on to the next.
    made = ServicesRig(tmp_path, ["http://127.0.0.1:1", controller.url], nats.url)
    made.node.start()
    made.gateway.start()
    try:
        until(made.node.ready, "the node is ready")
        until(made.gateway.ready, "the gateway is ready")
        yield made
    finally:
        made.close()


def bound(rig: ServicesRig, service_id: str) -> dict[str, Any]:
    answer = rig.bind(service_id)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def instance(rig: ServicesRig) -> dict[str, Any]:
    answer = rig.provision()
    assert answer.status_code == 200, answer.text + rig.node.log.read_text()
    return dict(answer.json())


def test_provision_and_bind_give_the_contracts_shapes(rig: ServicesRig, controller: Stub) -> None:
    made = rig.provision(label="redis-2.2").json()
    assert set(made) == {"service_id", "data", "credentials"}
    assert made["data"] == {"plan": "free"}
    assert set(made["credentials"]) == {
        "hostname", "host", "port", "password", "name", "username", "node_id"
    }  # fmt: skip
    assert made["service_id"] == made["credentials"]["name"]
    handle = bound(rig, made["service_id"])
    assert set(handle) == {"service_id", "configuration", "credentials"}
    assert handle["configuration"] == {"plan": "free", "data": {"binding_options": {}}}
    assert set(handle["credentials"]) == {"hostname", "host", "port", "password", "name", "username"}
    assert handle["credentials"]["password"] != made["credentials"]["password"]
    offering = controller.offerings[0]
    assert (offering["label"], offering["active"], offering["plans"]) == (LABEL, True, ["free"])
    assert offering["url"] == f"http://127.0.0.1:{rig.gateway.port}"
    assert offering["tags"] == ["redis", LABEL, "key-value", "nosql"]
    until(lambda: len(controller.offerings) > 2, "it is said again and again")


@pytest.mark.parametrize("named", [False, True], ids=["password alone", "user and password"])
def test_unbinding_ends_one_and_harms_no_other(
    rig: ServicesRig, instance: dict[str, Any], named: bool
) -> None:
    service_id = instance["service_id"]
    one, other = bound(rig, service_id), bound(rig, service_id)
    first = client(one["credentials"], named=named)
    second = client(other["credentials"], named=True)
    first.set("visits", 1)
    assert second.incr("visits") == 2
    listening = client(one["credentials"], named=named).pubsub()
    listening.subscribe("news")
    listening.get_message(timeout=5)

    assert rig.unbind(service_id, one["service_id"]).json() == {}

    assert cut(first)
    assert not opens(one["credentials"])
    assert not opens(one["credentials"], named=True)
    with pytest.raises(redis.ConnectionError):
        listening.get_message(timeout=5)
    # Another binding's own user was not even interrupted, and its password alone opens as before.
    assert not cut(second)
    assert second.get("visits") == "2"
    assert opens(other["credentials"])
    assert opens(instance["credentials"])


def test_an_application_rules_its_data_and_not_the_server(rig: ServicesRig, instance: dict[str, Any]) -> None:
    connection = client(bound(rig, instance["service_id"])["credentials"])
    connection.set("key", "value")
    assert connection.keys("*") == ["key"]
    connection.flushall()
    for forbidden in (
        "ACL LIST",
        "ACL SETUSER eve on nopass ~* +@all",
        "CONFIG GET requirepass",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "SHUTDOWN NOSAVE",
        "REPLICAOF 127.0.0.1 1",
        "MIGRATE 127.0.0.1 1 key 0 10",
        "DEBUG SLEEP 0",
        "MONITOR",
        "SAVE",
    ):
        with pytest.raises(Exception, match=r"no permissions|not allowed"):
            connection.execute_command(*forbidden.split())


def test_no_secret_in_process_list_log_or_wide_open_file(rig: ServicesRig, instance: dict[str, Any]) -> None:
    credentials = bound(rig, instance["service_id"])["credentials"]
    record = next((rig.folder / "redis_node_1/state/instances").glob("*/instance.json"))
    admin = json.loads(record.read_text())["admin_password"]
    hidden = [credentials["password"], instance["credentials"]["password"], admin]
    listed = "".join(
        path.read_text(errors="replace") + (path.parent / "environ").read_text(errors="replace")
        for pid in rig.records().values()
        for path in [Path(f"/proc/{pid}/cmdline")]
    )
    logs = rig.node.log.read_text() + rig.gateway.log.read_text()
    users = (record.parent / "users.acl").read_text()
    for secret in hidden:
        assert secret not in listed
        assert secret not in logs
        assert secret not in users
    # On the node's disk, applications' passwords are digests.
    assert credentials["password"] not in record.read_text()
    assert {p.stat().st_mode & 0o77 for p in (record, record.parent / "users.acl")} == {0}


def test_a_restarted_or_killed_node_disturbs_nothing(rig: ServicesRig, instance: dict[str, Any]) -> None:
    credentials = bound(rig, instance["service_id"])["credentials"]
    connection = client(credentials)
    connection.set("kept", "yes")
    servers = rig.records()
    for number in (signal.SIGTERM, signal.SIGKILL):
        rig.node.end(number)
        assert not cut(connection)
        with forked.forking(False):
            rig.node.start()
        until(rig.node.ready, "the node is back")
        assert rig.records() == servers
    assert not cut(connection)
    again = bound(rig, instance["service_id"])["credentials"]
    assert client(again).get("kept") == "yes"


def test_a_server_that_dies_comes_back_with_its_data_and_its_users(
    rig: ServicesRig, instance: dict[str, Any]
) -> None:
    one, other = bound(rig, instance["service_id"]), bound(rig, instance["service_id"])
    connection = client(one["credentials"])
    connection.set("kept", "yes")
    # What is written is flushed each second; this waits for it as a client may.
    connection.execute_command("WAIT", 0, 0)
    assert rig.unbind(instance["service_id"], other["service_id"]).status_code == 200
    (before,) = rig.records().values()
    os.kill(before, signal.SIGKILL)
    until(lambda: [p for p in rig.records().values() if p != before], "another server runs")
    assert opens(one["credentials"])
    assert client(one["credentials"]).get("kept") == "yes"
    assert not opens(other["credentials"])


def test_after_a_reboot_all_instances_are_started_again(rig: ServicesRig, instance: dict[str, Any]) -> None:
    credentials = bound(rig, instance["service_id"])["credentials"]
    client(credentials).set("kept", "yes")
    rig.node.end()
    for pid in rig.records().values():
        os.kill(pid, signal.SIGTERM)
        until(partial(_ended, pid), "it ended")
    # After a boot, systemd knows no units.
    for path in (rig.folder / "redis_node_1/state/units").glob("*.json"):
        path.unlink()
    rig.node.start()
    assert opens(credentials)
    assert client(credentials).get("kept") == "yes"


def test_a_node_that_is_away_is_a_clear_error_and_is_made_good(
    rig: ServicesRig, instance: dict[str, Any]
) -> None:
    service_id = instance["service_id"]
    handle = bound(rig, service_id)
    rig.node.end()
    assert opens(handle["credentials"]), "applications do not need the node"

    away = rig.bind(service_id)
    assert (away.status_code, away.json()["code"]) == (504, 30700)
    assert "redis_node_1 is away" in away.json()["description"]
    nobody = rig.provision()
    assert (nobody.status_code, nobody.json()["code"]) == (503, 30600)
    later = rig.unbind(service_id, handle["service_id"])
    assert (later.status_code, later.json()["code"]) == (504, 30700)
    assert "as soon as the node answers" in later.json()["description"]

    # It is not forgotten, also where the gateway is restarted and the controllers have forgotten it.
    rig.gateway.end()
    with forked.forking(False):
        rig.gateway.start()
    until(lambda: rig.gateway.reasons() == ["no_node"], "the gateway waits for a node")
    rig.node.start()
    until(lambda: not opens(handle["credentials"]), "the old credentials open nothing")
    until(lambda: rig.gateway.varz()["removals_owed"] == {}, "nothing is owed any more")


def test_an_answer_that_comes_too_late_is_undone(tmp_path: Path, controller: Stub, nats: NatsServer) -> None:
    rig = ServicesRig(tmp_path, [controller.url], nats.url, node_timeout=50.0, timeout=60)
    rig.node.start()
    rig.gateway.start()
    try:
        until(rig.gateway.ready, "the gateway is ready")
        made = rig.provision().json()
        controller.handles = [
            {key: made[key] for key in ("service_id", "credentials")} | {"configuration": {"plan": "free"}}
        ]
        # Only from here on is it impatient: on a busy machine, making the first one takes its time.
        rig.gateway.end()
        rig.gateway.configure(node_timeout=1.0)
        rig.gateway.start()
        until(rig.gateway.ready, "the gateway is back")
        os.kill(rig.node.pid, signal.SIGSTOP)
        slow = rig.provision()
        assert (slow.status_code, slow.json()["code"]) == (504, 30700)
        late = rig.bind(made["service_id"])
        assert (late.status_code, late.json()["code"]) == (504, 30700)
        os.kill(rig.node.pid, signal.SIGCONT)
        # The binding is made while the instance's server still starts, and answered first.
        until(lambda: rig.gateway.log.read_text().count("node_answered_late") == 2, "both answers came")
        until(lambda: rig.node.varz()["instances"] == 1, "what was made late is removed")
        until(lambda: rig.node.varz()["bindings"] == 0, "what was bound late is unbound")
        until(lambda: rig.gateway.varz()["removals_owed"] == {}, "nothing is owed")
        assert len(rig.records()) == 1
    finally:
        rig.close()


def test_what_nobody_waits_for_any_more_is_undone(rig: ServicesRig, instance: dict[str, Any]) -> None:
    os.kill(rig.node.pid, signal.SIGSTOP)
    with pytest.raises(httpx.ReadTimeout):
        rig.ask(
            "POST",
            "/gateway/v1/configurations",
            {"label": LABEL, "name": "r2", "plan": "free", "email": "a@b.c"},
            seconds=1,
        )
    path = f"/gateway/v1/configurations/{instance['service_id']}/handles"
    body = {"service_id": instance["service_id"], "label": LABEL, "email": "a@b.c"}
    with pytest.raises(httpx.ReadTimeout):
        rig.ask("POST", path, body, seconds=1)
    os.kill(rig.node.pid, signal.SIGCONT)
    until(lambda: rig.gateway.log.read_text().count("asker_gone") == 2, "both answers came")
    until(lambda: rig.gateway.varz()["removals_owed"] == {}, "nothing is owed")
    found = rig.node.varz()
    assert (found["instances"], found["bindings"]) == (1, 0)
    assert rig.gateway.varz()["instances"] == 1


def test_unprovisioning_leaves_nothing_and_may_be_asked_twice(
    rig: ServicesRig, instance: dict[str, Any]
) -> None:
    service_id = instance["service_id"]
    handle = bound(rig, service_id)
    assert rig.unprovision(service_id).json() == {}
    assert rig.records() == {}
    assert list((rig.folder / "redis_node_1/state/instances").iterdir()) == []
    again = rig.unprovision(service_id)
    assert (again.status_code, again.json()["code"]) == (404, 30300)
    assert rig.unbind(service_id, handle["service_id"]).json()["code"] == 30300
    assert rig.bind(service_id).json()["code"] == 30300


def test_a_full_node_says_so(rig: ServicesRig) -> None:
    made = [rig.provision() for _ in range(6)]
    assert [a.status_code for a in made] == [200] * 5 + [500]
    assert made[-1].json()["code"] == 30500
    assert "no room" in made[-1].json()["description"]
    ports = [a.json()["credentials"]["port"] for a in made[:5]]
    assert ports == [rig.first_port + n for n in range(5)]
    # In turn: the port of one that is gone is not the next one's.
    assert rig.unprovision(made[0].json()["service_id"]).status_code == 200
    assert rig.provision().json()["credentials"]["port"] == rig.first_port + 5


def test_what_is_wrong_with_a_request_is_said(rig: ServicesRig, instance: dict[str, Any]) -> None:
    def code(answer: Any) -> tuple[int, int]:
        return answer.status_code, answer.json()["code"]

    path = "/gateway/v1/configurations"
    assert code(rig.ask("POST", path, {}, {"Content-Type": "text/plain"})) == (400, 30000)
    assert code(rig.ask("POST", path, {"label": 1})) == (400, 30001)
    assert code(rig.ask("POST", path, [1])) == (400, 30001)
    assert code(rig.provision(label="mysql-5.1")) == (400, 30002)
    assert code(rig.provision(plan="gold")) == (400, 30003)
    assert code(rig.ask("POST", path, {}, {"X-VCAP-Service-Token": "guess"})) == (401, 30100)
    assert code(rig.bind(instance["service_id"], service_id="another")) == (400, 30001)
    assert code(rig.bind("nowhere")) == (404, 30300)
    assert code(rig.ask("POST", f"{path}/{instance['service_id']}/snapshots")) == (501, 30501)
    assert code(rig.ask("POST", "/service/internal/v1/restore")) == (501, 30501)


def test_credentials_nobody_knows_of_are_found_and_ended(
    rig: ServicesRig, controller: Stub, instance: dict[str, Any]
) -> None:
    known, unknown = bound(rig, instance["service_id"]), bound(rig, instance["service_id"])
    lost = rig.provision().json()
    controller.handles = [
        {"service_id": h["service_id"], "configuration": {"plan": "free"}, "credentials": h["credentials"]}
        for h in (instance, known)
    ]
    rig.gateway.end()
    rig.gateway.start()
    until(rig.gateway.ready, "the gateway is back")
    assert rig.ask("POST", "/service/internal/v1/check_orphan").json() == {}
    until(lambda: not opens(unknown["credentials"]), "the unknown binding is ended")
    assert opens(known["credentials"])
    # An instance holds data: it is shown, and removed by who asks for it.
    orphans = {"redis_node_1": [lost["service_id"]]}
    until(lambda: rig.gateway.varz()["orphan_instances"] == orphans, "the unknown instance is shown")
    assert opens(lost["credentials"])
    wanted = {"orphan_instances": {"redis_node_1": [lost["service_id"], instance["service_id"]]}}
    assert rig.ask("DELETE", "/service/internal/v1/purge_orphan", wanted).json() == {}
    until(lambda: len(rig.records()) == 1, "it is removed, and what is known is not")
    assert opens(known["credentials"])


def test_the_bus_may_go_and_come_back(rig: ServicesRig, instance: dict[str, Any], nats: NatsServer) -> None:
    nats.stop()
    until(lambda: "bus_lost" in (rig.gateway.reasons() or []), "the gateway misses the bus")
    lost = rig.bind(instance["service_id"])
    assert (lost.status_code, lost.json()["code"]) == (503, 30600)
    nats.start()
    until(rig.gateway.ready, "the gateway is back on the bus")
    until(rig.node.ready, "the node is back on the bus")
    assert opens(bound(rig, instance["service_id"])["credentials"])


def test_a_gateway_says_goodbye(rig: ServicesRig, controller: Stub) -> None:
    assert rig.gateway.end() == 0
    assert controller.offerings[-1]["active"] is False
    assert "Traceback" not in rig.gateway.log.read_text()
    assert rig.node.end() == 0


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

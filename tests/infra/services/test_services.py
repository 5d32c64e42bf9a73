"""Redis on its machine: instances are units of their own, a binding's password opens until it is ended, secrets stay hidden."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.units import hold_exposure

NODE, GATEWAY = "ingot-service-redis-node", "ingot-service-redis-gateway"
# Stands in the controller's place: asks the gateway, with the token that its configuration names.
ASK = """
import json, sys, urllib.error, urllib.request, yaml
method, path, body = sys.argv[1:]
token = yaml.safe_load(open("/etc/ingot/service_redis_gateway.yml"))["token"]
headers = {"Content-Type": "application/json", "X-VCAP-Service-Token": token}
request = urllib.request.Request("http://127.0.0.1:9081" + path, body.encode(), headers, method=method)
try:
    print(urllib.request.urlopen(request, timeout=60).read().decode())
except urllib.error.HTTPError as error:
    sys.exit(error.read().decode())
"""
# Stands in an application's place: sends one command with given credentials, from standard input.
SPEAK = """
import json, sys, redis
given = json.load(sys.stdin)
options = {"username": given["username"]} if given.pop("named") else {}
client = redis.Redis(given["host"], given["port"], password=given["password"], decode_responses=True, **options)
try:
    print(json.dumps(client.execute_command(*given["command"])))
except redis.AuthenticationError:
    print(json.dumps("refused"))
"""
PYTHON = "/opt/ingot/current/venv/bin/python"


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["services"]:
        pytest.skip("no machine of data services")
    return known


def ask(host: Any, method: str, path: str, body: object) -> dict[str, Any]:
    done = host.run(f"{PYTHON} -c %s %s %s %s", ASK, method, path, json.dumps(body))
    if done.rc != 0:
        pytest.fail(done.stderr + host.run("journalctl -u %s -n 50 --no-pager", NODE).stdout)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def speak(host: Any, credentials: dict[str, Any], *command: str, named: bool = False) -> Any:
    given = json.dumps({**credentials, "command": command, "named": named})
    return json.loads(host.check_output(f"printf '%%s' %s | {PYTHON} -c %s", given, SPEAK))


def bind(host: Any, instance: dict[str, Any]) -> dict[str, Any]:
    path = f"/gateway/v1/configurations/{instance['service_id']}/handles"
    body = {"service_id": instance["service_id"], "label": "redis-7.0", "email": "a@b.c"}
    return ask(host, "POST", path, {**body, "binding_options": {}})


def unbind(host: Any, instance: dict[str, Any], handle: dict[str, Any]) -> None:
    path = f"/gateway/v1/configurations/{instance['service_id']}/handles/{handle['service_id']}"
    ask(host, "DELETE", path, {})


@pytest.fixture
def instance(host: Any, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    wanted = {"label": "redis-7.0", "name": "r1", "plan": "free", "email": "a@b.c"}
    made = ask(host, "POST", "/gateway/v1/configurations", wanted)
    yield made
    ask(host, "DELETE", f"/gateway/v1/configurations/{made['service_id']}", {})


def unit(instance: dict[str, Any]) -> str:
    return f"ingot-redis-{instance['service_id']}"


def main_pid(host: Any, name: str) -> str:
    return str(host.check_output("systemctl show -P MainPID %s", name)).strip()


def status(host: Any, pid: str) -> dict[str, str]:
    lines = host.file(f"/proc/{pid}/status").content_string.splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(("name", "port"), [(NODE, 9082), (GATEWAY, 9081)])
def test_both_daemons_run_and_start_with_the_machine(
    host: Any, facts: dict[str, Any], name: str, port: int
) -> None:
    service = host.service(name)
    if not service.is_running:
        pytest.fail(host.run("journalctl -u %s -n 50 --no-pager", name).stdout)
    assert service.is_enabled
    ready = json.loads(host.check_output("curl -sS http://127.0.0.1:%s/readyz", str(port)))
    assert (ready["ready"], ready["reasons"]) == (True, [])


def test_debians_own_server_stays_stopped(host: Any, facts: dict[str, Any]) -> None:
    service = host.service("redis-server")
    assert not service.is_running
    assert not service.is_enabled
    assert "v=7.0" in host.check_output("redis-server --version")


def test_the_daemons_have_no_more_power_than_they_need(host: Any, facts: dict[str, Any]) -> None:
    gateway = status(host, main_pid(host, GATEWAY))
    assert gateway["Uid"].split() == ["806"] * 4
    assert (gateway["CapEff"], gateway["NoNewPrivs"]) == ("0" * 16, "1")
    node = status(host, main_pid(host, NODE))
    # Handing folders to other users: chown (0), override (1), owner (3).
    assert (int(node["CapBnd"], 16), node["NoNewPrivs"]) == (0b1011, "1")


def test_the_configurations_keep_their_secrets(host: Any, facts: dict[str, Any]) -> None:
    for name, group, mode in (("node", "root", 0o600), ("gateway", "ingot-services", 0o640)):
        config = host.file(f"/etc/ingot/service_redis_{name}.yml")
        assert (config.user, config.group, config.mode) == ("root", group, mode)


def test_the_controller_offers_it(host: Any) -> None:
    known = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["controller"]:
        pytest.skip("no controller's machine")
    script = (
        "import json, sys, urllib.request as u\n"
        "email, password = json.load(sys.stdin)\n"
        "def ask(path, body=None, token=''):\n"
        "    headers = {'Content-Type': 'application/json', 'AUTHORIZATION': token}\n"
        "    data = None if body is None else json.dumps(body).encode()\n"
        "    return json.load(u.urlopen(u.Request('http://127.0.0.1:9022' + path, data, headers), timeout=30))\n"
        "token = ask('/users/' + email + '/tokens', {'password': password})['token']\n"
        "print(json.dumps(ask('/info/services', token=token)))\n"
    )
    who = json.dumps([known["ingot_admin_email"], known["ingot_admin_password"]])
    offered = json.loads(host.check_output(f"printf '%%s' %s | {PYTHON} -c %s", who, script))
    assert offered["key-value"]["redis"]["7.0"]["tiers"].keys() == {"free"}


def test_an_instance_is_a_unit_with_its_own_limits_and_sees_itself_alone(
    host: Any, instance: dict[str, Any]
) -> None:
    pid = main_pid(host, unit(instance))
    server = status(host, pid)
    assert server["Name"] == "redis-server"
    assert server["Uid"].split() == server["Gid"].split()
    (uid,) = set(server["Uid"].split())
    assert 48000 <= int(uid) <= 48999
    assert (server["CapEff"], server["CapBnd"], server["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    shown = host.check_output("systemctl show -P Slice -P MemoryMax %s", unit(instance)).split()
    assert set(shown) == {"ingot-services.slice", str((2 * 64 + 64) * 1024 * 1024)}
    other = ask(
        host,
        "POST",
        "/gateway/v1/configurations",
        {"label": "redis-2.2", "name": "r2", "plan": "free", "email": "a@b.c"},
    )
    folder = f"/proc/{pid}/root/var/lib/ingot/services/redis/instances"
    assert host.check_output("ls %s", folder).split() == [instance["service_id"]]
    assert other["credentials"]["port"] != instance["credentials"]["port"]
    assert status(host, main_pid(host, unit(other)))["Uid"].split()[0] != uid
    ask(host, "DELETE", f"/gateway/v1/configurations/{other['service_id']}", {})


def test_a_server_sees_nothing_of_run_and_knows_no_other_account(host: Any, instance: dict[str, Any]) -> None:
    root = f"/proc/{main_pid(host, unit(instance))}/root"
    assert set(host.check_output("ls %s %s", f"{root}/run", f"{root}/run/systemd").split()) <= {
        f"{root}/run:",
        f"{root}/run/systemd:",
        "systemd",
        "incoming",
        "resolve",
    }
    accounts = host.check_output("cut -d: -f1,3 %s", f"{root}/etc/passwd").split()
    uid = status(host, main_pid(host, unit(instance)))["Uid"].split()[0]
    assert accounts == ["root:0", f"app:{uid}", "nobody:65534"]


def test_a_server_is_as_closed_as_the_docs_say(
    host: Any, instance: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    hold_exposure(host, unit(instance), "ingot-redis", capsys)


def test_a_binding_opens_until_it_is_ended(host: Any, instance: dict[str, Any]) -> None:
    one, other = bind(host, instance), bind(host, instance)
    assert speak(host, one["credentials"], "INCR", "visits") == 1
    assert speak(host, other["credentials"], "INCR", "visits", named=True) == 2
    unbind(host, instance, one)
    for named in (False, True):
        assert speak(host, one["credentials"], "PING", named=named) == "refused"
        assert speak(host, other["credentials"], "GET", "visits", named=named) == "2"


def test_secrets_are_nobodys_business(host: Any, instance: dict[str, Any]) -> None:
    handle = bind(host, instance)
    secrets = {handle["credentials"]["password"], instance["credentials"]["password"]}
    folder = f"/var/lib/ingot/services/redis/instances/{instance['service_id']}"
    admin = json.loads(host.file(f"{folder}/instance.json").content_string)["admin_password"]
    for place in (
        "ps -eo args",
        f"systemctl show {unit(instance)}",
        "journalctl --no-pager",
        f"cat {folder}/*.acl",
    ):
        said = host.run(place).stdout
        assert [s for s in (*secrets, admin) if s in said] == [], place
    assert host.file(f"{folder}/instance.json").mode == 0o600
    assert (host.file(f"{folder}/users.acl").user, host.file(f"{folder}/users.acl").mode) == ("root", 0o640)
    uid = status(host, main_pid(host, unit(instance)))["Uid"].split()[0]
    assert (host.file(f"{folder}/data").user, host.file(f"{folder}/data").mode) == (
        f"ingot-redis-{uid}",
        0o700,
    )


def test_restarting_or_killing_the_node_disturbs_no_instance(host: Any, instance: dict[str, Any]) -> None:
    handle = bind(host, instance)
    assert speak(host, handle["credentials"], "SET", "kept", "yes") in ("OK", True)
    before = main_pid(host, unit(instance))
    for command in (f"systemctl restart {NODE}", f"systemctl kill --signal=SIGKILL {NODE}"):
        assert host.run(command).rc == 0
        wait = "for i in $(seq 150); do curl -fsS http://127.0.0.1:9082/readyz && exit 0; sleep 0.1; done; exit 1"
        assert host.run(wait).rc == 0
        assert main_pid(host, unit(instance)) == before
    assert speak(host, handle["credentials"], "GET", "kept") == "yes"


def test_a_server_that_dies_comes_back_with_its_data(host: Any, instance: dict[str, Any]) -> None:
    handle = bind(host, instance)
    assert speak(host, handle["credentials"], "SET", "kept", "yes") in ("OK", True)
    before = main_pid(host, unit(instance))
    # What is written reaches the disk within a second.
    host.check_output("sleep 1.2 && systemctl kill --signal=SIGKILL %s", unit(instance))
    again = (
        f"for i in $(seq 100); do p=$(systemctl show -P MainPID {unit(instance)});"
        f" [ $p != 0 ] && [ $p != {before} ] && (exec 3<>/dev/tcp/127.0.0.1/{handle['credentials']['port']})"
        " && exit 0; sleep 0.1; done; exit 1"
    )
    assert host.run("bash -c %s", again).rc == 0
    assert speak(host, handle["credentials"], "GET", "kept") == "yes"


def test_removing_leaves_nothing(host: Any, facts: dict[str, Any]) -> None:
    assert host.run("systemctl list-units --all --plain --no-legend 'ingot-redis-*'").stdout == ""
    assert host.check_output("ls /var/lib/ingot/services/redis/instances") == ""

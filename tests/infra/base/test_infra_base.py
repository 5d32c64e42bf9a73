"""What every machine has: accounts that agree, a firewall that knows who is who, and nothing listening beyond it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra

APPLICATION, STAGING = 50000, 49000
DIAL = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("open")
except ConnectionRefusedError:
    print("refused")
except OSError:
    print("no answer")
"""
LISTENERS = {"core1": (4222, 5432), "router1": (80, 9031), "dea1": (9051, 61001)}


@pytest.fixture(scope="module")
def machines(request: pytest.FixtureRequest) -> dict[str, Any]:
    inventory = request.config.option.ansible_inventory
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in LISTENERS}


@pytest.fixture(scope="module", autouse=True)
def listeners(machines: dict[str, Any]) -> Iterator[None]:
    """Something that answers on the platform's ports, which no component does here."""
    for name, ports in LISTENERS.items():
        for port in ports:
            command = (
                f"systemd-run --unit=listener-{port} python3 -m http.server --directory /var/empty {port}"
            )
            assert machines[name].run(command).rc == 0
    for name, ports in LISTENERS.items():
        for port in ports:
            wait = f"for i in $(seq 100); do ss -Hltn sport = :{port} | grep -q . && exit 0; sleep 0.1; done; exit 1"
            assert machines[name].run(wait).rc == 0
    yield
    for name, ports in LISTENERS.items():
        machines[name].run("systemctl stop " + " ".join(f"listener-{port}" for port in ports))


def address_of(machine: Any) -> str:
    return str(machine.ansible.get_variables()["ansible_host"])


def dial(machines: dict[str, Any], source: str, target: str, port: int, uid: int = 0) -> str:
    address = target if target[0].isdigit() else address_of(machines[target])
    who = f"setpriv --reuid {uid} --regid {uid} --clear-groups " if uid else ""
    return str(machines[source].run(f"{who}python3 -c %s %s %s", DIAL, address, str(port)).stdout.strip())


@pytest.mark.parametrize(
    ("account", "uid"),
    [("ingot-controller", 801), ("ingot-stager", 802), ("ingot-health-manager", 803), ("ingot-router", 804)],
)
def test_accounts_have_the_same_ids_everywhere(host: Any, account: str, uid: int) -> None:
    user = host.user(account)
    assert (user.uid, user.gid) == (uid, uid)
    assert "ingot" in user.groups
    assert user.shell == "/usr/sbin/nologin"
    assert host.group("ingot").gid == 800


@pytest.mark.parametrize("path", ["/etc/ingot", "/opt/ingot/releases", "/var/lib/ingot"])
def test_directories_belong_to_root(host: Any, path: str) -> None:
    folder = host.file(path)
    assert folder.is_directory
    assert (folder.user, folder.mode) == ("root", 0o755)


def test_the_firewall_comes_back_with_the_machine(host: Any) -> None:
    assert host.service("ingot-firewall").is_enabled
    assert host.run("systemctl restart ingot-firewall").rc == 0
    assert "policy drop" in host.run("nft list table inet ingot").stdout


def test_time_and_journal_are_set(host: Any) -> None:
    assert host.service("systemd-timesyncd").is_enabled
    assert "NTP=time.invalid" in host.file("/etc/systemd/timesyncd.conf.d/ingot.conf").content_string
    assert "SystemMaxUse=512M" in host.file("/etc/systemd/journald.conf.d/ingot.conf").content_string


@pytest.mark.parametrize(("target", "port"), [("core1", 4222), ("dea1", 61001), ("router1", 80)])
def test_machines_of_the_platform_reach_each_other(machines: dict[str, Any], target: str, port: int) -> None:
    source = "router1" if target != "router1" else "dea1"
    assert dial(machines, source, target, port) == "open"


@pytest.mark.parametrize("uid", [APPLICATION, STAGING])
@pytest.mark.parametrize(
    ("target", "port", "wanted"),
    [
        ("core1", 4222, "refused"),
        ("core1", 5432, "refused"),
        ("core1", 22, "refused"),
        ("router1", 9031, "refused"),
        ("dea1", 9051, "refused"),
        ("127.0.0.1", 9051, "refused"),
        ("router1", 80, "open"),
        # An application may call itself.
        ("127.0.0.1", 61001, "open"),
    ],
)
def test_applications_reach_the_router_and_nothing_else(
    machines: dict[str, Any], target: str, port: int, wanted: str, uid: int
) -> None:
    assert dial(machines, "dea1", target, port, uid) == wanted


@pytest.mark.parametrize(
    ("target", "port", "reachable"),
    [("core1", 22, True), ("core1", 4222, False), ("router1", 80, True), ("dea1", 61001, False)],
)
def test_strangers_reach_ssh_and_the_routers(
    machines: dict[str, Any], target: str, port: int, reachable: bool
) -> None:
    try:
        socket.create_connection((address_of(machines[target]), port), timeout=2).close()
    except TimeoutError:
        assert not reachable
    else:
        assert reachable

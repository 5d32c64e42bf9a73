"""What every machine has: accounts that agree, a firewall that knows who is who, and nothing listening beyond it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra

APPLICATION, NEIGHBOUR, STAGING = 50000, 50001, 49000
OWN_PORT = 7777
# Arguments: address and port of each call, alternating.
DIAL = """
import socket, sys
for address, port in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        socket.create_connection((address, int(port)), timeout=3).close()
        print("open")
    except ConnectionRefusedError:
        print("refused")
    except OSError:
        print("no answer")
"""
LISTENERS: dict[str, tuple[int, ...]] = {"core1": (4222, 5432), "router1": (80, 9031), "dea1": (9051, 61001)}
WAITED = {**LISTENERS, "dea1": (*LISTENERS["dea1"], OWN_PORT)}
# Prints what took the table away.
SURVIVAL = """
try() { sh -c "$1" && nft list chain inet ingot output 2>&1 | grep -q "rules " || echo "gone: $1 $2"; nft -f /etc/nftables.d/ingot.nft; }
every() {
  for command in "stop nftables" "start nftables" "restart nftables" "reload nftables" "restart ingot-firewall" "reload ingot-firewall"; do
    try "systemctl $command" "$1"
  done
}
every
try "nft -f /etc/nftables.conf"
sed -i.kept /ingot/d /etc/nftables.conf
every "without the line"
mv /etc/nftables.conf.kept /etc/nftables.conf
systemctl stop nftables
"""
INCLUDE = 'include "/etc/nftables.d/ingot*.nft"'


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
    second = f"systemd-run --unit=listener-{OWN_PORT} setpriv --reuid={APPLICATION} --regid={APPLICATION} --clear-groups python3 -m http.server --directory /var/empty {OWN_PORT}"
    assert machines["dea1"].run(second).rc == 0
    for name, ports in WAITED.items():
        for port in ports:
            wait = f"for i in $(seq 100); do ss -Hltn sport = :{port} | grep -q . && exit 0; sleep 0.1; done; exit 1"
            assert machines[name].run(wait).rc == 0
    yield
    for name, ports in WAITED.items():
        machines[name].run("systemctl stop " + " ".join(f"listener-{port}" for port in ports))


def address_of(machine: Any) -> str:
    return str(machine.ansible.get_variables()["ansible_host"])


def dial(machines: dict[str, Any], source: str, calls: list[tuple[str, int]], uid: int = 0) -> list[str]:
    """Give how each call to a machine, or an address, and a port of it ended."""
    who = f"setpriv --reuid {uid} --regid {uid} --clear-groups " if uid else ""
    places = [(t if t[0].isdigit() else address_of(machines[t]), port) for t, port in calls]
    words = " ".join(f"{address} {port}" for address, port in places)
    return str(machines[source].check_output(f"{who}python3 -c %s {words}", DIAL)).split("\n")


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


def test_the_machines_own_rules_take_nothing_away(machines: dict[str, Any]) -> None:
    """Whatever loads, starts or ends them, and also where their file has lost the line that brings ours."""
    assert INCLUDE in machines["dea1"].file("/etc/nftables.conf").content_string
    assert machines["dea1"].check_output("sh -c %s", SURVIVAL) == ""


def test_every_address_of_every_machine_is_known(machines: dict[str, Any]) -> None:
    addresses = [m.check_output("hostname --all-ip-addresses").split() for m in machines.values()]
    assert all(addresses)
    known = " && ".join(
        f"nft get element inet ingot machines{6 if ':' in a else ''} '{{ {a} }}'"
        for found in addresses
        for a in found
        if not a.startswith("fe80:")
    )
    for machine in machines.values():
        done = machine.run(known)
        assert done.rc == 0, done.stderr


def test_time_and_journal_are_set(host: Any) -> None:
    assert host.service("systemd-timesyncd").is_enabled
    assert "NTP=time.invalid" in host.file("/etc/systemd/timesyncd.conf.d/ingot.conf").content_string
    assert "SystemMaxUse=512M" in host.file("/etc/systemd/journald.conf.d/ingot.conf").content_string


def test_machines_of_the_platform_reach_each_other(machines: dict[str, Any]) -> None:
    assert dial(machines, "router1", [("core1", 4222), ("dea1", 61001)]) == ["open", "open"]
    assert dial(machines, "dea1", [("router1", 80)]) == ["open"]


@pytest.mark.parametrize("uid", [APPLICATION, STAGING])
def test_applications_reach_the_router_and_nothing_else(machines: dict[str, Any], uid: int) -> None:
    wanted = {
        ("core1", 4222): "refused",
        ("core1", 5432): "refused",
        ("core1", 22): "refused",
        ("router1", 9031): "refused",
        ("dea1", 9051): "refused",
        ("127.0.0.1", 9051): "refused",
        ("router1", 80): "open",
        # Whoever else listens there.
        ("127.0.0.1", 61001): "refused",
        ("dea1", 61001): "refused",
        # Of no list of ports.
        ("core1", 9999): "refused",
        ("169.254.169.254", 80): "refused",
    }
    assert dict(zip(wanted, dial(machines, "dea1", list(wanted), uid), strict=True)) == wanted


def test_processes_of_one_uid_reach_each_other_and_no_neighbour_does(machines: dict[str, Any]) -> None:
    calls = [("127.0.0.1", OWN_PORT), ("dea1", OWN_PORT)]
    found = {uid: dial(machines, "dea1", calls, uid) for uid in (APPLICATION, NEIGHBOUR, STAGING, 0)}
    refused = ["refused", "refused"]
    assert found == {APPLICATION: ["open", "open"], NEIGHBOUR: refused, STAGING: refused, 0: ["open", "open"]}


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

"""The firewall of the role `base`, in the kernel: two network namespaces are two machines, and programs have guests' uids."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles import firewall_rules

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and other uids are root's")

APPLICATION, NEIGHBOUR, BUILD, SERVER = 50_000, 50_001, 49_000, 48_003
# The other machine, by each of its addresses: the one of the inventory, one of a second interface, one of IPv6; what is no
# machine of the platform; and what answers on the cable itself.
OTHER, SECOND, SIX, OUTSIDE, METADATA = (
    "198.18.7.9",
    "198.18.8.9",
    "fd00:7::9",
    "203.0.113.9",
    "169.254.169.254",
)
HERE, HERE_SECOND, HERE_SIX = "198.18.7.4", "198.18.8.4", "fd00:7::4"
ROUTER_PORT, TLS_PORT, REDIS_PORT, MIRROR_PORT, BUS_PORT = 8080, 8443, 5500, 8081, 4222
OWN_PORT, OWN_SIX_PORT, AGENT_PORT, SERVER_PORT = 7777, 7778, 9051, 5501
# Where clouds answer machines beside that: Amazon and Google by IPv6, Azure, Alibaba, Oracle. Azure's serves names, too.
AZURE = "168.63.129.16"
CLOUDS = ("fd00:ec2::254", "fd20:ce::254", AZURE, "100.100.100.200", "192.0.0.192")
ON_OTHER = (ROUTER_PORT, TLS_PORT, REDIS_PORT, MIRROR_PORT, BUS_PORT, 53)
HOSTVARS = {
    "dea1": {
        "ansible_host": HERE,
        "ansible_facts": {
            "all_ipv4_addresses": [HERE, HERE_SECOND],
            "all_ipv6_addresses": [HERE_SIX, "fe80::4"],
        },
    },
    "core1": {
        "ansible_host": OTHER,
        "ansible_facts": {"all_ipv4_addresses": [OTHER, SECOND], "all_ipv6_addresses": [SIX]},
        "router_port": f"0.0.0.0:{ROUTER_PORT}",
        "router_tls_port": str(TLS_PORT),
    },
}
GROUPS = {"all": ["core1", "dea1"], "router": ["core1"], "services": ["core1"], "dea": ["dea1"]}

# Arguments: family, address and port of each listener, as JSON. Answers whoever connects, and every datagram.
LISTENER = """
import json, selectors, socket, sys
def answer(found):
    if found.type == socket.SOCK_DGRAM:
        _, who = found.recvfrom(99); found.sendto(b"hi", who)
    else:
        found.accept()[0].close()
ready = selectors.DefaultSelector()
for kind, address, port in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    found.bind((address, port))
    if kind == "tcp":
        found.listen()
    found.setblocking(False)
    ready.register(found, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in ready.select():
        try:
            answer(key.fileobj)
        except OSError:
            pass
"""
# Argument: kind, address, port of each call, as JSON; prints how each ended.
CALLER = """
import json, socket, sys
def call(kind, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as found:
        found.settimeout(60)
        try:
            found.connect((address, port))
            if kind == "udp":
                found.send(b"?"); found.recv(9)
        except (ConnectionRefusedError, PermissionError):
            return "refused"
        except OSError as error:
            return repr(error)
        return "open"
print(json.dumps([call(*each) for each in json.loads(sys.argv[1])]))
"""

Calls = list[tuple[str, str, int]]


class Machines:
    """Two network namespaces, joined by a cable, and what runs in them."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._ends = [self._namespace(), self._namespace()]

    def _namespace(self) -> int:
        process = self._keep(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"])
        return process.pid

    def _keep(self, argv: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/")
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", argv
        return process

    def inside(self, end: int, uid: int = 0) -> list[str]:
        become = (
            ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"] if uid else []
        )
        return ["nsenter", "--target", str(self._ends[end]), "--net", "--", *become]

    def run(self, end: int, *argv: str, given: str | None = None) -> str:
        done = subprocess.run(
            [*self.inside(end), *argv], capture_output=True, text=True, check=False, input=given
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def join(self) -> None:
        """Lay the cable and give out addresses."""
        self.run(
            0,
            "ip",
            "link",
            "add",
            "cable",
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            str(self._ends[1]),
        )
        own = ([f"{HERE}/24", f"{HERE_SECOND}/24", f"{HERE_SIX}/64"], ["203.0.113.4/24", "169.254.7.4/16"])
        others = ([f"{OTHER}/24", f"{SECOND}/24", f"{SIX}/64"], [f"{OUTSIDE}/24", f"{METADATA}/16"])
        clouds = [f"{a}/{64 if ':' in a else 24}" for a in CLOUDS]
        near = [re.sub(r"(::|\.)\d+/", r"\g<1>4/", cloud) for cloud in clouds]
        for end, addresses in ((0, [*own[0], *own[1], *near]), (1, [*others[0], *others[1], *clouds])):
            lines = ["link set lo up", *(f"addr add {a} dev cable{' nodad' * (':' in a)}" for a in addresses)]
            self.run(end, "ip", "-batch", "-", given="\n".join([*lines, "link set cable up"]) + "\n")

    def listen(self, end: int, uid: int, sockets: Calls) -> None:
        self._keep([*self.inside(end, uid), "/usr/bin/python3", "-c", LISTENER, json.dumps(sockets)])

    def call(self, uid: int, calls: Calls, end: int = 0) -> list[str]:
        return list(
            json.loads(
                subprocess.run(
                    [*self.inside(end, uid), "/usr/bin/python3", "-c", CALLER, json.dumps(calls)],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd="/",
                ).stdout
            )
        )

    def end(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def table(**more: Any) -> str:
    given: Mapping[str, Any] = {
        "resolvers": ["127.0.0.53", OTHER, AZURE],
        "mirrors": {f"http://mirror.example:{MIRROR_PORT}": [OTHER]},
        **more,
    }
    return firewall_rules.rules(HOSTVARS, GROUPS, [HERE, OTHER], "dea1", **given)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    found = Machines()
    try:
        found.join()
        found.run(0, "nft", "-f", "-", given=table())
        found.listen(1, 0, [(k, a, p) for k in ("tcp", "udp") for a in ("0.0.0.0", "::") for p in ON_OTHER])
        found.listen(
            0,
            APPLICATION,
            [("tcp", "0.0.0.0", OWN_PORT), ("tcp", "::", OWN_SIX_PORT), ("udp", "0.0.0.0", OWN_PORT)],
        )
        root = [("tcp", a, AGENT_PORT) for a in ("0.0.0.0", "::")]
        found.listen(
            0,
            0,
            [*root, ("udp", "127.0.0.53", 53), ("tcp", "127.0.0.53", 53), ("tcp", "0.0.0.0", REDIS_PORT)],
        )
        yield found
    finally:
        found.end()


def check(machines: Machines, uid: int, wanted: dict[tuple[str, str, int], str]) -> None:
    assert dict(zip(wanted, machines.call(uid, list(wanted)), strict=True)) == wanted


def within(port: int, *, six: bool = False) -> Calls:
    """Every way to a port of the own machine."""
    if six:
        return [("tcp", "::1", port), ("tcp", HERE_SIX, port)]
    return [("tcp", a, port) for a in ("127.0.0.1", "127.9.9.9", HERE, HERE_SECOND)]


def test_two_programs_of_an_instance_speak_over_a_second_port(machines: Machines) -> None:
    calls = [*within(OWN_PORT), *within(OWN_SIX_PORT, six=True)]
    check(machines, APPLICATION, dict.fromkeys(calls, "open"))


@pytest.mark.parametrize("uid", [NEIGHBOUR, BUILD, 50_256, 59_999])
def test_a_neighbour_is_refused_on_that_port(machines: Machines, uid: int) -> None:
    calls = [*within(OWN_PORT), *within(OWN_SIX_PORT, six=True)]
    check(machines, uid, dict.fromkeys(calls, "refused"))


def test_a_neighbour_that_tries_again_and_again_does_not_hold_up_the_listener(machines: Machines) -> None:
    check(
        machines,
        NEIGHBOUR,
        dict.fromkeys([("tcp", f"127.1.0.{n}", OWN_PORT) for n in range(1, 200)], "refused"),
    )
    check(machines, APPLICATION, {("tcp", "127.0.0.1", OWN_PORT): "open"})
    deadline = time.monotonic() + 60
    while machines.run(0, "ss", "-Htan", "state", "syn-recv"):
        assert time.monotonic() < deadline, "half-open connections stay"
        time.sleep(0.1)


def test_the_platforms_daemons_are_not_for_guests_on_any_address(machines: Machines) -> None:
    calls = [*within(AGENT_PORT), *within(AGENT_PORT, six=True)]
    for uid in (APPLICATION, BUILD):
        check(machines, uid, dict.fromkeys(calls, "refused"))
    check(machines, 0, dict.fromkeys([*calls, ("tcp", "127.0.0.1", OWN_PORT)], "open"))
    away = [("tcp", a, BUS_PORT) for a in (OTHER, SECOND, SIX, METADATA, *CLOUDS)]
    check(machines, APPLICATION, {**dict.fromkeys(away, "refused"), ("tcp", OUTSIDE, BUS_PORT): "open"})
    check(machines, 0, dict.fromkeys(away, "open"))


def test_what_guests_need_is_open_and_changed_ports_are_followed(machines: Machines) -> None:
    needed: Calls = [("tcp", a, p) for a in (OTHER, SECOND, SIX) for p in (ROUTER_PORT, TLS_PORT, REDIS_PORT)]
    needed += [
        ("tcp", OTHER, MIRROR_PORT),
        *((k, a, 53) for k in ("udp", "tcp") for a in (OTHER, "127.0.0.53", AZURE)),
    ]
    for uid in (APPLICATION, BUILD):
        check(machines, uid, dict.fromkeys(needed, "open"))
    # A mirror is open where it is, not on every machine; a service is one of a service node.
    closed: Calls = [("tcp", SECOND, MIRROR_PORT), ("udp", SECOND, 53), ("tcp", "127.0.0.1", REDIS_PORT)]
    check(machines, APPLICATION, dict.fromkeys(closed, "refused"))


def test_a_server_of_data_is_called_and_calls_nobody(machines: Machines) -> None:
    # Of IPv6 the own machine's are no addresses of a service node here.
    machines.listen(0, SERVER, [("tcp", "0.0.0.0", SERVER_PORT)])
    machines.listen(1, SERVER, [("tcp", "0.0.0.0", SERVER_PORT)])
    machines.run(0, "nft", "add", "element", "inet", "ingot", "open", f"{{ {HERE} . tcp . {SERVER_PORT} }}")
    machines.run(1, "nft", "-f", "-", given=table())
    try:
        for uid in (0, APPLICATION):
            check(machines, uid, {("tcp", a, SERVER_PORT): "open" for a in (HERE, OTHER)})
    finally:
        machines.run(1, "nft", "flush", "ruleset")
    away = [("tcp", a, p) for a in (OTHER, SIX, OUTSIDE, METADATA) for p in (BUS_PORT, ROUTER_PORT)]
    away += [("udp", OTHER, 53), ("udp", "127.0.0.53", 53), ("tcp", OTHER, SERVER_PORT)]
    away += [*within(AGENT_PORT), *within(AGENT_PORT, six=True), *within(OWN_PORT), *within(SERVER_PORT)]
    for uid in (48_000, SERVER, 48_999):
        check(machines, uid, dict.fromkeys(away, "refused"))


def test_datagrams_within_the_machine_are_refused_but_to_a_resolver(machines: Machines) -> None:
    check(
        machines, APPLICATION, {("udp", "127.0.0.1", OWN_PORT): "refused", ("udp", HERE, OWN_PORT): "refused"}
    )
    check(machines, NEIGHBOUR, {("udp", "127.0.0.1", OWN_PORT): "refused"})


def test_no_data_comes_before_it_is_known_who_answers(machines: Machines) -> None:
    """TCP Fast Open: a cookie of the own listener would carry data to another's, so there is none to be had."""
    fast = f"import socket; socket.socket().sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', {OWN_PORT}))"
    argv = [*machines.inside(0, APPLICATION), "/usr/bin/python3", "-c", fast]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    assert "ConnectionRefusedError" in done.stderr


def test_a_port_that_changes_hands_changes_who_may_call(machines: Machines) -> None:
    port = 7790
    machines.listen(0, NEIGHBOUR, [("tcp", "127.0.0.1", port)])
    # The neighbour's own port, on an address beside: it opens nobody else's.
    machines.listen(0, APPLICATION, [("tcp", "127.0.0.2", port)])
    check(machines, NEIGHBOUR, {("tcp", "127.0.0.1", port): "open", ("tcp", "127.0.0.2", port): "refused"})
    check(machines, APPLICATION, {("tcp", "127.0.0.2", port): "open", ("tcp", "127.0.0.1", port): "refused"})


def test_machines_without_addresses_of_a_family_have_rules_too() -> None:
    plain = {"core1": {"ansible_host": OTHER}, "dea1": {"ansible_host": "dea1.example"}}
    for networks in ([OTHER], ["198.18.0.0/16", OTHER, "fd00:7::/32"]):
        text = firewall_rules.rules(plain, {"all": ["core1", "dea1"]}, networks, "dea1")
        done = subprocess.run(
            ["unshare", "--net", "nft", "--check", "--file", "/dev/stdin"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_the_machines_own_rules_take_nothing_away(machines: Machines, tmp_path: Path) -> None:
    """`nft -f /etc/nftables.conf` with the role's line: it flushes, and brings the table back."""
    (tmp_path / "ingot.nft").write_text(table())
    own = tmp_path / "nftables.conf"
    # Names of the site's own, and a line that brings the file already.
    names = "".join(f"define {name} = 1\n" for name in ("guests", "call", "refused_call", "call_bits"))
    include = f'include "{tmp_path}/*.nft"\ninclude "{tmp_path}/ingot*.nft"\n'
    own.write_text(f"flush ruleset\n{names}table inet filter {{\n}}\n{include}")
    machines.run(0, "nft", "-f", str(own))
    assert "rules @digest@" in machines.run(0, "nft", "list", "chain", "inet", "ingot", "output")
    check(machines, NEIGHBOUR, {("tcp", "127.0.0.1", OWN_PORT): "refused"})

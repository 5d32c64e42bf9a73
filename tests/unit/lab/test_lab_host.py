"""Pure readings of the host: processes, control groups, firewalls, and whether a lab may be raised."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from orchestrator.lab import preflight
from orchestrator.lab.host import cgroups, host_settings, network, processes
from orchestrator.lab.journal import Process
from orchestrator.lab.paths import Paths
from orchestrator.lab.preflight import Facts, Requirements, judge

HYBRID = """\
cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
tmpfs /run tmpfs rw 0 0
"""
GIB = 1 << 30
FINE = Facts(root=True, free_bytes={"/var": 100 * GIB}, missing_images=("bookworm",))
WISHES = Requirements(machines=6, owner="/here", port=8080, subnet="198.18.0.0/24")


def test_hybrid_host_has_two_hierarchies_and_a_new_one_has_one() -> None:
    assert cgroups.hierarchies(HYBRID) == [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
    assert cgroups.hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n") == [Path("/sys/fs/cgroup")]


def test_used_processor_time_is_read_in_seconds_and_is_none_where_the_kernel_names_none() -> None:
    assert cgroups.used("usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\n") == 2.5
    assert cgroups.used("nr_periods 0\n") == 0.0


def test_stat_is_read_past_any_name() -> None:
    tail = " ".join(str(n) for n in range(4, 30))
    assert processes.parse_stat(f"7 (a) b) S 3 {tail}") == ("S", 3, 21)


def test_this_process_is_known_and_a_former_one_of_its_number_is_not() -> None:
    me = processes.identify(os.getpid())
    assert me is not None
    assert processes.lives(me)
    assert not processes.lives(Process(me.pid, me.start - 1))
    assert not processes.lives(None)


def test_only_chains_that_drop_forwarded_ipv4_matter() -> None:
    chains = [
        {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"},
        {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"},
        {"family": "inet", "table": "f", "name": "fwd", "hook": "forward", "policy": "drop"},
        {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"},
        {"family": "ip", "table": "x", "name": "fwd", "hook": "forward", "policy": "accept"},
        {"family": "ip", "table": "x", "name": "plain"},
    ]
    listed = {"nftables": [{"metainfo": {}}, *({"chain": chain} for chain in chains)]}
    assert network.forward_drops(listed) == [("ip", "filter", "FORWARD"), ("inet", "f", "fwd")]


def test_paths_follow_the_environment() -> None:
    assert Paths.from_environment({}).socket == Path("/run/ingot-lab/lab.sock")
    moved = Paths.from_environment({"INGOT_LAB_HOME": "/x", "INGOT_LAB_CACHE": "/c"})
    assert (moved.socket, moved.labs, moved.images) == (
        Path("/x/run/lab.sock"), Path("/x/state/labs"), Path("/c/images"),
    )  # fmt: skip


def test_fine_host_has_no_problem() -> None:
    verdict = judge(FINE, WISHES)
    assert verdict == preflight.Verdict((), can_make_machines=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"root": False, "missing_tools": ("nft",)}, "not root: root is needed to install nftables"),
        ({"missing_tools": ("nft", "ssh", "ssh-keygen")}, "apt-get install nftables openssh-client"),
        ({"port_holder": "nginx (process 7)"}, "port 8080 of 127.0.0.1 is taken by nginx (process 7)"),
        ({"port_holder": "?"}, "port 8080 of 127.0.0.1 is taken"),
        (
            {"taken_networks": ("198.18.0.0/15",)},
            "subnet 198.18.0.0/24 is taken: this host has 198.18.0.0/15",
        ),
        ({"free_bytes": {"/var": GIB}}, "too little disk: 4.5 GiB needed, 1.0 GiB free in /var"),
        ({"lab_owner": "/there"}, "lab ingot belongs to /there"),
    ],
)
def test_each_problem_is_named(change: dict[str, object], said: str) -> None:
    facts = {name: getattr(FINE, name) for name in Facts.__slots__}
    problems = judge(Facts(**{**facts, **change}), WISHES).problems
    assert len(problems) == 1
    assert said in problems[0]


def test_our_own_lab_may_hold_its_port_and_subnet() -> None:
    facts = Facts(root=True, port_holder="python3", taken_networks=("198.18.0.0/24",), lab_owner="/here")
    assert judge(facts, WISHES).problems == ()


def test_all_problems_come_at_once() -> None:
    facts = Facts(root=False, port_holder="?", taken_networks=("198.18.0.0/24",), free_bytes={"/": 0})
    assert len(judge(facts, WISHES).problems) == 4


def test_where_no_machine_can_be_made_one_line_says_why() -> None:
    verdict = judge(Facts(root=True, obstacles=("the kernel has no overlayfs", "more")), WISHES)
    assert (verdict.can_make_machines, verdict.reason) == (False, "the kernel has no overlayfs")


def test_capabilities_are_read() -> None:
    assert preflight.parse_capabilities("Name:\tx\nCapEff:\t0000000000200000\n") >> 21 & 1
    assert preflight.parse_capabilities("CapPrm:\tff\n") == 0


@pytest.fixture
def forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    switch, interfaces = tmp_path / "ip_forward", tmp_path / "net"
    switch.write_text("0\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    for bridge in ("ing-0", "ing-1"):
        (interfaces / bridge).mkdir(parents=True)
    monkeypatch.setattr(host_settings, "IP_FORWARD", switch)
    monkeypatch.setattr(host_settings, "INOTIFY_INSTANCES", tmp_path / "max_user_instances")
    monkeypatch.setattr(host_settings, "INTERFACES", interfaces)
    return switch


def test_forwarding_is_on_from_the_first_lab_to_the_last(forwarding: Path, tmp_path: Path) -> None:
    counter = tmp_path / "run" / "forwarding.json"
    host_settings.acquire(counter, "ing-0")
    host_settings.acquire(counter, "ing-1")
    host_settings.acquire(counter, "ing-1")
    assert forwarding.read_text() == "1\n"
    host_settings.release(counter, "ing-0")
    assert forwarding.read_text() == "1\n"
    host_settings.release(counter, "ing-1")
    assert forwarding.read_text() == "0\n"


def test_forwarding_that_was_on_stays_on(forwarding: Path, tmp_path: Path) -> None:
    forwarding.write_text("1\n")
    host_settings.acquire(tmp_path / "count", "ing-0")
    host_settings.release(tmp_path / "count", "ing-0")
    assert forwarding.read_text() == "1\n"


def test_bridges_that_vanished_do_not_keep_forwarding_on(forwarding: Path, tmp_path: Path) -> None:
    host_settings.acquire(tmp_path / "count", "ing-0")
    (tmp_path / "net" / "ing-0").rmdir()
    host_settings.release(tmp_path / "count")
    assert forwarding.read_text() == "0\n"


def test_a_killed_runs_switch_is_not_taken_for_the_hosts_own(forwarding: Path, tmp_path: Path) -> None:
    host_settings.acquire(tmp_path / "count", "ing-0")
    (tmp_path / "net" / "ing-0").rmdir()
    host_settings.acquire(tmp_path / "count", "ing-1")
    host_settings.release(tmp_path / "count", "ing-1")
    assert forwarding.read_text() == "0\n"


def test_machine_that_is_slow_to_greet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(network, "_SSH_PORT", server.getsockname()[1])

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                time.sleep(2.5)
                connection.sendall(b"SSH-2.0-slow\r\n")

        machine = threading.Thread(target=greet)
        machine.start()
        assert network.speaks_ssh("127.0.0.1")
        machine.join()
    assert not network.speaks_ssh("127.0.0.1")


def test_a_host_has_room_for_the_machines_of_all_labs_while_there_is_one(
    forwarding: Path, tmp_path: Path
) -> None:
    limit = forwarding.with_name("max_user_instances")
    host_settings.acquire(tmp_path / "count", "ing-0")
    assert limit.read_text() == "1024\n"
    host_settings.release(tmp_path / "count", "ing-0")
    assert limit.read_text() == "128\n"
    limit.write_text("4096\n")
    host_settings.acquire(tmp_path / "count", "ing-0")
    assert limit.read_text() == "4096\n"

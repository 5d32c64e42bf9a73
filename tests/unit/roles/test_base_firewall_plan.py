"""What the firewall is made from: which addresses are the platform's, and which doors are open to guests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.roles import firewall_rules

PLAN = firewall_rules.filters()
DAEMONS = firewall_rules.DAEMONS


def facts(*addresses: str) -> dict[str, list[str]]:
    return {
        "all_ipv4_addresses": [a for a in addresses if ":" not in a],
        "all_ipv6_addresses": [a for a in addresses if ":" in a],
    }


def plan(hostvars: dict[str, dict[str, Any]], networks: list[str], before: Any = None, **more: Any) -> Any:
    groups = {"all": list(hostvars), "router": ["router1"], "services": ["svc1"]}
    machines = PLAN.ingot_machines(hostvars, groups, DAEMONS)
    known = PLAN.ingot_remembered(machines, before or {}, networks)
    return PLAN.ingot_firewall(machines, known, networks, **more)


def test_every_address_of_every_machine_is_kept_from_guests_and_only_the_sites_networks_are_trusted() -> None:
    found = plan(
        {
            "dea1": {
                "ansible_host": "10.0.0.1",
                "ansible_facts": facts("10.0.0.1", "10.9.0.1", "fd00::1", "fe80::1"),
            },
            "core1": {"ansible_host": "core1.example", "ansible_facts": facts("10.0.0.2", "127.0.0.1")},
        },
        ["10.0.0.0/24", "fd00::/64"],
    )
    assert found["ip"]["platform"] == ["10.0.0.0/24"]
    assert found["ip"]["machines"] == ["10.0.0.0/24", "10.9.0.1"]
    assert found["ip6"] == {"platform": ["fd00::/64"], "machines": ["fd00::/64"], "open": []}


def test_machines_that_a_run_does_not_ask_are_remembered_and_those_that_are_gone_forgotten() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "dea1": {"ansible_host": "10.0.0.1", "ansible_facts": facts("10.0.0.1", "10.9.0.7")},
        "core1": {"ansible_host": "10.0.0.2"},
    }
    machines = PLAN.ingot_machines(hostvars, {"all": list(hostvars)}, DAEMONS)
    before = {"dea1": ["10.0.0.1", "10.9.0.1"], "core1": ["10.9.0.2", "fd00::2"], "dea2": ["10.9.0.3"]}
    assert PLAN.ingot_remembered(machines, before) == {
        "dea1": ["10.0.0.1", "10.9.0.7"],
        "core1": ["10.0.0.2", "10.9.0.2", "fd00::2"],
    }


def test_a_machine_that_joins_within_the_sites_networks_changes_nothing_on_the_others() -> None:
    def known(*names: str) -> Any:
        hostvars = {
            name: {"ansible_host": f"10.0.0.{n}", "ansible_facts": facts(f"10.0.0.{n}", f"fe80::{n}")}
            for n, name in enumerate(names, 1)
        }
        machines = PLAN.ingot_machines(hostvars, {"all": list(hostvars), "router": ["router1"]}, DAEMONS)
        return PLAN.ingot_remembered(machines, {}, ["10.0.0.0/24"])

    # A router's is named, as something is open there.
    assert known("router1", "dea1", "dea2") == known("router1", "dea1") == {"router1": ["10.0.0.1"]}


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        ({}, ["80"]),
        ({"router_port": "8080", "router_tls_port": "443"}, ["8080", "443"]),
        ({"router_port": "127.0.0.1:81", "router_tls_port": "[::]:8443"}, ["81", "8443"]),
    ],
)
def test_routers_are_open_where_they_listen(given: dict[str, str], ports: list[str]) -> None:
    found = plan(
        {"router1": {"ansible_host": "10.0.0.4", "ansible_facts": facts("10.0.0.4", "fd00::4"), **given}}, []
    )
    assert found["ip"]["open"] == sorted(f"10.0.0.4 . tcp . {port}" for port in ports)
    assert found["ip6"]["open"] == sorted(f"fd00::4 . tcp . {port}" for port in ports)


@pytest.mark.parametrize(("given", "ports"), [({}, [22]), ({"ansible_port": 2201}, [22, 2201])])
def test_ssh_is_open_on_its_usual_port_whatever_port_ansible_comes_by(
    given: dict[str, int], ports: list[int]
) -> None:
    assert PLAN.ingot_machines({"core1": given}, {"all": ["core1"]}, DAEMONS)["core1"]["ssh"] == ports


def test_addresses_that_no_machine_sees_of_itself_are_kept_from_guests_and_not_trusted() -> None:
    found = plan(
        {"core1": {"ansible_host": "10.0.0.2"}}, ["10.0.0.0/24"], further=["203.0.113.5", "2001:db8::/64"]
    )
    assert found["ip"]["platform"] == ["10.0.0.0/24"]
    assert found["ip"]["machines"] == ["10.0.0.0/24", "203.0.113.5"]
    assert found["ip6"] == {"platform": [], "machines": ["2001:db8::/64"], "open": []}


def test_service_nodes_resolvers_mirrors_and_what_the_site_names_are_open() -> None:
    found = plan(
        {"svc1": {"service_redis_address": "10.0.0.6", "service_redis_last_port": 5099}},
        ["10.0.0.0/24"],
        resolvers=["127.0.0.53", "fe80::1%eth0"],
        mirrors={"https://m.example": ["10.0.0.9", "fd00::9"], "http://m.example:8081": ["10.0.0.9"]},
        destinations=[
            {"address": "10.0.0.40", "ports": [80, "8000-8099"]},
            {"address": "10.0.0.128/25", "ports": ["514"], "protocol": "udp"},
        ],
    )
    assert found["ip"]["open"] == [
        "10.0.0.128/25 . udp . 514",
        "10.0.0.40 . tcp . 80",
        "10.0.0.40 . tcp . 8000-8099",
        "10.0.0.6 . tcp . 5000-5099",
        "10.0.0.9 . tcp . 443",
        "10.0.0.9 . tcp . 8081",
        "127.0.0.53 . tcp . 53",
        "127.0.0.53 . udp . 53",
    ]
    assert found["ip6"]["open"] == ["fd00::9 . tcp . 443", "fe80::1 . tcp . 53", "fe80::1 . udp . 53"]


def test_a_daemon_of_the_platform_among_the_ports_of_a_service_node_stays_closed() -> None:
    hostvars = {"core1": {"ansible_host": "10.0.0.2", "ansible_port": "5999", "nats_port": 5001}}
    groups = {group: ["core1"] for group in ("all", "services", "ccdb", "nats")}
    (machine,) = PLAN.ingot_machines(hostvars, groups, DAEMONS).values()
    assert machine["services"] == ["5000", "5002-5431", "5433-5998"]


def test_daemons_that_are_moved_among_the_ports_of_a_service_node_stay_closed() -> None:
    groups = {"all": ["one"]} | {row["group"]: ["one"] for row in DAEMONS}
    inputs = [name for row in DAEMONS for name in row["ports"] if not row.get("open")]
    moved = {name: 5100 + number for number, name in enumerate(inputs)}
    (machine,) = PLAN.ingot_machines({"one": moved}, groups, DAEMONS).values()
    assert machine["services"] == ["5000-5099", f"{5100 + len(moved)}-5999"]
    assert machine["public"] == [80]


def test_no_element_overlaps_another() -> None:
    found = plan(
        {"svc1": {"ansible_host": "10.0.0.6"}},
        [],
        mirrors={"http://m.example:5500": ["10.0.0.6"], "http://n.example:6000": ["10.0.0.6", "10.0.1.6"]},
        destinations=[
            {"address": "10.0.0.0/24", "ports": ["5990-6010", 443]},
            {"address": "10.0.0.0/16", "ports": ["5100-5199", 6005]},
            {"address": "10.0.0.6", "ports": [53, "50-60"], "protocol": "udp"},
        ],
    )
    assert found["ip"]["open"] == [
        "10.0.0.0/16 . tcp . 5100-5199",
        "10.0.0.0/16 . tcp . 6005",
        "10.0.0.0/24 . tcp . 443",
        "10.0.0.0/24 . tcp . 5990-6004",
        "10.0.0.0/24 . tcp . 6006-6010",
        "10.0.0.6 . tcp . 5000-5099",
        "10.0.0.6 . tcp . 5200-5989",
        "10.0.0.6 . udp . 50-60",
        "10.0.1.6 . tcp . 6000",
    ]


def test_urls_are_found_in_whatever_a_stager_is_configured_with() -> None:
    given = [
        "http://m.example/simple/",
        "",
        "--extra-index-url https://user:secret@p.example:81/x --pre",
        None,
        "http://m.example/npm",
    ]
    urls = PLAN.ingot_urls(given)
    assert urls == ["http://m.example", "https://p.example:81"]
    assert PLAN.ingot_hosts(urls) == ["m.example", "p.example"]
    assert PLAN.ingot_answers(urls, {"p.example": ["10.0.0.9"]}) == {urls[0]: [], urls[1]: ["10.0.0.9"]}


def test_what_is_no_address_is_told() -> None:
    given = [
        "10.0.0.1",
        "10.0.0.0/24",
        "10.0.0.5/24",
        "fd00::/64",
        "core1.example",
        "10.0.0.300",
        "10.0.0.0/40",
    ]
    assert PLAN.ingot_not_networks(given) == ["core1.example", "10.0.0.300", "10.0.0.0/40"]

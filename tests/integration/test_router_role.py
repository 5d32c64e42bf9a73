"""The role's own judgement of a router, on a router that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.router import deas
from tests.integration import local_play
from tests.integration.router_rig import running
from tests.support.ports import free_port

TASKS = """
    - ansible.builtin.include_role:
        name: router
        tasks_from: health
"""


@pytest.mark.parametrize(
    "inputs", [{}, {"router_proxy_protocol": True, "router_trusted_proxies": ["127.0.0.1"]}]
)
def test_a_router_is_healthy_wherever_and_by_whatever_protocol_it_listens(
    tmp_path: Path, inputs: dict[str, Any]
) -> None:
    inputs = {**inputs, "router_port": f"127.0.0.2:{free_port()}"}
    with running(nginx=inputs) as rig:
        given = {
            **inputs,
            "router_status_port": rig.status_port,
            "router_run_path": str(rig.folder),
        }
        done = local_play.run(tmp_path, TASKS, given)
    assert done.returncode == 0, done.stdout + done.stderr


TELL = """
    - ansible.builtin.include_role:
        name: router
        tasks_from: deas
      vars:
        router_machine: "{{ item }}"
      loop: "{{ groups['router'] }}"
"""
POOL = """
all:
  children:
    router: {hosts: {localhost: {}}}
    dea:
      hosts:
        dea1: {ansible_host: 10.0.0.1}
        dea2: {ansible_host: 10.0.0.2}
        # Managed by one address, and serving at another.
        dea3: {ansible_host: 10.0.0.3, dea_address: 10.1.0.3}
"""


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ({"router_dea_addresses_gone": ["10.0.0.2"]}, ["10.0.0.1/32", "10.0.0.3/32", "10.1.0.3/32"]),
        ({"router_dea_addresses": ["10.1.0.3/24"]}, ["10.1.0.0/24"]),
        # An operator's own word, with a warning from the process.
        ({"router_dea_addresses": []}, []),
    ],
)
def test_routers_are_told_where_applications_are_served(
    tmp_path: Path, inputs: dict[str, Any], wanted: list[str]
) -> None:
    inventory, target = tmp_path / "pool.yml", tmp_path / "router-deas"
    inventory.write_text(POOL)
    given = {**inputs, "__router_deas": str(target), "__router_group": "root"}
    done = local_play.run(tmp_path, TELL, given, "-i", str(inventory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [str(network) for network in deas.read(target)] == wanted


def test_an_address_that_a_run_cannot_tell_is_named_and_the_list_stays(tmp_path: Path) -> None:
    inventory, target = tmp_path / "pool.yml", tmp_path / "router-deas"
    inventory.write_text(POOL.replace("10.1.0.3", "\"{{ ansible_facts['ens4'].ipv4.address }}\""))
    target.write_text("10.1.0.3\n")
    done = local_play.run(
        tmp_path, TELL, {"__router_deas": str(target), "__router_group": "root"}, "-i", str(inventory)
    )
    assert done.returncode != 0
    assert "dea_address of dea3 cannot be told by this run" in done.stdout
    assert target.read_text() == "10.1.0.3\n"

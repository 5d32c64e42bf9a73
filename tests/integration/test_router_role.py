"""The role's own judgement of a router, on a router that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration import local_play
from tests.integration.router_rig import free_port, running

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

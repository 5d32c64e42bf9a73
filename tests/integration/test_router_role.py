"""The role's own judgement of a router, on a router that runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.router_rig import ROOT, free_port, running

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
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
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    inputs = {**inputs, "router_port": f"127.0.0.2:{free_port()}"}
    with running(nginx=inputs) as rig:
        given = {
            **inputs,
            "router_status_port": rig.status_port,
            "router_run_path": str(rig.folder),
        }
        done = subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                "-i",
                "localhost,",
                "-e",
                json.dumps(given),
                play,
            ],
            env={
                **os.environ,
                "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr

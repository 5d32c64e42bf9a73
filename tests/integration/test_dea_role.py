"""What the role refuses before it changes a machine: a number of instances for which there are no accounts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.router_rig import ROOT

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: dea
"""


@pytest.mark.parametrize("count", [0, 5001])
def test_instances_without_accounts_are_refused(tmp_path: Path, count: int) -> None:
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    given = {
        "dea_max_instances": count,
        "dea_bus_urls": ["nats://127.0.0.1:4222"],
        "dea_bus_password": "x",
        "dea_release": "1",
        "dea_status_password": "x",
    }
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "--check", "-i", "localhost,"),
            *("-e", json.dumps(given), play),
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
    assert done.returncode != 0
    assert "dea_max_instances: want 1 to 5000" in done.stdout

"""A play of a role on this machine, as `ansible-playbook` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.integration.router_rig import ROOT


def run(
    folder: Path, tasks: str, inputs: Mapping[str, object], *options: str
) -> subprocess.CompletedProcess[str]:
    """Return the result of a play of these tasks.

    Args:
        folder: the play is written there.
        tasks: its tasks as YAML, indented by four.
        inputs: extra variables.
        options: of `ansible-playbook`.
    """
    play = folder / "play.yml"
    play.write_text(f"- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n{tasks}")
    program = Path(sys.executable).parent / "ansible-playbook"
    return subprocess.run(
        [str(program), *options, "-i", "localhost,", "-e", json.dumps(dict(inputs)), str(play)],
        env={
            **os.environ,
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        },
        capture_output=True,
        text=True,
        check=False,
    )

"""What the role refuses before it changes a machine: instances for which there are no accounts, or accounts of others."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path

import pytest

from tests.integration import local_play

TASKS = """
    - ansible.builtin.include_role:
        name: dea
"""


def checked(folder: Path, role: str, **given: object) -> subprocess.CompletedProcess[str]:
    """Apply a role to this machine in check mode."""
    inputs = {
        f"{role}_bus_urls": ["nats://127.0.0.1:4222"],
        f"{role}_bus_password": "x",
        f"{role}_release": "1",
        f"{role}_status_password": "x",
    }
    tasks = TASKS.replace("dea", role)
    return local_play.run(folder, tasks, inputs | given, "--check")


@pytest.mark.parametrize("count", [0, 5001])
def test_instances_without_accounts_are_refused(tmp_path: Path, count: int) -> None:
    done = checked(tmp_path, "dea", dea_max_instances=count)
    assert done.returncode != 0
    assert "dea_max_instances: want 1 to 5000" in done.stdout


@pytest.mark.parametrize(("role", "prefix"), [("dea", "ingot-app-"), ("stager", "ingot-build-")])
def test_numbers_that_other_accounts_have_are_refused(tmp_path: Path, role: str, prefix: str) -> None:
    other = pwd.getpwuid(1).pw_name
    # 77001 is nobody's, which is well: the role makes it.
    done = checked(tmp_path, role, **{f"__{role}_uids": [77001, 1]})
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert f"numbers that the role needs for {prefix}<number>: 1 ({other})." in said
    # What getent says on a machine that has the accounts.
    ours = {"rc": 0, "stdout_lines": [f"{prefix}{n}:x:{n}:{n}:Ingot:/:/bin/sh" for n in (5, 6)]}
    done = checked(tmp_path, role, **{f"__{role}_uids": [77001], f"__{role}_numbers": ours})
    assert "numbers that the role needs" not in done.stdout
    assert "Ask what release the machine runs" in done.stdout

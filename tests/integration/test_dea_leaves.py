"""What the role's drain and undrain do, with a stand-in for systemctl that notes what it is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration import local_play
from tests.integration.router_rig import ROOT

SYSTEMCTL = """#!/bin/sh
echo "$*" >> {log}
"""
DRAIN = """
    - ansible.builtin.include_role:
        name: dea
        tasks_from: drain
"""


def drained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, records: Any
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Drain a DEA whose agent has written these records of tasks."""
    log, program = folder / "told", folder / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    (folder / "tasks.json").write_text(json.dumps(records))
    inputs = {"dea_path": str(folder), "dea_drain_evacuate": True, "dea_drain_seconds": 1}
    done = local_play.run(folder, DRAIN, inputs)
    return done, [line.split(" ")[-2] for line in log.read_text().splitlines() if line.startswith("kill")]


def test_a_machine_with_a_task_refuses_to_leave_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = {
        "7": {
            "nightly-1": {"id": "nightly-1", "state": "RUNNING"},
            "old-1": {"id": "old-1", "state": "DELETED"},
        },
        "8": {"import-2": {"id": "import-2", "state": "STARTING"}},
    }
    done, signals = drained(tmp_path, monkeypatch, records)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "localhost runs the one-off task nightly-1, import-2, which cannot be moved" in said
    # It serves on.
    assert signals == ["--signal=SIGUSR2", "--signal=SIGUSR1"]


def test_a_machine_whose_tasks_have_ended_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {"7": {"old-1": {"id": "old-1", "state": "DELETED"}}}
    done, signals = drained(tmp_path, monkeypatch, records)
    assert done.returncode == 0, done.stdout
    assert signals == ["--signal=SIGUSR2"]


def test_a_machine_that_joins_takes_instances_though_it_evacuated_once() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks" / "scale_out.yml").read_text())
    last = play["tasks"][-1]
    assert last["ansible.builtin.include_role"] == {"name": "dea", "tasks_from": "undrain"}
    assert last["vars"] == {"dea_drain_evacuate": True}

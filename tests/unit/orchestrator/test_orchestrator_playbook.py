from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.control import ansible_playbook
from orchestrator.control.phases import Phases
from orchestrator.control.up import read_setup


def test_recap_is_read_with_and_without_colour() -> None:
    lines = [
        "PLAY RECAP *****",
        "core1                      : ok=41   changed=3    unreachable=0    failed=0    skipped=2    rescued=0    ignored=0",
        "\x1b[0;33mdea1\x1b[0m                       : ok=9    changed=0    unreachable=1    failed=2    skipped=0",
        "not a line of it: ok",
    ]
    assert ansible_playbook.parse_recap(lines) == {
        "core1": ansible_playbook.Recap(ok=41, changed=3, failed=0, unreachable=0),
        "dea1": ansible_playbook.Recap(ok=9, changed=0, failed=2, unreachable=1),
    }


def test_a_playbook_that_fails_says_where_its_output_is(tmp_path: Path) -> None:
    log = tmp_path / "play.log"
    with pytest.raises(ansible_playbook.PlaybookError, match=r"failed; the whole output is in .*play\.log"):
        ansible_playbook.run("there_is_no_such_playbook.yml", tmp_path, log)
    assert "there_is_no_such_playbook.yml" in log.read_text()


def test_phases_are_timed_in_order_and_written(tmp_path: Path) -> None:
    phases = Phases()
    phases.add("packages", 1.26)
    with phases.phase("converge", "something"):
        pass
    with pytest.raises(RuntimeError), phases.phase("application", "something else"):
        raise RuntimeError
    report = phases.write(tmp_path / "deep" / "up.json", machines=[])
    assert [p["name"] for p in report["phases"]] == ["packages", "converge"]
    assert report["phases"][0]["seconds"] == 1.3
    assert json.loads((tmp_path / "deep" / "up.json").read_text()) == report


def test_setup_facts_may_be_empty_and_may_hold_spaces(tmp_path: Path) -> None:
    (tmp_path / "setup.env").write_text("WAY=processes\nWHY=not root\nSUBNET=\nPACKAGES_SECONDS=0.1\n")
    assert read_setup(tmp_path / "setup.env") == {
        "WAY": "processes",
        "WHY": "not root",
        "SUBNET": "",
        "PACKAGES_SECONDS": "0.1",
    }

"""Real plays on this machine: what they tell, how they end, and that they outlive whoever began them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import EngineStopping
from orchestrator.inventory.platform_inventory import PlatformInventory
from orchestrator.plays import runner
from orchestrator.plays.runner import Play, PlayError, Plays
from tests.integration.orchestrator_rig import RELEASE, config, write_inventory, write_play

HERE = {"ansible_host": "127.0.0.1", "ansible_connection": "local"}
GOOD = """
- name: Something good
  hosts: dea
  gather_facts: false
  tasks:
    - name: Write what we were told
      ansible.builtin.copy:
        content: "{{ [inventory_hostname, ingot_release, word | default('nothing')] | join(' ') }}"
        dest: "{{ target }}/{{ inventory_hostname }}"
        mode: "0600"
    - name: Do what may fail
      ansible.builtin.command: "false"
      ignore_errors: true
      changed_when: false
"""
BAD = """
- name: Something bad
  hosts: dea
  gather_facts: false
  tasks:
    - name: Say why
      ansible.builtin.fail:
        msg: the disk is full
      when: inventory_hostname == 'dea1'
    - name: Show a secret
      ansible.builtin.command: "sh -c 'echo swordfish >&2; exit 3'"
      no_log: true
    - name: Never come here
      ansible.builtin.debug:
"""
SLOW = """
- name: Something slow
  hosts: dea1
  gather_facts: false
  tasks:
    - name: Begin
      ansible.builtin.copy: {content: x, dest: "{{ target }}/begun", mode: "0600"}
    - name: Wait for the word
      ansible.builtin.wait_for: {path: "{{ target }}/go on", sleep: 1, timeout: 120}
    - name: End
      ansible.builtin.copy: {content: x, dest: "{{ target }}/ended", mode: "0600"}
"""
CALLER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from orchestrator.inventory.platform_inventory import PlatformInventory
from orchestrator.plays.runner import Play, Plays
from tests.integration.orchestrator_rig import config
folder = Path(sys.argv[1])
settings = config(folder)
play = Play("7-configure", "slow.yml", variables={"target": str(folder)})
Plays(settings, PlatformInventory(Path(settings.inventory))).run(play, print)
"""


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what}")


@pytest.fixture
def plays(tmp_path: Path) -> Plays:
    write_inventory(tmp_path, {"dea1": HERE, "dea2": HERE})
    for name, text in (("good.yml", GOOD), ("bad.yml", BAD), ("slow.yml", SLOW)):
        write_play(tmp_path, name, text)
    settings = config(tmp_path)
    return Plays(settings, PlatformInventory(Path(settings.inventory)))


def test_a_play_is_run_once_and_its_success_is_remembered(plays: Plays, tmp_path: Path) -> None:
    said: list[str] = []
    play = Play("1-configure", "good.yml", ("dea2",), {"target": str(tmp_path), "word": "hello"}, RELEASE)
    result = plays.run(play, said.append)
    result.check()
    assert (tmp_path / "dea2").read_text() == f"dea2 {RELEASE} hello"
    assert not (tmp_path / "dea1").exists()
    assert (result.rc, result.recap["dea2"].changed, result.failures) == (0, 1, ())
    assert said == [
        "play: Something good",
        "Write what we were told",
        "dea2: changed: Write what we were told",
        "Do what may fail",
    ]
    (tmp_path / "dea2").unlink()
    again = plays.run(play, said.append)
    assert again.ok
    assert again.recap == result.recap
    assert not (tmp_path / "dea2").exists(), "it ran a second time"
    assert len(said) == 4, "what was said is said again"


def test_variables_are_in_no_process_list_and_do_not_stay(plays: Plays, tmp_path: Path) -> None:
    plays.run(Play("1-a", "good.yml", (), {"target": str(tmp_path), "word": "swordfish"})).check()
    kept = [p for p in (tmp_path / "state").rglob("*") if p.is_file() and b"swordfish" in p.read_bytes()]
    assert kept == []
    assert (tmp_path / "state" / "plays" / "1-a" / "1").stat().st_mode & 0o777 == 0o700


def test_a_failure_names_host_task_and_message_but_no_secret(plays: Plays, tmp_path: Path) -> None:
    said: list[str] = []
    result = plays.run(Play("1-a", "bad.yml"), said.append)
    assert not result.ok
    assert result.rc == 2
    assert [(f.host, f.task) for f in result.failures] == [("dea1", "Say why"), ("dea2", "Show a secret")]
    assert result.failures[0].message == "the disk is full"
    assert result.failures[1].message == "hidden, as the task has no_log"
    with pytest.raises(PlayError, match=r"bad\.yml failed: dea1: Say why: the disk is full; dea2"):
        result.check()
    assert "dea1: failed: Say why: the disk is full" in said
    assert "swordfish" not in "".join([*said, result.tail])
    assert "Never come here" not in said


def test_a_failed_play_is_run_anew(plays: Plays, tmp_path: Path) -> None:
    play = Play("1-a", "again.yml", variables={"target": str(tmp_path)})
    write_play(tmp_path, "again.yml", BAD)
    assert not plays.run(play).ok
    write_play(tmp_path, "again.yml", GOOD)
    assert plays.run(play).ok


def test_a_result_that_nobody_was_told_is_told(plays: Plays, tmp_path: Path) -> None:
    assert not plays.run(Play("1-a", "bad.yml")).ok
    run = tmp_path / "state" / "plays" / "1-a" / "1"
    # As it lies there when the orchestrator ended before it read it.
    (run / "told").unlink()
    write_play(tmp_path, "bad.yml", GOOD)
    assert [f.task for f in plays.run(Play("1-a", "bad.yml")).failures] == ["Say why", "Show a secret"]


def test_what_breaks_before_the_first_task_is_shown(plays: Plays, tmp_path: Path) -> None:
    write_play(tmp_path, "broken.yml", "- hosts: dea\n  no_such_keyword: true\n")
    with pytest.raises(PlayError, match="no_such_keyword"):
        plays.run(Play("1-a", "broken.yml")).check()
    with pytest.raises(PlayError, match=r"missing\.yml: not found; release 1\.0\.0 has no such play"):
        plays.run(Play("1-b", "missing.yml"))
    with pytest.raises(PlayError, match="letters, digits"):
        plays.run(Play("../evil", "good.yml"))


def test_a_play_that_takes_too_long_is_ended(plays: Plays, tmp_path: Path) -> None:
    result = plays.run(Play("1-a", "slow.yml", variables={"target": str(tmp_path)}, seconds=4))
    assert result.status == "timeout"
    with pytest.raises(PlayError, match="took too long"):
        result.check()


def test_a_play_outlives_who_began_it_and_is_found_again(plays: Plays, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(tmp_path), str(root)], cwd=root)
    try:
        until((tmp_path / "begun").exists, "the play has begun")
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.wait()
    record = json.loads((tmp_path / "state/plays/.units/ingot-play-7-configure.json").read_text())
    (tmp_path / "go on").touch()
    said: list[str] = []
    result = plays.run(Play("7-configure", "slow.yml", variables={"target": str(tmp_path)}), said.append)
    assert result.ok
    assert said[0] == "slow.yml still runs" or (tmp_path / "ended").exists()
    assert (tmp_path / "ended").exists()
    assert result.folder.name == "1", "it was begun a second time"
    assert not Path(f"/proc/{record['pid']}").exists()


def test_an_orchestrator_that_ends_says_nothing_twice(plays: Plays, tmp_path: Path) -> None:
    said: list[str] = []

    def end(line: str) -> None:
        said.append(line)
        raise EngineStopping

    play = Play("7-a", "good.yml", ("dea1",), {"target": str(tmp_path)})
    with pytest.raises(EngineStopping):
        plays.run(play, end)
    assert said == ["play: Something good"]
    plays.run(play, said.append).check()
    assert [line for line in said if line != "good.yml still runs"] == [
        "play: Something good",
        "Write what we were told",
        "dea1: changed: Write what we were told",
        "Do what may fail",
    ]


def test_old_runs_are_removed(plays: Plays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "KEPT", 2)
    for number in range(3):
        plays.run(Play(f"{number}-a", "good.yml", ("dea1",), {"target": str(tmp_path)})).check()
    left = sorted(p.name for p in (tmp_path / "state" / "plays").glob("*-a"))
    assert left == ["1-a", "2-a"]

"""What a long operation says, on a terminal and in a file; and how far a real playbook says it is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from orchestrator.control import ansible_playbook
from orchestrator.control.progress import EVERY_SECONDS, ProgressWriter, parts

PLAYS = """
- name: First
  hosts: all
  gather_facts: false
  connection: local
  roles: [one]
  post_tasks:
    - name: Skipped
      ansible.builtin.command: "false"
      when: false
    - name: In a block
      block:
        - name: Does something
          ansible.builtin.debug: {msg: a}
- name: Nobody
  hosts: nobody
  tasks:
    - name: Never begun
      ansible.builtin.debug: {msg: b}
- name: Last
  hosts: all
  gather_facts: false
  connection: local
  tasks:
    - name: Includes
      ansible.builtin.include_role: {name: one}
    - name: Ends
      ansible.builtin.debug: {msg: c}
"""
ROLE = """
- name: Of a role
  ansible.builtin.debug: {msg: d}
- name: Of a role, too
  ansible.builtin.debug: {msg: e}
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_file_is_told_a_thing_once_and_what_takes_long_now_and_then(clock: Clock) -> None:
    out = io.StringIO()
    progress = ProgressWriter(out, clock)
    progress.say("machines: boot")
    # Three times a second for half a minute.
    for third in range(90):
        clock.seconds = 100 + third / 3
        progress.step("  image: unpacking", f"{third // 3} s")
    progress.step("  image: ready")
    assert out.getvalue().splitlines() == [
        "machines: boot",
        "  image: unpacking (0 s)",
        "  image: unpacking (15 s)",
        "  image: ready",
    ]
    assert EVERY_SECONDS == 15


def test_a_terminal_shows_figures_in_place_and_keeps_the_last_of_each_step(clock: Clock) -> None:
    out = Terminal()
    progress = ProgressWriter(out, clock, columns=20)
    progress.step("one", "1 of 9")
    progress.step("one", "2 of 9")
    progress.step("another that is far too long", "3 of 9")
    progress.say("done")
    progress.step("one")
    progress.end()
    assert out.getvalue() == (
        "\r\x1b[Kone (1 of 9)\r\x1b[Kone (2 of 9)\n\r\x1b[Kanother that is far\ndone\n\r\x1b[Kone\n"
    )


@pytest.mark.parametrize(
    ("line", "words", "figures"),
    [
        ("image trixie: unpacking (12 s)", "image trixie: unpacking", "12 s"),
        ("starting dea1", "starting dea1", ""),
        ("exec (a) b", "exec (a) b", ""),
        (" (1 of 2)", " (1 of 2)", ""),
    ],
)
def test_figures_are_what_stands_in_brackets_at_the_end(line: str, words: str, figures: str) -> None:
    assert parts(line) == (words, figures)


def test_a_playbook_says_how_many_of_all_tasks_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "roles" / "one" / "tasks").mkdir(parents=True)
    (tmp_path / "roles" / "one" / "tasks" / "main.yml").write_text(ROLE)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "three.yml").write_text(PLAYS)
    (tmp_path / "ansible.cfg").write_text("[defaults]\nroles_path = roles\n")
    (tmp_path / "hosts").write_text("a\nb\n")
    log = tmp_path / "three.log"
    recap = ansible_playbook.run("three.yml", tmp_path / "hosts", log, plays=tmp_path)
    assert recap["a"].failed == 0
    # Two of the role and two of the play; one that no machine runs; two of the last play, without what the first of them includes.
    assert capsys.readouterr().out.splitlines() == [
        "  First (0 of 7 tasks)",
        "  Nobody (4 of 7 tasks)",
        "  Last (5 of 7 tasks)",
    ]
    assert "\x1e" not in log.read_text()
    assert "PLAY [Last]" in log.read_text()

"""A run of a playbook as an operator would do it, with `ansible-playbook`, and its result.

The whole output goes to a file; the terminal gets a line for each play with how many of all tasks are done, and the end of the output
where a play fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.common.errors import IngotError
from orchestrator.control.phases import end_step, step

ROOT = Path(__file__).resolve().parents[2]
_RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# In the form of playbooks/callback_plugins/ingot_progress.py.
_REACHED = re.compile(r"^\x1e(\d+)/(\d+)$")
_TAIL = 60


class PlaybookError(IngotError):
    """A playbook failed; the text holds the end of its output and the file with the whole of it."""


@dataclass(frozen=True, slots=True)
class Recap:
    """The result of a playbook on one host, in tasks."""

    ok: int
    changed: int
    failed: int
    unreachable: int


def parse_recap(lines: list[str]) -> dict[str, Recap]:
    """Return Ansible's closing table."""
    recap = {}
    for line in lines:
        if found := _RECAP.match(_COLOUR.sub("", line)):
            numbers = {k: int(found[k]) for k in ("ok", "changed", "failed", "unreachable")}
            recap[found["host"]] = Recap(**numbers)
    return recap


def run(
    playbook: str, inventory: Path, log: Path, extra: Mapping[str, str] | None = None, *, plays: Path = ROOT
) -> dict[str, Recap]:
    """Run `playbooks/<playbook>` against an inventory.

    Args:
        playbook: file name in `playbooks/`.
        inventory: file or folder.
        log: takes the whole output.
        extra: variables for this run; never secrets, as they show in the process list.
        plays: the folder with `playbooks`, `roles` and `ansible.cfg`: the checkout, or a release's.

    Raises:
        PlaybookError: it did not succeed.
    """
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(inventory),
        f"playbooks/{playbook}",
    ]
    for key, value in (extra or {}).items():
        command += ["-e", f"{key}={value}"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(plays / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "playbooks" / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "ingot_progress",
        "PYTHONUNBUFFERED": "1",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with (
        log.open("w", encoding="utf-8") as whole,
        subprocess.Popen(
            command, cwd=plays, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        play = ""
        for line in process.stdout:
            if reached := _REACHED.match(line):
                if play:
                    step(f"  {play} ({reached[1]} of {reached[2]} tasks)")
                continue
            whole.write(line)
            lines.append(line.rstrip("\n"))
            if line.startswith("PLAY [") and "RECAP" not in line:
                play = line[6:].split("]", 1)[0]
        code = process.wait()
    end_step()
    if code:
        tail = "\n".join(lines[-_TAIL:])
        raise PlaybookError(f"{tail}\nplaybooks/{playbook} failed; the whole output is in {log}")
    return parse_recap(lines)

"""A stand-in for the controller on a DEA's machine, which asks an instance from within."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = Path(__file__).parent / "dea"
# The program that runs on the machine in the controller's place, and the application that it has the DEA start.
CONTROLLER = (_PROGRAMS / "stand_in_controller.py").read_text()
APPLICATION = (_PROGRAMS / "stand_in_app.py").read_text()


def controller(host: Any, verb: str, **more: Any) -> Any:
    """Have the stand-in do what one of its verbs says; return what it prints, None where that is nothing."""
    done = host.run(
        "/opt/ingot/current/venv/bin/python -c %s %s %s %s", CONTROLLER, verb, json.dumps(more), APPLICATION
    )
    if done.rc != 0:
        pytest.fail(done.stderr + host.run("journalctl -u ingot-dea -n 50 --no-pager").stdout)
    return json.loads(done.stdout) if done.stdout else None


def asking(instance: dict[str, Any], command: str) -> list[str]:
    """Return the command that has the instance itself run something."""
    script = (
        "import sys, urllib.request, urllib.parse as p; "
        "print(urllib.request.urlopen(sys.argv[1] + p.quote(sys.argv[2], safe='')).read().decode())"
    )
    stats = instance["stats"]
    return ["python3", "-c", script, f"http://{stats['host']}:{stats['port']}/", command]


def inside(host: Any, instance: dict[str, Any], command: str) -> str:
    done = host.run(shlex.join(asking(instance, command)))
    assert done.rc == 0, done.stderr
    return str(done.stdout).strip()


def main_pid(host: Any, instance: dict[str, Any]) -> str:
    return str(host.run("systemctl show -P MainPID ingot-app-%s", instance["instance"]).stdout.strip())

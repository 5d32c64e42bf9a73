"""The program of a play's unit: `python -m orchestrator.plays.program FOLDER`. The only import of ansible_runner."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import ansible_runner
import msgspec

from components.common.filesystem.files import write_atomically
from orchestrator.plays.events import reduce
from orchestrator.plays.run_folder import (
    EVENTS,
    FAILED,
    PLAY,
    RESULT,
    SUCCESSFUL,
    TIMEOUT,
    Ending,
    Order,
    spend,
)


def run_in_unit(run: Path) -> int:
    """Carry out the order in a run's folder; the program of its unit.

    Returns:
        The return code of ansible-playbook.
    """
    order = msgspec.json.decode((run / PLAY).read_bytes(), type=Order)
    # A socket's path must be short, and state folders are deep.
    with (
        (run / EVENTS).open("ab", buffering=0) as events,
        tempfile.TemporaryDirectory(prefix="ingot-") as sockets,
    ):

        def hear(event: dict[str, Any]) -> bool:
            if (line := reduce(event)) is not None:
                events.write(msgspec.json.encode(line) + b"\n")
            # Ansible's own events hold all results of all tasks: they are not kept.
            return False

        done = ansible_runner.run(
            private_data_dir=str(run),
            ident="run",
            project_dir=order.plays,
            playbook=order.playbook,
            inventory=order.inventory,
            limit=order.limit or None,
            timeout=int(order.seconds),
            envvars={
                "ANSIBLE_CONFIG": f"{order.plays}/ansible.cfg",
                "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
            },
            event_handler=hear,
            quiet=True,
        )
    spend(run)
    status = done.status if done.status in (SUCCESSFUL, TIMEOUT) else FAILED
    write_atomically(run / RESULT, msgspec.json.encode(Ending(status, done.rc)))
    return int(done.rc)


if __name__ == "__main__":
    sys.exit(run_in_unit(Path(sys.argv[1])))

"""`make down`: removes the machines and processes of `make up`, and restores the host's settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from components.common.errors import IngotError
from orchestrator.control.phases import say
from orchestrator.lab.client import LabClient
from orchestrator.lab.up import take_down

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Take the lab and the development processes down; both may be gone already."""
    name = os.environ.get("LAB") or "ingot"
    try:
        if (ROOT / "build" / "dev").exists():
            command = [sys.executable, "-m", "orchestrator.dev", "down"]
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                raise SystemExit(1)
            shutil.rmtree(ROOT / "build" / "dev", ignore_errors=True)
        if os.geteuid() == 0:
            with LabClient() as client:
                there = take_down(client, ROOT, name)
            say(f"lab {name} is removed" if there else f"there is no lab {name}")
    except IngotError as error:
        sys.stderr.write(f"make down failed: {error}\n")
        raise SystemExit(1) from error
    (ROOT / "build" / "up.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

"""Inventories as operators have them: a copy somewhere, its secrets, and what preflight says of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from orchestrator.inventory.platform_secrets import generate_secrets

ROOT = Path(__file__).resolve().parents[2]


def copy_of(inventory: Path, folder: Path) -> Path:
    """Copy an inventory into a folder, with a release that it can find; return the copy."""
    copy = folder / "inventory"
    shutil.copytree(inventory, copy)
    release = folder / "releases" / "1.0.0"
    release.mkdir(parents=True)
    (release / "RELEASE.json").write_text('{"targets": {}}')
    (copy / "group_vars" / "all" / "releases.yml").write_text(f"ingot_releases_dir: {folder / 'releases'}\n")
    return copy


def with_secrets(inventory: Path) -> None:
    """Write the secrets of a platform into an inventory."""
    secrets = generate_secrets({"ingot_bus_passwords": {"cluster": "between-the-servers"}})
    (inventory / "group_vars" / "all" / "secrets.yml").write_text(yaml.safe_dump(secrets))


def preflight(inventory: Path) -> tuple[int, str]:
    """Run the preflight play; return its exit code and its output with single blanks."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "-i",
            inventory,
            ROOT / "playbooks" / "preflight.yml",
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "COLUMNS": "1000",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join(done.stdout.split())

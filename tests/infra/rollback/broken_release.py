"""Builds a release whose controller does not start, from a damaged copy of the checkout: broken_release.py VERSION."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from orchestrator.control import release_builder

ROOT = Path(__file__).resolve().parents[3]
PARTS = (
    "components",
    "orchestrator",
    "playbooks",
    "roles",
    "ansible.cfg",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
)
# Its configuration is still read and judged, so that the machine is changed before anything is noticed.
DAMAGE = '''

def serve(config: ControllerConfig) -> None:  # noqa: F811
    """Fail."""
    raise OSError("this release was broken on purpose")
'''


def main(version: str) -> None:
    """Build it beside the others."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in PARTS:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, copy / name)
        with (copy / "components/controller/server.py").open("a") as file:
            file.write(DAMAGE)
        release_builder.build(copy, version, ROOT / "build/releases", ("311",), ROOT / "build/cache/wheels")


if __name__ == "__main__":
    main(sys.argv[1])

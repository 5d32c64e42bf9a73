"""`ingot-controller`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from components.controller.storage import scratch_names

METRICS = "PROMETHEUS_MULTIPROC_DIR"


def main() -> None:
    """Run the controller."""
    if METRICS not in os.environ:
        # The workers share their metrics in files; the library reads the folder's name when it is imported.
        folder = os.environ[METRICS] = tempfile.mkdtemp(prefix=scratch_names.local("controller-metrics"))
        atexit.register(_remove, folder, os.getpid())
    from components.controller.daemon import run  # noqa: PLC0415 - after the folder's name is set

    run()


def _remove(folder: str, owner: int) -> None:
    # Workers exit through here, too; the folder is the master's.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)

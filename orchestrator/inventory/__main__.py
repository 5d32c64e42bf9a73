"""`python -m orchestrator.inventory FOLDER`: gives a lab's inventory its secrets, and the version of this checkout as its release."""

from __future__ import annotations

import sys
from pathlib import Path

from components.common.version import VERSION
from orchestrator.inventory.platform_secrets import lab_secrets
from orchestrator.inventory.release_record import record_release

if __name__ == "__main__":
    lab_secrets(Path(sys.argv[1]))
    record_release(Path(sys.argv[1]), VERSION)

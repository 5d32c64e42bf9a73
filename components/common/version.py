"""The version of the distribution; a release is named after it unless the operator chooses another name."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

VERSION = "0.1.0"


def release() -> str:
    """Return the name of the release that this process runs.

    The same checkout may be built under several names. A unit passes the name (`INGOT_RELEASE`); without it, the release folder
    that holds this virtual environment has it; elsewhere it is the checkout's version.
    """
    if said := os.environ.get("INGOT_RELEASE"):
        return said
    try:
        manifest = json.loads((Path(sys.prefix).parent / "RELEASE.json").read_text(encoding="utf-8"))
        return str(manifest["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return VERSION

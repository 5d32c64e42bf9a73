"""What the tests of the share over NFS have in common: where it is, and how a machine is asked about it."""

from __future__ import annotations

import json
from typing import Any

SHARE = "/srv/ingot/share"
# A machine whose processor is translated in software takes longer than the probe waits by itself.
PROBE = "/usr/local/sbin/ingot-share-probe --seconds=120"


def done(host: Any, command: str) -> str:
    """Return what a command printed that must succeed."""
    ran = host.run(command)
    assert ran.rc == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return str(ran.stdout)


def probe(host: Any, verb: str = "probe", *words: str) -> dict[str, Any]:
    """Return the share's probe's answer."""
    said: dict[str, Any] = json.loads(host.run(" ".join((PROBE, verb, SHARE, *words))).stdout)
    return said

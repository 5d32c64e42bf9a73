"""A program's view of itself; `test_forked.py` compares a started one with a forked one."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def main() -> int:
    """Write the view to standard output, and exit with 3."""
    facts = {
        "argv": sys.argv,
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        # The last one is the listing's own.
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],  # noqa: PTH208
        "leads_session": os.getsid(0) == os.getpid(),
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "input": sys.stdin.read(),
    }
    print(json.dumps(facts))
    sys.stderr.write("no error\n")
    return 3


if __name__ == "__main__":
    sys.exit(main())

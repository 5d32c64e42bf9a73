# ruff: noqa: INP001 - Ansible hands it to the machine's own Python
"""What this machine knows that its firewall is made from, as JSON.

Arguments: the file of addresses that an earlier run wrote, a chain, and names to ask the machine's resolver for.
"""

import json
import socket
import subprocess
import sys
from pathlib import Path


def addresses(name: str) -> list[str]:
    """Return the addresses of a host; a name that nobody knows has none."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError:
        return []


def remembered(path: str) -> object:
    """Return what an earlier run wrote."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def loaded(chain: str) -> str:
    """Return the rules that the kernel has in a chain, as text; nothing where it has no such chain."""
    try:
        done = subprocess.run(
            ["nft", "list", "chain", *chain.split()], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout


if __name__ == "__main__":
    file, rules, *names = sys.argv[1:]
    known = {
        "addresses": remembered(file),
        "loaded": loaded(rules),
        "names": {n: addresses(n) for n in names},
    }
    sys.stdout.write(json.dumps(known))

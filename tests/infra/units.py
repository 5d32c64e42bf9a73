"""What every kind of unit that runs foreign code is held to: no line of it as root, and an exposure as the docs say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

_DOCS = Path(__file__).parents[2] / "docs" / "platform.md"
_ROW = re.compile(r"^\| `(ingot-[a-z]+)-…` \| [^|]+ \| ([0-9.]+) \|", re.MULTILINE)
_OVERALL = re.compile(r"Overall exposure level for \S+: ([0-9.]+)")
# Of these, each acts in a program before its first line. The loader's own notes show by their owner which uid each program
# had; of a library that is none for audits it complains, and goes on.
HOSTILE = {
    "LD_DEBUG": "libs",
    "LD_PRELOAD": "libm.so.6",
    "LD_AUDIT": "libm.so.6",
    "LD_LIBRARY_PATH": "/nowhere",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=1",
    "GCONV_PATH": "/nowhere",
    "LOCPATH": "/nowhere",
    "ENV": "/nowhere",
    "PYTHONSTARTUP": "/nowhere",
}


def hostile(folder: str) -> Mapping[str, str]:
    """Return variables by which every program leaves a file `ld.PID` in a folder, and each shell one line in `shells`."""
    return {**HOSTILE, "LD_DEBUG_OUTPUT": f"{folder}/ld", "BASH_ENV": f"{folder}/env.sh"}


def documented(prefix: str) -> float:
    """Return the exposure that docs/platform.md names for units of a prefix."""
    return float(dict(_ROW.findall(_DOCS.read_text(encoding="utf-8")))[prefix])


def hold_exposure(host: Any, unit: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Print what `systemd-analyze security` says of a unit, and hold it to the documented figure."""
    said = host.check_output("systemd-analyze security --no-pager %s", f"{unit}.service")
    with capsys.disabled():
        print("", *(line for line in said.splitlines() if not line.startswith("✓")), sep="\n")
    found = _OVERALL.search(said)
    assert found is not None, said
    assert float(found[1]) <= documented(prefix)

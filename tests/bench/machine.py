"""The facts of the machine in every benchmark's result, and the output of that result."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def facts() -> dict[str, Any]:
    """Return cores, CPU, memory, the load before, and Python."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model[1].strip() if model else platform.machine(),
        "memory_mb": int(memory[1]) // 1024 if memory else 0,
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def resident_mb(pid: int | str = "self") -> float:
    """Return the memory of a process in MB."""
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def output(name: str) -> Path:
    """Return the default path of a benchmark's result."""
    return ROOT / "build" / "bench" / f"{name}.json"


def report(result: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write the result, print it as one line, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result), flush=True)
    return result

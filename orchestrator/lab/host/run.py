"""Calls of the host's programs: always a list, never a shell string; a failure has the end of the output."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.lab.errors import CommandError

DEADLINE = 60.0


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    check: bool = True,
    timeout: float = DEADLINE,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return its output.

    Raises:
        CommandError: it is missing, failed (with `check`) or ran over its time.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False, env=env
        )
    except FileNotFoundError as error:
        raise CommandError(argv, 127, f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(argv, 124, f"no end after {timeout:.0f} s") from error
    if check and done.returncode != 0:
        raise CommandError(argv, done.returncode, done.stderr or done.stdout)
    return done.stdout


def run_json(argv: Sequence[str]) -> Any:
    """Run a program that prints JSON; return the parsed output, an empty list where it printed nothing.

    Raises:
        CommandError: as `run`.
    """
    return json.loads(run(argv) or "[]")

"""Roots of images, made by mmdebstrap from the archives of this host."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.common import log
from orchestrator.lab.errors import CommandError, LabError
from orchestrator.lab.images import recipes, sources

APT = Path("/etc/apt")
CERTIFICATES = Path("/usr/local/share/ca-certificates")
OS_RELEASE = Path("/etc/os-release")
# An archive that refuses for a moment does not cost the image: the pauses before further attempts, seconds.
_ARCHIVE_WAITS = (5, 20)
_FETCH_ERRORS = re.compile(r"Failed to fetch|Unable to fetch|Could not (?:connect|resolve)|Temporary failure")
BUILD_DEADLINE = 1800.0
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of an image: the name of its folder, and its ingredients."""

    folder: str
    recipe: recipes.Recipe
    archives: tuple[sources.Source, ...]
    authorities: tuple[Path, ...]


def host_sources(suite: str) -> list[sources.Source]:
    """Return the host's Debian archives, translated to this suite.

    Raises:
        LabError: this host's apt knows none.
    """
    host_suite = sources.codename(OS_RELEASE.read_text())
    found: list[sources.Source] = []
    for path in (APT / "sources.list", *sorted((APT / "sources.list.d").glob("*.list"))):
        if path.is_file():
            found += sources.parse_list(path.read_text())
    for path in sorted((APT / "sources.list.d").glob("*.sources")):
        found += sources.parse_deb822(path.read_text())
    if not (kept := sources.for_suite(found, host_suite, suite)):
        raise LabError(
            f"no Debian archive of {host_suite or 'this host'} in {APT}: images are built from the host's own sources"
        )
    return kept


def plan_for(name: str) -> Plan:
    """Return the plan of an image from this host's archives and certificates.

    Raises:
        LabError: there is no such image, or this host's apt knows no archive for it.
    """
    recipe = recipes.recipe(name)
    archives = host_sources(recipe.suite)
    authorities = tuple(sorted(CERTIFICATES.glob("*.crt")))
    lines = [source.line() for source in archives]
    key = recipes.digest(recipe, lines, {path.name: path.read_bytes() for path in authorities})
    return Plan(recipes.folder_name(name, key), recipe, tuple(archives), authorities)


def build_root(root: Path, plan: Plan, report: Callable[[str], None], lock: int | None) -> None:
    """Build the root of an image.

    Args:
        root: the folder, which does not exist yet.
        plan: of the image.
        report: called with each step of the builder.
        lock: a descriptor that the builder inherits.

    Raises:
        CommandError: it failed; the text has its last lines.
    """
    recipe = plan.recipe
    with tempfile.TemporaryDirectory(prefix="ingot-lab-") as scripts:
        prepare, finish = Path(scripts, "prepare"), Path(scripts, "finish")
        for path, text in ((prepare, recipe.prepare), (finish, recipe.finish)):
            path.write_text(f"#!/bin/sh\n{text}")
            path.chmod(0o755)
        argv = [
            "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
            "--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.excluded),
            *(f"--dpkgopt=path-include={pattern}" for pattern in ("/usr/share/doc/*/copyright", *recipe.included)),
            '--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"',
            f'--essential-hook={prepare} "$1"', f'--customize-hook={finish} "$1"',
            f"--include={','.join(recipe.packages)}", recipe.suite, str(root), "-",
        ]  # fmt: skip
        env = {
            **os.environ,
            "INGOT_KEYRINGS": " ".join(sorted({s.keyring for s in plan.archives if s.keyring})),
            "INGOT_CERTIFICATES": " ".join(map(str, plan.authorities)),
            "INGOT_KEPT_UNITS": " ".join(recipe.kept_units),
            "INGOT_MASKED_UNITS": " ".join(recipe.masked_units),
            # An image with a kernel has an initrd of the lab's own.
            "INITRD": "No",
        }
        lines = "".join(f"{s.line()}\n" for s in plan.archives)
        for wait in _ARCHIVE_WAITS:
            try:
                _follow(argv, lines, env, report, lock)
            except CommandError as error:
                if not archive_refused(error.output):
                    raise
                logger.warning("archive refused", image=recipe.name, reason=str(error), again_in_seconds=wait)
            else:
                return
            report(f"waiting {wait} s for the archive, which refused")
            shutil.rmtree(root, ignore_errors=True)
            time.sleep(wait)
        _follow(argv, lines, env, report, lock)


def archive_refused(output: str) -> bool:
    """Return whether apt could not fetch, which another attempt may mend; its own retries are over by then."""
    return bool(_FETCH_ERRORS.search(output))


def _follow(
    argv: list[str], stdin: str, env: dict[str, str], report: Callable[[str], None], lock: int | None
) -> None:
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=env,
            # A builder that outlives a killed daemon keeps the lock, so that no second build uses the same folder.
            pass_fds=[] if lock is None else [lock],
        )
    except FileNotFoundError as error:
        raise CommandError(argv[:1], 127, "mmdebstrap is not installed") from error
    with process:
        timer = threading.Timer(BUILD_DEADLINE, process.terminate)
        timer.start()
        said: list[str] = []
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(stdin)
                process.stdin.close()
            for line in process.stdout:
                said.append(line)
                if line.startswith("I: "):
                    report(line[3:].strip())
        finally:
            timer.cancel()
    if process.returncode != 0:
        errors = [line for line in said[:-8] if line.startswith("E: ") or archive_refused(line)]
        raise CommandError(argv[:1], process.returncode, "".join(errors[-8:] + said[-8:]))

"""The interface of frameworks' plugins: `detect` recognises an application, `compile` makes it ready to run.

A plugin is a class with no arguments, found by the entry point group `ingot.frameworks` under the framework's name. It
runs inside the sandbox, in the process of one build. Its row in `components/common/frameworks.py` tells controllers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from components.common.frameworks import FRAMEWORKS, Runtime, describe
from components.stager.errors import StagingError
from components.stager.startup import Start

GROUP = "ingot.frameworks"
STANDALONE = "standalone"
_IN_TABLE = frozenset(f.name for f in FRAMEWORKS)


@dataclass(frozen=True, slots=True)
class Detection:
    """The result of a detection, with the fact that decided it."""

    fits: bool
    why: str


@dataclass(frozen=True, slots=True)
class BuildTools:
    """The programs of the stager's machine, and the settings of package managers; see `StagerConfig`."""

    python: str = "/usr/bin/python3"
    npm: str = "/usr/bin/npm"
    pip_extra_args: tuple[str, ...] = ()
    ruby: str = "/usr/bin/ruby"
    gem_index_url: str = ""
    java: str = "/usr/bin/java"
    tomcat: str = "/usr/share/java"


@dataclass(frozen=True, slots=True)
class Service:
    """A bound instance of a data service: its owner's name for it, and its kind (`postgresql-15`)."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Context:
    """The context of a plugin.

    Attributes:
        app: the droplet's `app/`, holding the application's source; the plugin changes it in place.
        cache: a folder that this application's next staging finds again.
        runtime: of the application; None for a standalone command that names none.
        meta: the user's further settings, such as `command`.
        tools: package managers.
        say: writes a line to the log that goes into the droplet: nothing that differs between equal builds.
        tell: writes a line to the task's log only.
        services: those bound to the application.
    """

    app: Path
    cache: Path
    runtime: Runtime | None
    meta: Mapping[str, Any]
    tools: BuildTools
    say: Callable[[str], None]
    tell: Callable[[str], None] = print
    services: tuple[Service, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def run(self, argv: Sequence[str], remedy: str, extra: Mapping[str, str] | None = None) -> None:
        """Run a tool in `app/`; its output goes to the task's log only.

        Raises:
            StagingError: it cannot be run or failed.
        """
        sys.stdout.flush()
        status = self._run(argv, extra or {}, None).returncode
        if status:
            tool = " ".join(Path(a).name if i == 0 else a for i, a in enumerate(argv[:4]))
            dots = " ..." if len(argv) > 4 else ""
            raise StagingError("compile", f"`{tool}{dots}` ended with status {status}", remedy)

    def ask(self, argv: Sequence[str]) -> str:
        """Return the output of a tool; empty where it fails.

        Raises:
            StagingError: it cannot be run.
        """
        done = self._run(argv, {}, subprocess.PIPE)
        return "" if done.returncode else done.stdout.decode(errors="replace")

    def _run(
        self, argv: Sequence[str], extra: Mapping[str, str], output: int | None
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                list(argv),
                cwd=self.app,
                env={**self.environment, **extra},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as error:
            raise StagingError(
                "compile",
                f"the stager cannot run {argv[0]}: {error.strerror}",
                "The operator must repair this.",
            ) from error


class Plugin(Protocol):
    """A framework's plugin."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """Look at the source, changing nothing."""

    def compile(self, context: Context) -> Start:
        """Make `context.app` ready to run and return its start.

        Raises:
            StagingError: it cannot be made ready.
        """


def installed() -> dict[str, EntryPoint]:
    """Return the plugins by name, in the order of the table of frameworks, others after them."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    ordered = [f.name for f in FRAMEWORKS if f.name in points]
    return {name: points[name] for name in (*ordered, *sorted(set(points) - set(ordered)))}


def load(name: str) -> Plugin:
    """Return the plugin of a framework.

    Raises:
        StagingError: there is none of that name.
    """
    point = installed().get(name)
    if point is None:
        raise StagingError("detect", f"this stager has no plugin for {name}", f"Known are {describe()}.")
    plugin: Plugin = point.load()()
    return plugin


def choose(source: Path, wanted: str | None, meta: Mapping[str, Any]) -> tuple[str, Plugin, str]:
    """Verify the framework that a user named, or detect it.

    Returns:
        The framework's name, its plugin, and the fact that decided.

    Raises:
        StagingError: the application does not fit the named framework, or none fits.
    """
    if wanted is not None:
        plugin = load(wanted)
        seen = plugin.detect(source, meta)
        if seen.fits:
            return wanted, plugin, seen.why
        other = _first_fit(source, meta, (n for n in installed() if n != wanted))
        hint = f" It looks like {other[0]} ({other[2]})." if other else ""
        table = [f for f in FRAMEWORKS if f.name == wanted]
        remedy = f"It looks for {table[0].looks_for}.{hint}" if table else hint.strip()
        raise StagingError("detect", f"this is not a {wanted} application: {seen.why}", remedy)
    fitting = _first_fit(source, meta, installed())
    if fitting is None:
        names = sorted(p.name for p in source.iterdir())
        shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") if names else "nothing"
        raise StagingError(
            "detect",
            f"no framework fits an application that holds {shown}",
            f"Known are {describe()}.",
        )
    return fitting


def _first_fit(source: Path, meta: Mapping[str, Any], names: Iterable[str]) -> tuple[str, Plugin, str] | None:
    # A command tells how an application is started, not its kind: of those in the table only standalone is recognised
    # by it.
    rest = {key: value for key, value in meta.items() if key != "command"}
    for name in names:
        plugin = load(name)
        by_command = name == STANDALONE or name not in _IN_TABLE
        seen = plugin.detect(source, meta if by_command else rest)
        if seen.fits:
            return name, plugin, seen.why
    return None

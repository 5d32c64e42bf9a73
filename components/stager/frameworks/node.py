"""Node.js: installs the packages of package.json and starts the application as it says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.stager.depcache import Kept
from components.stager.errors import StagingError
from components.stager.plugin import Context, Detection
from components.stager.procfile import given_command, own_command
from components.stager.reading import MEND, json_of
from components.stager.startup import Start

# Protocol 7.3: the last present of these, unless there is only one script.
_MAIN_FILES = ("server.js", "app.js", "index.js", "main.js", "application.js")
MODULES_BIN = "node_modules/.bin"
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")


class Node:
    """An application with package.json or a main file."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        if (source / "package.json").is_file():
            return Detection(True, "package.json")
        if given_command(meta) and any(source.glob("*.js")):
            return Detection(True, "a start command was given")
        main = main_file(source)
        return (
            Detection(True, f"{main} is its main file")
            if main
            else Detection(False, "it has no package.json and no main file")
        )

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        package = install_dependencies(context)
        return Start(command=start_command(context.app, package, context.meta), path=(MODULES_BIN,))


def install_dependencies(context: Context) -> dict[str, Any]:
    """Install the packages of package.json, unless node_modules came with the application; return package.json.

    Raises:
        StagingError: npm failed, or package.json is unusable.
    """
    package = read_package(context.app)
    if (context.app / "node_modules").is_dir():
        context.say("node_modules came with the application: used as it is")
    elif package.get("dependencies") or package.get("optionalDependencies"):
        _install(context)
    else:
        context.say("package.json names no dependencies: nothing to install")
    return package


def read_package(source: Path) -> dict[str, Any]:
    """Return package.json; empty where there is none.

    Raises:
        StagingError: it is not a JSON object.
    """
    try:
        package = json_of(source / "package.json")
    except FileNotFoundError:
        return {}
    if not isinstance(package, dict):
        raise StagingError("compile", "package.json is not a JSON object", MEND)
    return package


def start_command(source: Path, package: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """Return the start command: the user's, Procfile's, the script `start`, package.json's `main`, or protocol 7.3's rule.

    Raises:
        StagingError: none of them gives one.
    """
    scripts = package.get("scripts")
    script = scripts.get("start") if isinstance(scripts, dict) else None
    if command := own_command(source, meta) or script:
        return str(command)
    main = package.get("main")
    if isinstance(main, str) and (source / main).is_file():
        return f"exec node {shlex.quote(main)}"
    if found := main_file(source):
        return f"exec node {found}"
    raise StagingError(
        "compile",
        "no start command is given or found for this application",
        "Add a script `start` to package.json, or a file server.js.",
    )


def main_file(source: Path) -> str | None:
    """Return the main file by protocol 7.3's rule; None where there is no such file."""
    scripts = [p.name for p in source.glob("*.js")]
    if len(scripts) == 1:
        return scripts[0]
    present = [name for name in _MAIN_FILES if name in scripts]
    return present[-1] if present else None


def _install(context: Context) -> None:
    modules = context.app / "node_modules"
    locks = [context.app / name for name in ("package.json", *_LOCKS)]
    locked = any(path.is_file() for path in locks[1:])
    verb = "ci" if locked else "install"
    context.say(f"npm {verb}")
    kept = Kept.of(context, "npm", locks, context.ask([context.tools.npm, "--version"])) if locked else None
    if kept is None or not kept.restore(modules):
        _npm(context, verb, locked=locked)
        if kept is not None:
            kept.keep(modules)
    for manifest in sorted(modules.glob("*/package.json")) if modules.is_dir() else ():
        found = json_of(manifest)
        if isinstance(found, dict):
            context.say(f"installed {found.get('name')} {found.get('version')}")


def _npm(context: Context, verb: str, *, locked: bool) -> None:
    context.run(
        [
            *[context.tools.npm, verb, "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"],
            *["--cache", str(context.cache / "npm"), "--loglevel", "warn", "--no-progress"],
        ],
        "Every dependency must be on this platform's npm registry"
        + (", and the lock file must agree with package.json." if locked else "; or ship node_modules."),
    )

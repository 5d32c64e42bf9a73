"""Standalone: any command, with or without a port."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.stager.frameworks.node import MODULES_BIN, install_dependencies
from components.stager.frameworks.python import finish, install_requirements
from components.stager.frameworks.ruby import bundle_environment, install_gems
from components.stager.plugin import Context, Detection
from components.stager.procfile import given_command, own_command, web_command
from components.stager.startup import Start

_MOST_MANIFEST = 64 * 1024


class Standalone:
    """An application with a start command from the user or from its Procfile."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        if given_command(meta):
            return Detection(True, "a start command was given")
        if web_command(source):
            return Detection(True, "Procfile names its command")
        if jar := main_jar(source):
            return Detection(True, f"{jar} can be run")
        return Detection(
            False,
            "no start command was given, and there is no Procfile with a line `web:` and no *.jar that can be run",
        )

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        command = own_command(context.app, context.meta) or ""
        if not command and (jar := main_jar(context.app)):
            command = f"exec java -jar {shlex.quote(jar)}"
        context.say(f"starts with: {command}")
        path: tuple[str, ...] = ()
        if (context.app / "package.json").is_file() and _may(context, "node"):
            install_dependencies(context)
            path = (MODULES_BIN,)
        if (context.app / "Gemfile").is_file() and _may(context, "ruby") and install_gems(context):
            environment = bundle_environment(
                "vendor/bundle" if (context.app / "vendor/bundle").is_dir() else ""
            )
            return Start(command=command, environment=environment, path=path)
        if (context.app / "requirements.txt").is_file() and _may(context, "python3"):
            install_requirements(context)
            python = finish(context, command)
            return Start(command=command, path=(*path, *python.path), prepend=python.prepend)
        return Start(command=command, path=path)


def main_jar(source: Path) -> str | None:
    """Return the only *.jar at the top whose manifest names a main class."""
    jars = sorted(source.glob("*.jar"))
    if len(jars) != 1:
        return None
    try:
        with zipfile.ZipFile(jars[0]) as jar:
            manifest = jar.read("META-INF/MANIFEST.MF")[:_MOST_MANIFEST]
    except (OSError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None
    return jars[0].name if b"\nMain-Class:" in b"\n" + manifest else None


def _may(context: Context, runtime: str) -> bool:
    return context.runtime is None or context.runtime.name == runtime

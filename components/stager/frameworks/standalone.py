"""Standalone: any command, with or without a port."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.stager.frameworks.node import MODULES_BIN, install_dependencies
from components.stager.frameworks.python import finish, install_requirements
from components.stager.plugin import Context, Detection
from components.stager.procfile import web_command
from components.stager.startup import Start


class Standalone:
    """An application with a start command from the user or from its Procfile."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        if _command(meta):
            return Detection(True, "a start command was given")
        if web_command(source):
            return Detection(True, "Procfile names its command")
        return Detection(False, "no start command was given and there is no Procfile with a line `web:`")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        command = _command(context.meta) or web_command(context.app) or ""
        context.say(f"starts with: {command}")
        path: tuple[str, ...] = ()
        if (context.app / "package.json").is_file() and _may(context, "node"):
            install_dependencies(context)
            path = (MODULES_BIN,)
        if (context.app / "requirements.txt").is_file() and _may(context, "python3"):
            install_requirements(context)
            python = finish(context, command)
            return Start(command=command, path=(*path, *python.path), prepend=python.prepend)
        return Start(command=command, path=path)


def _may(context: Context, runtime: str) -> bool:
    return context.runtime is None or context.runtime.name == runtime


def _command(meta: Mapping[str, Any]) -> str | None:
    given = meta.get("command")
    return given.strip() if isinstance(given, str) and given.strip() else None

"""Static pages: a small server is part of the droplet."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.stager.plugin import Context, Detection
from components.stager.procfile import own_command
from components.stager.startup import OWN, Start

_SERVER = "static_server.py"


class Static:
    """A folder of files with index.html at its top or in public/."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        del meta
        root = root_of(source)
        if root is None:
            return Detection(False, "it has no index.html, neither at the top nor in public/")
        return Detection(True, f"{root}/index.html" if root != "." else "index.html")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        own = context.app / OWN
        own.mkdir(exist_ok=True)
        shutil.copyfile(Path(__file__).with_name(_SERVER), own / _SERVER)
        root = root_of(context.app) or "."
        context.say(f"serves {'the whole folder' if root == '.' else root + '/'}")
        command = own_command(context.app, context.meta)
        return Start(command=command or f"exec python {OWN}/{_SERVER} {root}")


def root_of(source: Path) -> str | None:
    """Return the folder to serve, relative to the application's; `public` wins."""
    return next((r for r in ("public", ".") if (source / r / "index.html").is_file()), None)

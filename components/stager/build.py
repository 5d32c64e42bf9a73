"""One build, as a program of its own: `python -m components.stager.build ORDER.json`, run by the agent in a sandbox.

It unpacks the application, finds its framework, compiles, and packs the droplet. Its output is the task's log; its report
to the agent is `result.json` in its box, rewritten at every stage, so that a killed build also tells its stage.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec

from components.common.filesystem.files import PUBLIC, write_atomically
from components.common.frameworks import FRAMEWORKS, InvalidFrameworkError, Runtime, find_framework, resolve
from components.stager.archive import ArchiveLimits, pack, unpack
from components.stager.errors import StagingError
from components.stager.plugin import BuildTools, Context, Service, choose, installed
from components.stager.startup import OWN, Start, commands, startup, stop

DROPLET, RESULT = "droplet.tgz", "result.json"


class BuildOrder(msgspec.Struct, frozen=True):
    """The order of the agent for a build; it holds no secret.

    Attributes:
        package: the application's zip.
        box: the only folder the build may write to besides `cache`; holds the droplet and the result in the end.
        cache: kept from one staging of an application to its next.
        framework: the user's; may be an alias, or empty to have it detected.
        runtime: the user's; empty for the framework's default.
        services: the bound ones, without credentials.
    """

    package: str
    box: str
    cache: str
    framework: str = ""
    runtime: str = ""
    meta: dict[str, Any] = {}
    tools: BuildTools = BuildTools()
    limits: ArchiveLimits = ArchiveLimits()
    services: tuple[Service, ...] = ()


class BuildResult(msgspec.Struct):
    """The result of a build; `stage` is the one it is in, or failed in."""

    stage: str = "unpack"
    ok: bool = False
    reason: str = ""
    remedy: str = ""
    framework: str = ""
    runtime: str = ""


class Build:
    """The stages of one build, in the folder `order.box`."""

    def __init__(self, order: BuildOrder) -> None:
        self._order = order
        self._box = Path(order.box)
        self._lines: list[str] = []
        self.result = BuildResult()

    def run(self) -> bool:
        """Build; return whether it worked. The reason of a failure is in `result` and on disk."""
        try:
            self._stages()
            self.result.ok = True
        except StagingError as error:
            self.result.stage, self.result.reason, self.result.remedy = (
                error.stage,
                error.reason,
                error.remedy,
            )
        except (RecursionError, MemoryError) as error:
            self.result.reason = (
                f"the application is nested too deep, or too large to be read ({type(error).__name__})"
            )
            self.result.remedy = "Leave out what a build made, and push again."
        except Exception as error:  # noqa: BLE001 - a plugin's fault must reach the developer's log
            traceback.print_exc(file=sys.stdout)
            self.result.reason = f"the stager's own fault ({type(error).__name__}: {error})"
            self.result.remedy = "Tell the operator."
        self._note()
        return self.result.ok

    def _stages(self) -> None:
        order, source, tree = self._order, self._box / "source", self._box / "tree"
        self._enter("unpack")
        source.mkdir()
        files = unpack(Path(order.package), source, order.limits)
        self._say(f"application of {files} files")
        self._enter("detect")
        name, runtime, plugin, why = self._detect(source)
        self._enter("compile")
        tree.mkdir()
        source.rename(tree / "app")
        self._drop_own_folder(tree / "app")
        context = Context(
            app=tree / "app",
            cache=Path(order.cache),
            runtime=runtime,
            meta=order.meta,
            tools=order.tools,
            say=self._say,
            tell=lambda line: self._print(f"       {line}"),
            services=order.services,
        )
        start = plugin.compile(context)
        self._finish_tree(tree, start, runtime)
        self._enter("pack")
        self._write_log(tree)
        size = pack(tree, self._box / DROPLET, order.limits)
        self._print(f"-----> Droplet of {size / 1024:.0f} KB ({name}, {why})")

    def _detect(self, source: Path) -> tuple[str, Runtime | None, Any, str]:
        order = self._order
        try:
            # An operator may have installed plugins that the table does not know; they choose their runtime by name.
            known = None if order.framework in installed() else find_framework(order.framework)
            wanted = known.name if known else order.framework if order.framework in installed() else None
            name, plugin, why = choose(source, wanted, order.meta)
            in_table = any(f.name == name for f in FRAMEWORKS)
            runtime = resolve(name if in_table else None, order.runtime)[1]
        except InvalidFrameworkError as error:
            raise StagingError("detect", str(error)) from error
        self.result.framework = name
        self.result.runtime = runtime.name if runtime else ""
        self._say(f"framework {name}" + (f" on {runtime.name}" if runtime else "") + f": {why}")
        return name, runtime, plugin, why

    def _drop_own_folder(self, app: Path) -> None:
        """Remove what an application has in the place of the stager's own folder."""
        own = app / OWN
        if own.is_symlink() or own.exists():
            self._say(f"left out: {own.name}, which is the platform's")
            own.rename(self._box / f"left-out-{own.name}")

    def _finish_tree(self, tree: Path, start: Start, runtime: Runtime | None) -> None:
        scripts = tree / "app" / OWN / "bin"
        scripts.mkdir(parents=True, exist_ok=True)
        for name, content in commands(runtime).items():
            _write_script(scripts / name, content)
        _write_script(tree / "startup", startup(start, runtime))
        _write_script(tree / "stop", stop())
        (tree / "logs").mkdir()

    def _write_log(self, tree: Path) -> None:
        (tree / "logs" / "staging.log").write_text(
            "".join(f"{line}\n" for line in self._lines), encoding="utf-8"
        )

    def _enter(self, stage: str) -> None:
        self.result.stage = stage
        self._note()
        self._print(f"-----> {stage.capitalize()}")
        self._lines.append(f"-----> {stage.capitalize()}")

    def _say(self, line: str) -> None:
        """Write a line that also goes into the droplet: the same for every build of the same application."""
        self._lines.append(f"       {line}")
        self._print(f"       {line}")

    def _print(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def _note(self) -> None:
        # The agent reads it as another user.
        write_atomically(self._box / RESULT, msgspec.json.encode(self.result), mode=PUBLIC)


def _write_script(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    path.chmod(0o755)


def main() -> None:
    """Run the order named as argument; exit 0 when a droplet is there, 1 otherwise."""
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=BuildOrder)
    os.umask(0o022)
    raise SystemExit(0 if Build(order).run() else 1)


if __name__ == "__main__":
    main()

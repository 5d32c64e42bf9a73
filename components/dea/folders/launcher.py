"""The making of an instance's folder and of its unit's description (protocol 4.4, steps 4 to 8)."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from components.common.filesystem import trees
from components.common.filesystem.plain_files import open_folder, open_plain
from components.common.plain_yaml import MOST_BYTES, PlainYamlError, load
from components.common.units import UnitSpec
from components.dea.config import DeaConfig
from components.dea.errors import StartError
from components.dea.folders.unpack import unpack
from components.dea.instances.instance import Instance

# A longer command could not be passed to a program.
_MOST_STARTUP = 128 * 1024
_RUNTIME_MARK = b"%VCAP_LOCAL_RUNTIME%"
_STDOUT, _STDERR, _ERRORS = "stdout.log", "stderr.log", "err.log"
# Beside `app`, so that its files in /tmp count against its disk and are removed with it.
_TEMPORARY = ".tmp"
_LOGS = (_STDOUT, _STDERR, _ERRORS)


class Launcher:
    """The folders and unit descriptions of instances.

    Args:
        config: the DEA's.
        instances: the folder that holds one for each instance.
    """

    def __init__(self, config: DeaConfig, instances: Path) -> None:
        self._config = config
        self._instances = instances
        instances.mkdir(mode=0o711, parents=True, exist_ok=True)

    def directory(self, instance: Instance) -> Path:
        """Return an instance's folder."""
        return self.path(instance.id)

    def path(self, name: str) -> Path:
        """Return the path of a name of `known`."""
        return self._instances / name

    def temporary(self, instance: Instance) -> str:
        """Return the folder for temporary files, as the instance sees it."""
        inside = self._config.sandbox == "systemd"
        return "/tmp" if inside else str(self.directory(instance) / _TEMPORARY)  # noqa: S108 - its own, see the unit

    def known(self) -> list[str]:
        """Return the names in the folder of instances: their ids."""
        return [path.name for path in self._instances.iterdir()]

    def prepare(self, instance: Instance, droplet: Path, executable: str | None) -> None:
        """Make the folder: unpack, fill in the runtime, hand over to the instance's uid. Blocks.

        Args:
            instance: its `state_file` is set from `droplet.yaml`.
            droplet: the archive.
            executable: the value of `%VCAP_LOCAL_RUNTIME%`.

        Raises:
            StartError: the droplet is not valid, or the disk refuses.
        """
        directory = self.directory(instance)
        try:
            directory.mkdir(mode=0o700)
            unpack(droplet, directory, instance.limits.disk, instance.uid)
            if not (directory / "startup").is_file() or (directory / "startup").is_symlink():
                raise StartError("the droplet has no startup script")
            _fill_in(directory / "startup", executable)
            _make_logs(directory)
            instance.state_file = _state_file(directory)
            (directory / _TEMPORARY).mkdir(mode=0o700)
            for path in (
                directory,
                directory / _TEMPORARY,
                directory / "logs",
                *(directory / "logs" / n for n in _LOGS),
            ):
                _give(path, instance.uid)
            for name in ("startup", "stop"):
                script = directory / name
                if script.is_file() and not script.is_symlink():
                    script.chmod(0o500)
                    _give(script, instance.uid)
        except OSError as error:
            raise StartError(f"its folder cannot be made: {error.strerror or error}") from error

    def spec(self, instance: Instance, environment: Mapping[str, str]) -> UnitSpec:
        """Return the description of an instance's unit."""
        directory = self.directory(instance)
        port = [] if instance.port is None else ["-p", str(instance.port)]
        return self._spec(instance, environment, ["/bin/bash", str(directory / "startup"), *port], again=True)

    def task_spec(self, instance: Instance, environment: Mapping[str, str], command: str) -> UnitSpec:
        """Return the description of a one-off task's unit: the command, with the variables of `startup`. Blocks.

        Raises:
            StartError: the disk refuses.
        """
        script = self.directory(instance) / "task"
        try:
            startup = _read(self.directory(instance) / "startup", _MOST_STARTUP).decode(errors="replace")
            script.unlink(missing_ok=True)
            script.write_text(task_script(startup, command), encoding="utf-8")
            script.chmod(0o500)
            _give(script, instance.uid)
        except OSError as error:
            raise StartError(f"its folder cannot be made: {error.strerror or error}") from error
        timeout = 0 if instance.task is None else instance.task.timeout
        return self._spec(instance, environment, ["/bin/bash", str(script)], timeout)

    def _spec(
        self,
        instance: Instance,
        environment: Mapping[str, str],
        argv: list[str],
        timeout: float = 0,
        *,
        again: bool = False,
    ) -> UnitSpec:
        directory = self.directory(instance)
        return UnitSpec(
            name=instance.unit,
            argv=argv,
            again=again,
            timeout_seconds=timeout,
            directory=directory,
            environment=environment,
            uid=instance.uid,
            memory_mb=instance.limits.mem,
            tasks=self._config.tasks,
            nofile=instance.limits.fds,
            file_mb=self._config.file_mb,
            cpu_weight=max(1, min(10_000, instance.limits.mem)),
            # Of all that Ingot keeps on this machine, it sees its own folder alone.
            empty=[Path("/var/lib/ingot"), *_outside(self._instances, Path("/var/lib/ingot"))],
            hidden=[Path(p) for p in self._config.hidden],
            temporary=directory / _TEMPORARY,
            stdout=directory / "logs" / _STDOUT,
            stderr=directory / "logs" / _STDERR,
        )

    def append_error_log(self, instance: Instance, lines: list[str]) -> None:
        """Append lines to an instance's `logs/err.log`, which the application controls: follow no link. Blocks."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as handles:
            folder = open_folder(self.directory(instance))
            handles.callback(os.close, folder)
            logs = open_folder("logs", folder)
            handles.callback(os.close, logs)
            file = open_plain(_ERRORS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, above=logs)
            handles.callback(os.close, file)
            os.write(file, "".join(f"{line}\n" for line in lines).encode())


def task_script(startup: str, command: str) -> str:
    """Return the script that runs a one-off command in the application's folder; pure.

    Args:
        startup: the droplet's script; its exports and unsets for the application (protocol 7.3) hold for the command too.
        command: a line for the shell.
    """
    settings = [line for line in startup.splitlines() if line.startswith(("export ", "unset "))]
    return "\n".join(
        [
            "#!/bin/bash",
            'cd "$(dirname "${BASH_SOURCE[0]}")/app" 2>/dev/null || cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1',
            *settings,
            f"exec bash -c {shlex.quote(command)}",
            "",
        ]
    )


def _outside(path: Path, folder: Path) -> list[Path]:
    return [] if path.is_relative_to(folder) else [path]


def _fill_in(script: Path, executable: str | None) -> None:
    content = _read(script, _MOST_STARTUP)
    if _RUNTIME_MARK not in content:
        return
    if executable is None:
        raise StartError("the droplet wants a runtime, and none was named")
    script.write_bytes(content.replace(_RUNTIME_MARK, executable.encode()))


def _make_logs(directory: Path) -> None:
    """Make the log files anew: files of the droplet under their names could be read, run and written by it."""
    logs = directory / "logs"
    if logs.is_symlink():
        raise StartError("the droplet's logs are a link")
    logs.mkdir(mode=0o755, exist_ok=True)
    for name in _LOGS:
        for path in (logs / name, logs / f"{name}.1"):
            trees.remove(path)
        os.close(os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def _state_file(directory: Path) -> str | None:
    path = directory / "droplet.yaml"
    if not path.is_file() or path.is_symlink():
        return None
    try:
        content = load(_read(path, MOST_BYTES))
    except PlainYamlError as error:
        raise StartError(f"droplet.yaml: {error}") from error
    name = content.get("state_file") if isinstance(content, dict) else None
    return name if isinstance(name, str) and name and "/" not in name else None


def _read(path: Path, most: int) -> bytes:
    """Read a file of the droplet up to its largest allowed size."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise StartError(f"the droplet's {path.name} is longer than {most // 1024} KB")
    return content


def _give(path: Path, uid: int | None) -> None:
    if uid is not None:
        os.chown(path, uid, uid, follow_symlinks=False)

"""`Platform`: starts all components on loopback, waits for each, and ends them with everything they started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from components.common.plain_http import NO_TLS
from components.common.units import ProcessRunner
from orchestrator.dev import configuration, state
from orchestrator.dev.configuration import LOOPBACK, Plan
from orchestrator.dev.errors import DevError
from orchestrator.dev.processes import Managed
from orchestrator.dev.settings import Settings, choose_ports, load_secrets, port_is_free
from orchestrator.dev.state import State
from orchestrator.lab.host.processes import identify, lives

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.1
# The room for `/router.sock.PID` and the like below the 107 characters of a Unix socket's path.
_RUN_PATH_LENGTH = 80
_PROGRAMS = {"nats-server": "nats-server", "nginx": "nginx libnginx-mod-http-lua lua-cjson"}
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A process as `status` shows it; `reasons` are those why it is not ready."""

    name: str
    pid: int
    alive: bool
    ready: bool
    address: str
    reasons: str = ""


class Platform:
    """The platform of one folder.

        with Platform(Settings(folder, port=0)) as platform:
            platform.get("hello", "/")

    Args:
        settings: of the platform.
        report: called with every step.
    """

    def __init__(self, settings: Settings, report: Report = lambda _line: None) -> None:
        self.settings = settings
        self._report = report
        self._processes: dict[str, Managed] = {}
        self._commands: dict[str, list[str]] = {}
        self._plan: Plan | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @classmethod
    def attach(cls, folder: Path, report: Report = lambda _line: None) -> Platform | None:
        """Return the platform that an earlier process started in a folder; None where there is none."""
        known = state.load(folder)
        if known is None:
            return None
        deas = sum(name.startswith("dea-") for name in known.processes)
        platform = cls(Settings(folder, known.ports["front"], deas, domain=known.domain), report)
        platform._plan = Plan(platform.settings, load_secrets(folder), known.ports, Path(known.run))
        for name, process in known.processes.items():
            platform._processes[name] = Managed(name, process, platform.log_path(name))
        return platform

    @property
    def plan(self) -> Plan:
        """Return the plan made at the start.

        Raises:
            DevError: it was not started.
        """
        if self._plan is None:
            raise DevError("the platform is not up")
        return self._plan

    @property
    def port(self) -> int:
        """Return the front door's port."""
        return self.plan.ports["front"]

    @property
    def api_url(self) -> str:
        """Return the controller's address, through the front door."""
        return f"http://api.{self.settings.domain}:{self.port}"

    @property
    def admin_password(self) -> str:
        """Return the administrator's password."""
        return self.plan.secrets["admin"]

    def up(self, *, watched: bool = True) -> None:
        """Start everything and wait until it serves.

        Args:
            watched: this process stays and watches over it; otherwise it runs by itself.

        Raises:
            DevError: it is up already, a program or a port is missing, or a process does not get ready; then no part
                of it runs any more.
        """
        self._plan = self._prepare()
        known = State(
            run=str(self._plan.run),
            ports=dict(self._plan.ports),
            domain=self.settings.domain,
            owner=identify(os.getpid()) if watched else None,
        )
        try:
            self._commands = self._make_commands(configuration.write(self._plan))
            for name, command in self._commands.items():
                self._spawn(name, command)
                known.processes[name] = self._processes[name].process
                known.save(self.settings.state)
                if name == "nats":
                    self.wait_ready(name)
            for name in self._commands:
                self.wait_ready(name)
            self._wait("the front door", self._serves)
            self._wait("every DEA to be known to the controller", self._all_known)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End everything, applications included; the data in the folder stay."""
        order = ["health-manager", "stager", *self.settings.dea_names]
        order += [name for name in ("controller", "router", "nginx", "nats") if name not in order]
        for name in order:
            managed = self._processes.pop(name, None)
            if managed is not None:
                self._report(f"stopping {name}")
                managed.stop(STOP_SECONDS)
            units = self.settings.state / name / "units"
            if units.is_dir():
                asyncio.run(_end_units(units))
        state.forget(self.settings.state)
        if self._plan is not None and not self._plan.run.is_relative_to(self.settings.state):
            shutil.rmtree(self._plan.run, ignore_errors=True)

    def pid(self, name: str) -> int:
        """Return a process's number."""
        return self._processes[name].pid

    def log_path(self, name: str) -> Path:
        """Return the path of a process's output."""
        return self.settings.state / "logs" / f"{name}.log"

    def kill(self, name: str) -> None:
        """End a process and its children with SIGKILL, as a power cut would; instances of a DEA stay."""
        self._processes[name].kill()

    def stop(self, name: str) -> None:
        """End a process as an operator would."""
        self._processes[name].stop(STOP_SECONDS)

    def start(self, name: str, *, wait: bool = True) -> None:
        """Start a process that was ended; return when it is ready, or at once without `wait`.

        Raises:
            DevError: it does not get ready.
        """
        self._spawn(name, self._commands[name])
        known = state.load(self.settings.state)
        if known is not None:
            known.processes[name] = self._processes[name].process
            known.save(self.settings.state)
        if wait:
            self.wait_ready(name)

    def restart(self, name: str) -> None:
        """End a process as an operator would, and start it again."""
        self.stop(name)
        self.start(name)

    def dead(self) -> list[Managed]:
        """Return the processes that have ended."""
        return [managed for managed in self._processes.values() if not managed.alive]

    def rows(self) -> list[Row]:
        """Return every process with its state."""
        found = []
        for name, managed in self._processes.items():
            alive = managed.alive
            reasons = self._reasons(name) if alive else managed.ending()
            found.append(Row(name, managed.pid, alive, alive and not reasons, self._address(name), reasons))
        return found

    def get(self, host: str, path: str = "/", **options: Any) -> httpx.Response:
        """Send a request through the front door; a host without a dot is an application of the platform's domain.

        Raises:
            httpx.TransportError: nginx did not answer.
        """
        name = host if "." in host else f"{host}.{self.settings.domain}"
        headers = {**options.pop("headers", {}), "Host": f"{name}:{self.port}"}
        # Straight to loopback, past resolvers and proxies of the environment.
        with httpx.Client(trust_env=False, verify=NO_TLS, timeout=options.pop("timeout", 10)) as client:
            return client.get(f"http://{LOOPBACK}:{self.port}{path}", headers=headers, **options)

    def wait_ready(self, name: str, seconds: float = START_SECONDS) -> None:
        """Wait until a process reports that it is ready.

        Raises:
            DevError: it ended, or does not get ready in time; with the end of its log.
        """
        self._report(f"waiting for {name}")
        reasons = ""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            managed = self._processes[name]
            if not managed.alive:
                raise DevError(f"{name} {managed.ending()}; its log {managed.log} ends:\n{managed.tail()}")
            reasons = self._reasons(name)
            if not reasons:
                return
            time.sleep(_LOOK_SECONDS)
        log = self._processes[name]
        raise DevError(
            f"{name} is not ready after {seconds:.0f} s: {reasons}; its log {log.log} ends:\n{log.tail()}"
        )

    def _prepare(self) -> Plan:
        folder = self.settings.state
        known = state.load(folder)
        if known is not None:
            if lives(known.owner) or (
                known.owner is None and any(lives(process) for process in known.processes.values())
            ):
                raise DevError(
                    f"a platform runs in {folder} already: `ingot-lab dev status`, `ingot-lab dev down`"
                )
            # Its owner was killed: the processes it started are ended before new ones are started.
            left = Platform.attach(folder, self._report)
            if left is not None:
                left.down()
        for program, packages in _PROGRAMS.items():
            if shutil.which(program, path=_path()) is None:
                raise DevError(f"{program} is missing: apt-get install {packages}")
        if self.settings.port and not port_is_free(self.settings.port):
            raise DevError(f"port {self.settings.port} of {LOOPBACK} is taken: choose another with --port")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("logs", "share", "controller", "stager", *(f"{d}/run" for d in self.settings.dea_names)):
            (folder / name).mkdir(parents=True, exist_ok=True)
        run = folder / "router"
        if len(str(run)) > _RUN_PATH_LENGTH:
            run = Path(tempfile.mkdtemp(prefix="ingot-dev-"))
        run.mkdir(exist_ok=True)
        return Plan(self.settings, load_secrets(folder), choose_ports(self.settings), run)

    def _make_commands(self, files: Mapping[str, Path]) -> dict[str, list[str]]:
        def daemon(name: str) -> list[str]:
            program = f"ingot-{self.plan.component(name).replace('_', '-')}"
            return [str(Path(sys.executable).parent / program), "--config", str(files[name])]

        run = self.plan.run
        front = [sys.executable, "-m", "components.router.nginx_conf", str(run), str(self.port)]
        # nginx's configuration is the router role's; a shell's `exec` keeps it one process.
        script = 'f=$("$@") && exec nginx -p "$0" -c "$f" -e "$0/error.log" -g "daemon off;"'
        return {
            "nats": ["nats-server", "-c", str(files["nats"])],
            "controller": daemon("controller"),
            "nginx": ["/bin/sh", "-c", script, str(run), *front, self.settings.domain],
            "router": daemon("router"),
            "stager": daemon("stager"),
            **{name: daemon(name) for name in self.settings.dea_names},
            "health-manager": daemon("health-manager"),
        }

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        environment = {**os.environ, "PATH": _path(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._processes[name] = Managed.start(name, command, self.log_path(name), environment)

    def _address(self, name: str) -> str:
        if name == "nginx":
            return f"{LOOPBACK}:{self.port}"
        host = LOOPBACK
        if name in self.settings.dea_names:
            host = configuration.dea_address(self.settings.dea_names.index(name))
        return f"{host}:{self.plan.ports[name]}"

    def _reasons(self, name: str) -> str:
        """Return why a process is not ready; empty when it is."""
        if name in {"nats", "nginx"}:
            port = int(self._address(name).rpartition(":")[2])
            return "does not listen yet" if port_is_free(port) else ""
        try:
            answer = httpx.get(
                f"http://{self._address(name)}/readyz", timeout=3, trust_env=False, verify=NO_TLS
            )
        except httpx.TransportError:
            return "does not answer yet"
        if answer.status_code == 200:
            return ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return "; ".join(answer.json()["reasons"])
        return f"status {answer.status_code}"

    def _serves(self) -> str:
        try:
            status = self.get("api", "/info").status_code
        except httpx.TransportError as error:
            return str(error)
        return "" if status == 200 else f"GET /info: status {status}"

    def _all_known(self) -> str:
        email, password = self.settings.admin_email, self.admin_password
        try:
            with httpx.Client(
                base_url=f"http://{self._address('controller')}", trust_env=False, verify=NO_TLS, timeout=10
            ) as client:
                token = client.post(f"/users/{email}/tokens", json={"password": password}).json()["token"]
                listed = client.get("/v2/machines", headers={"AUTHORIZATION": token}).json()["machines"]
        except (httpx.TransportError, ValueError, KeyError) as error:
            return f"{type(error).__name__}: {error}"
        up = sum(m.get("state") == "up" and str(m.get("kind")).lower() == "dea" for m in listed)
        return "" if up >= self.settings.deas else f"{up} of {self.settings.deas} are known"

    def _wait(self, what: str, missing: Callable[[], str]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while reason := missing():
            if time.monotonic() >= deadline:
                raise DevError(f"waited {START_SECONDS:.0f} s for {what}: {reason}")
            time.sleep(_LOOK_SECONDS)


async def _end_units(folder: Path) -> None:
    """End the applications or builds of an agent, which outlive it on purpose."""
    runner = ProcessRunner(folder)
    for name in await runner.names("ingot-"):
        await runner.stop(name, 1.0)
    await runner.close()


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def wait_for_signal(platform: Platform, report: Report) -> None:
    """Watch over a platform until SIGINT or SIGTERM: nothing is restarted silently, and a death is reported once."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: asked.append(received))
    told: set[int] = set()
    while not asked:
        for managed in platform.dead():
            if managed.pid not in told:
                told.add(managed.pid)
                report(f"{managed.name} (pid {managed.pid}) {managed.ending()}; its log {managed.log} ends:")
                report(managed.tail())
        time.sleep(_LOOK_SECONDS)

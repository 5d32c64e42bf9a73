"""The lab's client: typed calls over the Unix socket. It starts a daemon where none serves."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import msgspec

from components.common.plain_http import NO_TLS
from orchestrator.lab import wire
from orchestrator.lab.daemon import EXIT_LOCKED, code_digest
from orchestrator.lab.errors import KINDS, DaemonError, LabError
from orchestrator.lab.host import processes
from orchestrator.lab.journal import Bind, Process
from orchestrator.lab.paths import Paths

T = TypeVar("T")
_PROJECT = Path(__file__).resolve().parents[2]
_START_DEADLINE = 180.0
# Longer than the longest wait of a request.
_REQUEST_DEADLINE = 600.0
# A file that gets a line of JSON for each lab that a client removes, so that a program which starts programs with
# labs of their own knows the processor time of those labs.
SPENT = "INGOT_LAB_SPENT"
_POLL = 0.3
_PAUSE = 0.1
# Attempts, each after the pause: together longer than an ending daemon still answers.
_TRIES = 50


class LabClient:
    """A client of the daemon of `paths`; every call raises `LabError` with the daemon's text when it refuses."""

    def __init__(self, paths: Paths | None = None, *, start: bool = True) -> None:
        """Make a client; nothing is connected yet.

        Args:
            paths: of the daemon; by default those of the environment.
            start: start a daemon where none serves. Without it, calls raise `DaemonError` then.
        """
        self.paths = paths or Paths.from_environment()
        self._start = start
        self._http = httpx.Client(
            # A connection kept between requests would keep a daemon from ending, or lead to a killed one.
            transport=httpx.HTTPTransport(
                uds=str(self.paths.socket), limits=httpx.Limits(max_keepalive_connections=0), verify=NO_TLS
            ),
            base_url="http://lab",
            timeout=_REQUEST_DEADLINE,
        )

    def close(self) -> None:
        """Close the connection; the daemon stays."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> wire.Status:
        """Return the daemon's status."""
        return self._get("/status", wire.Status)

    def images(self) -> list[dict[str, Any]]:
        """Return the images: name and state (ready, absent, building, outdated), and further facts of ready ones."""
        return self._get("/images", list[dict[str, Any]])

    def build_image(self, name: str, report: Callable[[str], None] = lambda _: None) -> float:
        """Build an image unless it exists; return the seconds it took.

        Raises:
            LabError: it could not be built, with the end of the builder's output.
        """
        started = time.monotonic()
        state = self._call("POST", f"/images/{name}", dict[str, Any], again=True)
        while not state["done"]:
            report(f"{state['step']} ({state['seconds']:.0f} s)")
            time.sleep(_POLL)
            state = self._get(f"/images/{name}", dict[str, Any])
        if state["error"]:
            raise LabError(f"image {name}: {state['error']}")
        return time.monotonic() - started

    def remove_image(self, name: str, *, outdated: bool = False) -> list[str]:
        """Remove an image, or only its outdated builds; return the folders removed."""
        return self._call("DELETE", f"/images/{name}?outdated={int(outdated)}", list[str])

    def labs(self) -> list[wire.LabView]:
        """Return all labs."""
        return self._get("/labs", list[wire.LabView])

    def lab(self, name: str) -> wire.LabView:
        """Return one lab."""
        return self._get(f"/labs/{name}", wire.LabView)

    def create_lab(
        self,
        name: str,
        owner: Path,
        *,
        subnet: str | None = None,
        port: int | None = None,
        holder: Process | None = None,
    ) -> wire.LabView:
        """Make a lab; one of the same name and owner is returned as it stands."""
        request = wire.LabRequest(name=name, owner=str(owner), subnet=subnet, port=port, holder=holder)
        return self._call("POST", "/labs", wire.LabView, request, again=True)

    def delete_lab(self, name: str) -> wire.Spent:
        """Remove a lab with its machines; return their usage, and append it to the file `INGOT_LAB_SPENT`."""
        spent = self._call("DELETE", f"/labs/{name}", wire.Spent)
        if file := os.environ.get(SPENT):
            with Path(file).open("ab") as notes:
                notes.write(msgspec.json.encode({"lab": name, **msgspec.to_builtins(spent)}) + b"\n")
        return spent

    def set_routers(self, name: str, machines: list[str]) -> wire.LabView:
        """Set the machines to which the lab's port is relayed."""
        return self._call(
            "PUT", f"/labs/{name}/routers", wire.LabView, wire.RoutersRequest(machines), again=True
        )

    def access(self, name: str) -> wire.Access:
        """Return the key and the known hosts of a lab."""
        return self._get(f"/labs/{name}/access", wire.Access)

    def create_machine(
        self,
        lab: str,
        name: str,
        image: str,
        *,
        groups: list[str] | None = None,
        binds: list[Bind] | None = None,
        address: str | None = None,
        maker: str = "",
        memory: int | None = None,
    ) -> wire.MachineView:
        """Make a machine; it does not run yet."""
        request = wire.MachineRequest(
            name=name,
            image=image,
            groups=groups or [],
            binds=binds or [],
            address=address,
            maker=maker,
            memory=memory,
        )
        return self._call("POST", f"/labs/{lab}/machines", wire.MachineView, request)

    def machine(self, lab: str, name: str) -> wire.MachineView:
        """Return one machine."""
        return self._get(f"/labs/{lab}/machines/{name}", wire.MachineView)

    def delete_machine(self, lab: str, name: str) -> None:
        """Remove a machine."""
        self._call("DELETE", f"/labs/{lab}/machines/{name}", dict[str, Any])

    def start(self, lab: str, name: str) -> wire.MachineView:
        """Boot a machine; return before its SSH answers."""
        return self._act(lab, name, "start")

    def stop(self, lab: str, name: str, deadline: float = 60.0) -> wire.MachineView:
        """Shut a machine down; its power is cut at the deadline."""
        return self._act(lab, name, "stop", deadline)

    def kill(self, lab: str, name: str) -> wire.MachineView:
        """Cut a machine's power."""
        return self._act(lab, name, "kill")

    def cut(self, lab: str, name: str) -> wire.MachineView:
        """Pull a machine's cable."""
        return self._act(lab, name, "cut")

    def mend(self, lab: str, name: str) -> wire.MachineView:
        """Plug a machine's cable in again."""
        return self._act(lab, name, "mend")

    def wait(self, lab: str, name: str, deadline: float = 60.0) -> wire.MachineView:
        """Wait until a machine's SSH answers.

        Raises:
            NotReadyError: it did not answer, with the tail of its console.
        """
        return self._act(lab, name, "wait", deadline)

    def sweep(self) -> list[str]:
        """Clear the remains of killed runs; return a line for each."""
        return self._call("POST", "/sweep", list[str], again=True)

    def shutdown(self, *, if_idle: bool = False) -> bool:
        """End the daemon, where one serves; its machines stay. Return whether it ends (or none served).

        With `if_idle` it ends only where no lab is left and no work is under way.
        """
        if not self._listening():
            return True
        daemon = processes.identify(self.status().pid)
        answer = self._call("POST", "/shutdown", dict[str, Any], wire.ShutdownRequest(if_idle=if_idle))
        if not answer["ends"]:
            return False
        if not processes.wait_until(lambda: not processes.lives(daemon), _START_DEADLINE):
            raise DaemonError(f"the lab daemon does not end: {daemon}")
        return True

    def refresh(self) -> bool:
        """Replace a daemon that runs another program than this one; machines stay. Return whether that was so."""
        if self.status().code == code_digest():
            return False
        return self.shutdown()

    def _act(self, lab: str, name: str, action: str, deadline: float = 60.0) -> wire.MachineView:
        path = f"/labs/{lab}/machines/{name}/{action}"
        return self._call("POST", path, wire.MachineView, wire.ActionRequest(deadline), again=True)

    def _get(self, path: str, shape: type[T]) -> T:
        return self._call("GET", path, shape, again=True)

    def _call(self, method: str, path: str, shape: type[T], body: Any = None, *, again: bool = False) -> T:
        """Send a request; with `again`, repeat it where a daemon ends or is killed meanwhile."""
        content = msgspec.json.encode(body) if body is not None else None
        for tries_left in reversed(range(_TRIES if again else 1)):
            if not self._listening():
                if not self._start:
                    raise DaemonError(f"no lab daemon at {self.paths.socket}")
                self._start_daemon()
            try:
                answer = self._http.request(method, path, content=content)
                if answer.status_code < 400:
                    return msgspec.json.decode(answer.content, type=shape)
                problem = _error(answer)
            except httpx.TransportError as error:
                problem = DaemonError(f"the lab daemon went away in {method} {path}: {error}")
            if not isinstance(problem, DaemonError) or not tries_left:
                raise problem
            time.sleep(_PAUSE)
        raise AssertionError("every way out of the loop is inside it")

    def _listening(self) -> bool:
        """Return whether a daemon listens on the socket: tested here because the HTTP library leaks a refused socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.paths.socket))
            except OSError:
                return False
        return True

    def _start_daemon(self) -> None:
        if os.geteuid() != 0:
            raise DaemonError("machines are made by root: run this as root")
        self.paths.log.parent.mkdir(parents=True, exist_ok=True)
        pid = self._spawn()
        ends = time.monotonic() + _START_DEADLINE
        while not self._listening():
            if time.monotonic() > ends:
                raise DaemonError(f"the lab daemon does not answer; see {self.paths.log}")
            time.sleep(_PAUSE)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            if os.waitstatus_to_exitcode(status) != EXIT_LOCKED:
                raise DaemonError(f"the lab daemon did not start; see {self.paths.log}")
            # The former daemon still ends, or another client's is about to serve.
            pid = self._spawn()

    def _spawn(self) -> int:
        argv = [sys.executable, "-m", "orchestrator.lab.cli.main", "serve"]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawn(
            sys.executable,
            argv,
            {**os.environ, "PYTHONPATH": str(_PROJECT)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.paths.log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )


def _error(answer: httpx.Response) -> LabError:
    try:
        facts = answer.json()
        return KINDS.get(facts["error"], LabError)(facts["message"])
    except (ValueError, KeyError):
        return LabError(f"{answer.request.url.path}: status {answer.status_code}")

"""The lab's client: typed calls over the Unix socket. It starts the daemon where none serves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import msgspec

from orchestrator.lab import wire
from orchestrator.lab.daemon import EXIT_LOCKED, code_digest
from orchestrator.lab.errors import KINDS, DaemonError, LabError
from orchestrator.lab.journal import Bind, Process
from orchestrator.lab.paths import Paths

T = TypeVar("T")
_PROJECT = Path(__file__).resolve().parents[2]
_START_DEADLINE = 90.0
_REQUEST_DEADLINE = 300.0
_POLL = 0.3
_PAUSE = 0.1
_NO_SERVER = (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError)


class LabClient:
    """Speaks with the daemon of `paths`; every call raises `LabError` with the daemon's own words when it refuses."""

    def __init__(self, paths: Paths | None = None, *, start: bool = True) -> None:
        """Make a client; nothing is connected yet.

        Args:
            paths: whose daemon; by default what the environment says.
            start: start a daemon where none serves. Without it, calls raise `DaemonError` then.
        """
        self.paths = paths or Paths.from_environment()
        self._start = start
        self._http = self._connection()

    def close(self) -> None:
        """Close the connection; the daemon stays."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> wire.Status:
        """Return what the daemon is."""
        return self._get("/status", wire.Status)

    def images(self) -> list[dict[str, Any]]:
        """Return the images: name and state (ready, absent, building, outdated), and what is known of the ready ones."""
        return self._get("/images", list[dict[str, Any]])

    def build_image(self, name: str, report: Callable[[str], None] = lambda _: None) -> float:
        """Build an image unless it is there; returns the seconds it took.

        Raises:
            LabError: it could not be built, with the builder's last words.
        """
        started = time.monotonic()
        state = self._call("POST", f"/images/{name}", dict[str, Any])
        while not state["done"]:
            report(f"{state['step']} ({state['seconds']:.0f} s)")
            time.sleep(_POLL)
            state = self._get(f"/images/{name}", dict[str, Any])
        if state["error"]:
            raise LabError(f"image {name}: {state['error']}")
        return time.monotonic() - started

    def remove_image(self, name: str, *, outdated: bool = False) -> list[str]:
        """Remove an image, or only its outdated builds; returns the folders removed."""
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
        return self._call("POST", "/labs", wire.LabView, request)

    def delete_lab(self, name: str) -> None:
        """Remove a lab and all of its machines."""
        self._call("DELETE", f"/labs/{name}", dict[str, Any])

    def set_routers(self, name: str, machines: list[str]) -> wire.LabView:
        """Name the machines the lab's port is relayed to."""
        return self._call("PUT", f"/labs/{name}/routers", wire.LabView, wire.RoutersRequest(machines))

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
    ) -> wire.MachineView:
        """Make a machine; it does not run yet."""
        request = wire.MachineRequest(
            name=name, image=image, groups=groups or [], binds=binds or [], address=address
        )
        return self._call("POST", f"/labs/{lab}/machines", wire.MachineView, request)

    def machine(self, lab: str, name: str) -> wire.MachineView:
        """Return one machine."""
        return self._get(f"/labs/{lab}/machines/{name}", wire.MachineView)

    def delete_machine(self, lab: str, name: str) -> None:
        """Remove a machine."""
        self._call("DELETE", f"/labs/{lab}/machines/{name}", dict[str, Any])

    def start(self, lab: str, name: str) -> wire.MachineView:
        """Boot a machine; returns before its SSH answers."""
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
        """Plug it in again."""
        return self._act(lab, name, "mend")

    def wait(self, lab: str, name: str, deadline: float = 60.0) -> wire.MachineView:
        """Wait until a machine's SSH answers.

        Raises:
            NotReadyError: it did not, with the tail of its console.
        """
        return self._act(lab, name, "wait", deadline)

    def sweep(self) -> list[str]:
        """Clear what killed runs left; returns a line for each thing."""
        return self._call("POST", "/sweep", list[str])

    def shutdown(self, *, if_idle: bool = False) -> bool:
        """End the daemon, where one serves; its machines stay. Returns whether it ends (or none served).

        With `if_idle` it ends only where no lab is left and nothing is going on.
        """
        try:
            pid = msgspec.json.decode(self._http.get("/status").content, type=wire.Status).pid
            body = msgspec.json.encode(wire.ShutdownRequest(if_idle=if_idle))
            answer = self._http.post("/shutdown", content=body).json()
        except _NO_SERVER:
            return True
        if not answer["ends"]:
            return False
        # A connection that is kept would keep the daemon from ending.
        self._http.close()
        self._http = self._connection()
        _wait(lambda: not _runs(pid), f"the lab daemon {pid} does not end")
        return True

    def refresh(self) -> bool:
        """Replace a daemon that runs another program than ours; machines stay. Returns whether that was so."""
        if self.status().code == code_digest():
            return False
        self.shutdown()
        self.status()
        return True

    def _connection(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.paths.socket)),
            base_url="http://lab",
            timeout=_REQUEST_DEADLINE,
        )

    def _act(self, lab: str, name: str, action: str, deadline: float = 60.0) -> wire.MachineView:
        path = f"/labs/{lab}/machines/{name}/{action}"
        return self._call("POST", path, wire.MachineView, wire.ActionRequest(deadline))

    def _get(self, path: str, shape: type[T]) -> T:
        return self._call("GET", path, shape)

    def _call(self, method: str, path: str, shape: type[T], body: Any = None) -> T:
        content = msgspec.json.encode(body) if body is not None else None
        try:
            answer = self._http.request(method, path, content=content)
        except _NO_SERVER as error:
            if not self._start:
                raise DaemonError(f"no lab daemon at {self.paths.socket}") from error
            if not isinstance(error, httpx.ConnectError) and method != "GET":
                raise DaemonError(f"the lab daemon went away in {method} {path}: {error}") from error
            self._start_daemon()
            answer = self._http.request(method, path, content=content)
        if answer.status_code >= 400:
            raise _error(answer)
        return msgspec.json.decode(answer.content, type=shape)

    def _start_daemon(self) -> None:
        if os.geteuid() != 0:
            raise DaemonError("machines are made by root: run this as root")
        self.paths.log.parent.mkdir(parents=True, exist_ok=True)
        process = self._spawn()
        ends = time.monotonic() + _START_DEADLINE
        while not self._serves():
            if process.poll() not in (None, EXIT_LOCKED):
                raise DaemonError(
                    f"the lab daemon did not start (status {process.returncode}); see {self.paths.log}"
                )
            if time.monotonic() > ends:
                raise DaemonError(f"the lab daemon does not answer; see {self.paths.log}")
            time.sleep(_PAUSE)
            if process.poll() == EXIT_LOCKED:
                # The one before still ends, or another client's is about to serve.
                process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.paths.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "orchestrator.lab.main", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(_PROJECT)},
            )

    def _serves(self) -> bool:
        try:
            self._http.get("/status")
        except _NO_SERVER:
            return False
        return True


def _error(answer: httpx.Response) -> LabError:
    try:
        facts = answer.json()
        return KINDS.get(facts["error"], LabError)(facts["message"])
    except (ValueError, KeyError):
        return LabError(f"{answer.request.url.path}: status {answer.status_code}")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait(condition: Callable[[], bool], complaint: str) -> None:
    ends = time.monotonic() + _START_DEADLINE
    while not condition():
        if time.monotonic() > ends:
            raise DaemonError(complaint)
        time.sleep(_PAUSE)

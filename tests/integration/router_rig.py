"""A real nginx, a real nats-server, a real router process and small backends, on ports chosen by the kernel."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import yaml

from components.common.bus.platform_hosts import platform_hosts
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from components.router import nginx_conf
from tests.integration import forked
from tests.support.ports import free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


def _joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Headers by their lower-case names; the values of one that comes several times are joined by line ends."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        found[key] = f"{found[key]}\n{value}" if key in found else value
    return found


class Backend:
    """Answers every request with its own name and the request's content; some paths cause a special behaviour."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name = name
        self.requests = 0
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Else head and body, written apart, wait for each other's acknowledgement.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                backend.requests += 1
                length = int(self.headers.get("Content-Length") or 0)
                if self.headers.get("Transfer-Encoding") == "chunked":
                    received = self._chunked()
                else:
                    received = len(self.rfile.read(length))
                if self.path.startswith("/break"):
                    time.sleep(float(self.path.partition("=")[2] or 0))
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if self.path.startswith("/slow"):
                    time.sleep(float(self.path.rpartition("=")[2]))
                body = json.dumps(
                    {
                        "name": backend.name,
                        "path": self.path,
                        "received": received,
                        "headers": {k.lower(): v for k, v in self.headers.items()},
                    }
                ).encode()
                status = int(self.path.rpartition("=")[2]) if self.path.startswith("/status") else 200
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if self.path.startswith("/session"):
                    self.send_header("Set-Cookie", "other=1; Path=/")
                    name = self.path.partition("=")[2] or "JSESSIONID"
                    self.send_header("Set-Cookie", f"{name}=abc; Path=/; HttpOnly")
                if self.path.startswith("/accel"):
                    self.send_header("X-Accel-Redirect", "@failed")
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PUT = do_GET  # noqa: N815 - the names http.server looks for

            def _chunked(self) -> int:
                total = 0
                while size := int(self.rfile.readline(), 16):
                    total += len(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return total

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Rig:
    """All parts; each can be killed and started again."""

    def __init__(
        self, *, nginx: dict[str, Any] | None = None, router: dict[str, Any] | None = None, users: str = ""
    ) -> None:
        # Short: a Unix socket's path holds 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ingot-router-"))
        self.port, self.bus_port, self.status_port = free_port(), free_port(), free_port()
        self._inputs = nginx or {}
        self._settings = router or {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.backends: list[Backend] = []
        # The users of the bus; without them, it asks for no password.
        self.users = users
        self._buses: dict[str, BusThread] = {}

    @property
    def bus(self) -> BusThread:
        """Return the test's own connection to the bus, as a DEA."""
        return self.bus_of("dea")

    def bus_of(self, user: str) -> BusThread:
        """Return another user's connection to the bus."""
        if user not in self._buses:
            url = f"nats://127.0.0.1:{self.bus_port}"
            bus = self._buses[user] = BusThread(BusConfig([url], user, user), f"test-{user}")
            bus.start()
            until(lambda: bus.bus.connected, f"the test is on the bus as {user}")
        return self._buses[user]

    def leave(self, user: str) -> None:
        """Close another user's connection to the bus; the server has all its messages then."""
        self._buses.pop(user).close()

    def start(self) -> None:
        self.start_nats()
        self.start_nginx()
        self.start_router()
        self.bus_of("dea")
        self.wait_ready()

    def stop(self) -> None:
        for bus in self._buses.values():
            bus.close()
        for name in list(self._processes):
            self.kill(name, signal.SIGTERM)
        for backend in self.backends:
            backend.stop()
        shutil.rmtree(self.folder)

    def start_nats(self) -> None:
        path = self.folder / "nats.conf"
        path.write_text(f'listen: "127.0.0.1:{self.bus_port}"\n{self.users}\n')
        self._spawn("nats", ["nats-server", "-c", str(path)])

    def start_nginx(self) -> None:
        path = nginx_conf.write(
            self.folder, self.port, "ingot.localhost", router_trace_key="22", **self._inputs
        )
        arguments = ["-p", str(self.folder), "-c", str(path), "-e", str(self.folder / "error.log")]
        self._spawn("nginx", ["nginx", *arguments, "-g", "daemon off;"])
        until((self.folder / "data.sock").exists, "nginx listens")

    def start_router(self) -> None:
        path = self.folder / "router.yml"
        settings = {
            "bus": {
                "urls": [f"nats://127.0.0.1:{self.bus_port}"],
                "user": "router",
                "password": "router",
            },
            "status": {"host": "127.0.0.1", "port": self.status_port, "password": "p"},
            "platform_hosts": sorted(
                platform_hosts("ingot.localhost", self._inputs.get("router_reserved_hosts", []))
            ),
            "run_path": str(self.folder),
            "settle_seconds": 0.3,
            "hold_seconds": 3,
            **self._settings,
        }
        path.write_text(yaml.safe_dump(settings))
        with (self.folder / "router.out").open("ab") as output:
            self._processes["router"] = forked.start(
                "components.router.main",
                "--config",
                str(path),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        until(lambda: self.readiness()[0] == 200, "the router is ready")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self._processes.pop(name)
        if number == signal.SIGKILL:
            # As with a loss of power or with systemd: nginx's workers outlive a killed master otherwise.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(20)

    def reload_nginx(self) -> None:
        self._processes["nginx"].send_signal(signal.SIGHUP)

    def backend(self, name: str) -> Backend:
        self.backends.append(Backend(name))
        return self.backends[-1]

    def register(
        self, port: int, *uris: str, subject: str = "router.register", user: str = "dea", **members: Any
    ) -> None:
        assert self.bus_of(user).publish(
            subject, {"host": "127.0.0.1", "port": port, "uris": list(uris), "tags": {}, **members}
        )

    def unregister(self, port: int, *uris: str, **members: Any) -> None:
        self.register(port, *uris, subject="router.unregister", **members)

    def get(
        self, host: str, path: str = "/", method: str = "GET", body: Any = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            named = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, path, body=body, headers={"Host": host, **named})
            response = connection.getresponse()
            return Answer(
                response.status,
                _joined(response.getheaders()),
                response.read().decode(),
            )
        finally:
            connection.close()

    def hears_questions(self) -> bool:
        """Return whether the router process takes nginx's questions; its probes answer before."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.folder / "router.sock")) == 0

    def questions(self) -> int:
        """Return the number of nginx's open questions to the router process: connections of its socket in /proc/net/unix."""
        path, connected = str(self.folder / "router.sock"), "03"
        rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
        return sum(row[5] == connected and row[-1] == path for row in rows)

    def wait_status(self, host: str, status: int) -> Answer:
        seen: list[Answer] = []

        def there() -> bool:
            seen.append(self.get(host))
            return seen[-1].status == status

        until(there, f"{host} answers {status}")
        return seen[-1]

    def readiness(self) -> tuple[int, Any]:
        return self._probe("/readyz")

    def varz(self) -> Any:
        return self._probe("/varz")[1]

    def dump(self) -> dict[str, Any]:
        """Return the routes that nginx holds."""
        connection = http.client.HTTPConnection("nginx", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.folder / "data.sock"))
        try:
            connection.request("GET", "/routes")
            routes: dict[str, Any] = json.load(connection.getresponse())["routes"]
            return routes
        finally:
            connection.close()

    def log(self, name: str) -> str:
        return (self.folder / name).read_text()

    def _probe(self, path: str) -> tuple[int, Any]:
        request = Request(f"http://127.0.0.1:{self.status_port}{path}")
        request.add_header("Authorization", "Basic c3RhdHVzOnA=")
        try:
            with urlopen(request, timeout=5) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, None

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


@contextmanager
def running(**options: Any) -> Iterator[Rig]:
    """Yield a rig that is ready, and remove it."""
    rig = Rig(**options)
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


@contextmanager
def load(rig: Rig, host: str) -> Iterator[Counter[object]]:
    """Send requests all the time, a new connection each; count the statuses."""
    seen: Counter[object] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                seen[rig.get(host).status] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[type(error).__name__] += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()

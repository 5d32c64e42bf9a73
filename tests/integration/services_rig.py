"""A Redis gateway and Redis nodes as real processes, with real redis-servers, on a bus that knows the contract's users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import redis
import yaml

from components.common.plain_http import NO_TLS
from tests.integration import forked
from tests.integration.platform_fixture import SERVICE_TOKEN
from tests.support.ports import free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
TOKEN = SERVICE_TOKEN
LABEL = "redis-7.0"


class Stub(ThreadingHTTPServer):
    """The part of a controller that a gateway sees."""

    daemon_threads = True

    def __init__(self) -> None:
        self.handles: list[dict[str, Any]] = []
        self.offerings: list[dict[str, Any]] = []
        self.refuse = False

        class Handler(BaseHTTPRequestHandler):
            server: Stub

            def do_GET(self) -> None:
                assert self.path == f"/services/v1/offerings/{LABEL}/handles"
                self._answer({"handles": self.server.handles})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.server.offerings.append(json.loads(body))
                self._answer({})

            def _answer(self, body: object) -> None:
                known = self.headers["X-VCAP-Service-Token"] == TOKEN
                exact = self.headers["Content-Type"] == "application/json"
                status = 503 if self.server.refuse else 200 if known and exact else 403
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Daemon:
    """One daemon of a data service; `ready` reads its probe."""

    def __init__(self, name: str, module: str, folder: Path, config: dict[str, Any]) -> None:
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self._module = module
        self._path = folder / f"{name}.yml"
        status = {"host": "127.0.0.1", "port": self.port, "password": "watching"}
        self._config = {"status": status, **config}
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Write the configuration with these changes; the next start reads it."""
        self._config |= changes
        self._path.write_text(yaml.safe_dump(self._config))

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = forked.start(
                self._module, "--config", str(self._path), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.reasons() == []

    def reasons(self) -> list[str] | None:
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{self.port}/readyz", timeout=2, trust_env=False, verify=NO_TLS
            )
        except httpx.HTTPError:
            return None
        return list(answer.json()["reasons"])

    def varz(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/varz"
        return dict(
            httpx.get(url, auth=("status", "watching"), timeout=5, trust_env=False, verify=NO_TLS).json()
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process is None or self.process.poll() is not None:
            return 0
        # A process that a test has frozen ends, too.
        os.kill(self.process.pid, signal.SIGCONT)
        self.process.send_signal(number)
        return self.process.wait(40)


class ServicesRig:
    """All parts; each can be ended and started again."""

    def __init__(
        self,
        folder: Path,
        controllers: list[str],
        nats_url: str,
        *,
        bus_password: str = "services",
        **gateway: Any,
    ) -> None:
        self.folder = folder
        self.bus = {"urls": [nats_url], "user": "services", "password": bus_password}
        self.gateway = Daemon(
            "gateway",
            "components.services.redis.gateway",
            folder,
            {
                "bus": self.bus,
                "controllers": controllers,
                "token": TOKEN,
                "version": "7.0",
                "aliases": ["redis-2.2"],
                "description": "Redis",
                "base_dir": str(folder / "gateway"),
                "node_timeout": 8.0,
                "handles_interval": 0.1,
                "register_interval": 0.5,
                "double_check_orphan_interval": 0.5,
                **gateway,
            },
        )
        # Below the ports that the kernel chooses for connections, above those of the DEAs' rig.
        self.first_port = 20000 + os.getpid() % 120 * 100
        self.node = self.make_node("redis_node_1")

    def make_node(self, node_id: str, **config: Any) -> Daemon:
        folder = self.folder / node_id
        folder.mkdir()
        return Daemon(
            "node",
            "components.services.redis.node",
            folder,
            {
                "bus": self.bus,
                "node_id": node_id,
                "base_dir": str(folder / "state"),
                "sandbox": "process",
                "bind": "127.0.0.1",
                "ports": {"first": self.first_port, "last": self.first_port + 49},
                "capacity": 5,
                "memory_mb": 16,
                "announce_interval": 0.5,
                "stop_grace": 5,
                **config,
            },
        )

    def records(self, node_id: str = "redis_node_1") -> dict[str, int]:
        """Return the servers that run: unit → pid."""
        found = {}
        for path in (self.folder / node_id / "state" / "units").glob("*.json"):
            try:
                record = json.loads(path.read_text())
            except FileNotFoundError:
                # The node has removed it since the folder was listed.
                continue
            if not record["ended"]:
                found[path.stem] = int(record["pid"])
        return found

    def close(self) -> None:
        self.gateway.end()
        for daemon in (self.node,):
            daemon.end()
        for node in self.folder.glob("redis_node_*"):
            for pid in self.records(node.name).values():
                # The servers outlive their node, as they must, so the rig ends them.
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    # The calls of a controller.
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        seconds: float = 60,
    ) -> httpx.Response:
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.gateway.port}{path}",
            content=json.dumps({} if body is None else body),
            headers={"Content-Type": "application/json", "X-VCAP-Service-Token": TOKEN, **(headers or {})},
            timeout=seconds,
            trust_env=False,
            verify=NO_TLS,
        )

    def provision(self, **changes: Any) -> httpx.Response:
        body = {"label": LABEL, "name": "r1", "plan": "free", "email": "a@b.c", **changes}
        return self.ask("POST", "/gateway/v1/configurations", body)

    def bind(self, instance: str, **changes: Any) -> httpx.Response:
        body = {
            "service_id": instance,
            "label": LABEL,
            "email": "a@b.c",
            "binding_options": {},
            **changes,
        }
        return self.ask("POST", f"/gateway/v1/configurations/{instance}/handles", body)

    def unbind(self, service_id: str, handle: str) -> httpx.Response:
        body = {"service_id": service_id, "handle_id": handle, "binding_options": {}}
        return self.ask("DELETE", f"/gateway/v1/configurations/{service_id}/handles/{handle}", body)

    def unprovision(self, service_id: str) -> httpx.Response:
        return self.ask("DELETE", f"/gateway/v1/configurations/{service_id}", {})


def client(credentials: dict[str, Any], *, named: bool = False) -> redis.Redis:
    """Return a connection like an application's: with the password alone, or as its user; one connection, no second try."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(
        host=credentials["host"],
        port=credentials["port"],
        password=credentials["password"],
        username=credentials["username"] if named else None,
        decode_responses=True,
        socket_timeout=10,
        single_connection_client=True,
        retry=Retry(NoBackoff(), 0),
    )


def opens(credentials: dict[str, Any], *, named: bool = False, seconds: float = 60) -> bool:
    """Return whether credentials are accepted. A server that is not there, or cuts the connection, is tried again."""

    def answer() -> str:
        connection = None
        try:
            connection = client(credentials, named=named)
            connection.ping()
        except redis.AuthenticationError:
            return "closed"
        except redis.ConnectionError:
            return ""
        finally:
            if connection is not None:
                connection.close()
        return "open"

    return bool(until(answer, "the server answers", seconds) == "open")


def cut(connection: redis.Redis) -> bool:
    """Return whether the other side has closed this connection."""
    assert connection.connection is not None
    try:
        connection.connection.send_command("PING")
        connection.connection.read_response()
    except redis.ConnectionError:
        return True
    return False

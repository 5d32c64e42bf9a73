"""A real nats-server with the contract's permissions, a real stager process, and a small HTTP server in the controller's place."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from components.common.bus.messages import StagingReply
from components.common.bus.subjects import permissions
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from components.common.frameworks import find_runtime
from components.stager.startup import RUNTIME_MARK
from tests.integration import forked
from tests.support.ports import free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "tests" / "apps"
SECRET = "s3cret-of-the-controller"


def zipped(folder: Path | None, **more: str | bytes) -> bytes:
    """Pack an application as a client does, with further files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        if folder is not None:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(path, path.relative_to(folder))
        for name, text in more.items():
            archive.writestr(name, text)
    return packed.getvalue()


class Controller:
    """Serves packages and accepts droplets, at the addresses of protocol 7.5."""

    def __init__(self) -> None:
        self.packages: dict[str, bytes] = {}
        self.droplets: dict[str, bytes] = {}
        self.troubles: list[int] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                package = peer.packages.get(self.path.rpartition("/")[2])
                if self._refuse():
                    return
                self._answer(200 if package else 404, package or b"no such application")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self._refuse():
                    return
                boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
                head, _, content = body.partition(b"\r\n\r\n")
                assert b'name="upload[droplet]"' in head, head
                peer.droplets[self.path.rpartition("/")[2]] = content.rpartition(b"\r\n--" + boundary)[0]
                self._answer(200, b"")

            def _refuse(self) -> bool:
                given = b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
                if given != f"stager:{SECRET}":
                    self._answer(401, b"denied")
                    return True
                if peer.troubles:
                    self._answer(peer.troubles.pop(0), b"trouble")
                    return True
                return False

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def uri(self, path: str, password: str = SECRET) -> str:
        return f"http://stager:{password}@127.0.0.1:{self.port}{path}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Droplet:
    """A droplet laid out and started as a DEA does."""

    root: Path
    content: bytes
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.content).hexdigest()

    def names(self) -> list[str]:
        with tarfile.open(fileobj=io.BytesIO(self.content)) as archive:
            return archive.getnames()

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def start(self, runtime: str, **variables: str) -> int:
        """Start it with further variables; return the port once a program listens there."""
        port = free_port()
        startup = self.root / "startup"
        startup.chmod(0o700)
        startup.write_text(startup.read_text().replace(RUNTIME_MARK, find_runtime(runtime).executable))
        startup.chmod(0o500)
        environment = {
            "HOME": str(self.root),
            "VCAP_APP_HOST": "127.0.0.1",
            "VCAP_APP_PORT": str(port),
            **variables,
        }
        if "TMPDIR" not in environment:
            (self.root / "tmp").mkdir(exist_ok=True)
            environment["TMPDIR"] = str(self.root / "tmp")
        process = subprocess.Popen(
            [startup, "-p", str(port)], cwd=self.root, env=environment, start_new_session=True
        )
        self.processes.append(process)

        def listens() -> bool:
            assert process.poll() is None, self.read("logs/stderr.log") + self.read("logs/stdout.log")
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0

        try:
            until(listens, "the application listens")
        except AssertionError as error:
            raise AssertionError(
                f"{error}: {self.read('logs/stderr.log')}{self.read('logs/stdout.log')}"
            ) from error
        return port

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def fetch(port: int, path: str = "/", **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


class Rig:
    """Bus, stand-in of the controller, and stager."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.controller = Controller()
        self.bus_port = free_port()
        self._nats: subprocess.Popen[bytes] | None = None
        self._stager: subprocess.Popen[bytes] | None = None
        self._settings = settings
        self._count = 0
        self._droplets: list[Droplet] = []
        self.lines: list[dict[str, Any]] = []
        self.start_nats()
        self._bus = BusThread(
            BusConfig([f"nats://127.0.0.1:{self.bus_port}"], "controller", "controller"), "rig"
        )
        self._bus.subscribe("ingot.staging.*.log", None, self._line)
        self._bus.start()
        self.status_port = free_port()
        self.start_stager()

    async def _line(self, message: Any) -> None:
        self.lines.append({"subject": message.subject, **message.body})

    def start_nats(self) -> None:
        users = []
        for name in ("controller", "stager"):
            may = permissions(name)
            rights: dict[str, Any] = {"publish": may.publish, "subscribe": may.subscribe}
            if may.allow_responses:
                rights["allow_responses"] = {"max": -1, "expires": "10m"}
            users.append({"user": name, "password": name, "permissions": rights})
        config = self.folder / "nats.conf"
        config.write_text(json.dumps({"authorization": {"users": users}}))
        self._nats = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(self.bus_port), "-c", str(config)],
            stderr=subprocess.DEVNULL,
        )

        def listens() -> bool:
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.bus_port)) == 0

        until(listens, "nats-server listens")

    def asker_connected(self) -> bool:
        """Return whether the controller's stand-in is on the bus."""
        return self._bus.bus.connected

    def stop_nats(self) -> None:
        assert self._nats is not None
        self._nats.kill()
        self._nats.wait(10)
        self._nats = None

    def start_stager(self) -> None:
        config = self.folder / "stager.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "bus": {
                        "urls": [f"nats://127.0.0.1:{self.bus_port}"],
                        "user": "stager",
                        "password": "stager",
                    },
                    "status": {
                        "host": "127.0.0.1",
                        "port": self.status_port,
                        "user": "status",
                        "password": "x",
                    },
                    "work_dir": str(self.folder / "work"),
                    "sandbox": "process",
                    "environment_file": str(self.folder / "environment"),
                    "min_free_mb": 0,
                    **self._settings,
                }
            )
        )
        with (self.folder / "stager.log").open("ab") as output:
            self._stager = forked.start(
                "components.stager.main", "--config", str(config), cwd=ROOT, stdout=output, stderr=output
            )
        until(self.ready, "the stager is ready")

    def ready(self) -> bool:
        assert self._stager is not None
        assert self._stager.poll() is None, (self.folder / "stager.log").read_text()
        try:
            return fetch(self.status_port, "/readyz")[0] == 200
        except OSError:
            return False

    def signal_stager(self, number: int) -> None:
        assert self._stager is not None
        self._stager.send_signal(number)

    def wait_stager(self) -> int:
        assert self._stager is not None
        return self._stager.wait(40)

    def varz(self) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.status_port}/varz", headers={"Authorization": "Basic c3RhdHVzOng="}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def request(self, package: bytes, framework: str = "", runtime: str = "", **extra: Any) -> dict[str, Any]:
        """Put a package in place and give the message that asks for its staging."""
        self._count += 1
        name = str(self._count)
        self.controller.packages[name] = package
        properties = {"framework": framework, "runtime": runtime, "services": [], **extra}
        return {
            "app_id": self._count,
            "properties": properties,
            "download_uri": self.controller.uri(f"/staging/app/{name}"),
            "upload_uri": self.controller.uri(f"/staging/droplet/{name}/{name}"),
        }

    def ask(self, message: dict[str, Any], timeout: float = 120) -> StagingReply:
        return self._bus.request("staging", message, StagingReply, timeout=timeout)

    def begin(self, package: bytes, framework: str = "", runtime: str = "", **extra: Any) -> None:
        """Ask for a staging without waiting for the answer."""
        self._bus.publish("staging", self.request(package, framework, runtime, **extra))

    def stage(self, package: bytes, framework: str = "", runtime: str = "", **extra: Any) -> StagingReply:
        return self.ask(self.request(package, framework, runtime, **extra))

    def droplet(self, app: str | Path, framework: str = "", runtime: str = "", **extra: Any) -> Droplet:
        """Stage an application, which must succeed, and unpack its droplet."""
        package = zipped(APPS / app if isinstance(app, str) else app)
        reply = self.stage(package, framework, runtime, **extra)
        assert reply.error is None, reply.error
        return self.lay_out(self.controller.droplets[str(self._count)])

    def lay_out(self, content: bytes) -> Droplet:
        root = self.folder / f"instance-{len(self._droplets)}"
        root.mkdir()
        subprocess.run(["tar", "-xz", "-C", root], input=content, check=True)
        found = Droplet(root, content)
        self._droplets.append(found)
        return found

    def log(self) -> str:
        return (self.folder / "stager.log").read_text()

    def boxes(self) -> list[str]:
        tasks = self.folder / "work" / "tasks"
        return sorted(p.name for p in tasks.iterdir()) if tasks.is_dir() else []

    def children(self) -> list[int]:
        """Find processes that work in the stager's folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if bytes(self.folder / "work") in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found

    def close(self) -> None:
        for droplet in self._droplets:
            droplet.stop()
        if self._stager is not None and self._stager.poll() is None:
            self._stager.terminate()
            try:
                self._stager.wait(40)
            finally:
                self._stager.kill()
        self._bus.close()
        if self._nats is not None:
            self.stop_nats()
        self.controller.stop()


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Rig]:
    rig = Rig(folder, **settings)
    try:
        yield rig
    finally:
        rig.close()

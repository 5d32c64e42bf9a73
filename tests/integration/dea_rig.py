"""A real nats-server, a real DEA agent with plain processes, and a bus connection that hears all messages."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import yaml

from components.common.bus.client import Bus
from components.common.config import BusConfig
from tests.integration import forked
from tests.support.ports import free_port
from tests.support.waiting import until_async

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS = (
    "ingot.dea.beat",
    "dea.start",
    "dea.heartbeat",
    "dea.advertise",
    "droplet.exited",
    "ingot.task.ended",
    "ingot.dea.usage",
    "router.register",
    "router.unregister",
)
SERVER = """
import http.server, json, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""
STARTUP = """#!/bin/bash
cd "$(dirname "$0")/app"
while getopts ':p:' o; do [ "$o" = p ] && PORT=$OPTARG; done
%VCAP_LOCAL_RUNTIME% server.py "$PORT" >>../logs/stdout.log 2>>../logs/stderr.log &
echo $! >>../run.pid
wait $!
"""


def droplet(files: dict[str, str] | None = None, startup: str = STARTUP) -> bytes:
    """Pack a droplet."""
    content = {"startup": startup, "stop": "#!/bin/bash\nkill -9 $1\n", "app/server.py": SERVER}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        logs = tarfile.TarInfo("logs")
        logs.type, logs.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(logs)
        for name, text in {**content, **(files or {})}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _get(url: str, credentials: list[str] | None, headers: dict[str, str]) -> tuple[int, str]:
    request = Request(url, headers=headers)
    if credentials:
        pair = b64encode(":".join(credentials).encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    try:
        with urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


class DeaRig:
    """Server, agent and connection; each part can be killed and started again."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.share = folder / "share" / "droplets"
        self.share.mkdir(parents=True, exist_ok=True)
        self.bus_port = free_port()
        self.status_port = free_port()
        self.heard: list[tuple[str, Any]] = []
        # Below the ports that the kernel chooses for connections.
        first = 10000 + os.getpid() % 100 * 100
        self.config = {
            "bus": {"urls": [f"nats://127.0.0.1:{self.bus_port}"], "user": "dea"},
            "status": {"host": "127.0.0.1", "port": self.status_port, "password": "p"},
            "base_dir": str(folder / "dea"),
            "run_dir": str(folder / "run"),
            "share_path": str(folder / "share"),
            "sandbox": "process",
            "max_memory": 1024,
            "max_disk": 10000,
            "files": {"host": "127.0.0.1", "port": 0},
            "ports": {"first": first, "last": first + 99},
            "intervals": {
                "beat": 0.2,
                "heartbeat": 0.5,
                "advertise": 0.5,
                "register": 1.0,
                "monitor": 0.3,
                "lines": 0.1,
            },
            "start_timeout": 20,
            "drain": 0.05,
            "stop_grace": 2,
            "runtimes": {
                "python3": {"executable": sys.executable, "version": "Python 3", "aliases": ["python2"]}
            },
            **config,
        }
        self.bus = Bus(BusConfig([f"nats://127.0.0.1:{self.bus_port}"]), "test")
        for subject in SUBJECTS:
            self.bus.subscribe(subject, None, self._hear)
        self._nats: subprocess.Popen[bytes] | None = None
        self._agent: subprocess.Popen[bytes] | None = None

    async def _hear(self, message: Any) -> None:
        self.heard.append((message.subject, message.body))

    async def start(self) -> None:
        self.start_nats()
        await self.bus.start()
        assert await self.bus.wait_connected(10)
        await self.start_agent()

    def start_nats(self) -> None:
        self._nats = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(self.bus_port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop_nats(self) -> None:
        assert self._nats is not None
        self._nats.kill()
        self._nats.wait()

    async def start_agent(self) -> None:
        mark = self.mark()
        self._spawn_agent()
        # Not its beat: the last beats of an agent that was just stopped may still be on their way.
        await self.hears("dea.start", since=mark)

    def _spawn_agent(self) -> None:
        path = self.folder / "dea.yml"
        path.write_text(yaml.safe_dump(self.config))
        with (self.folder / "agent.log").open("ab") as log:
            self._agent = forked.start(
                "components.dea.main", "--config", str(path), cwd=ROOT, stdout=log, stderr=log
            )

    def stop_agent(self, number: int = signal.SIGTERM) -> int:
        assert self._agent is not None
        self._agent.send_signal(number)
        return self._agent.wait(20)

    def signal_agent(self, number: int) -> None:
        assert self._agent is not None
        self._agent.send_signal(number)

    async def stop(self) -> None:
        if self._agent is not None and self._agent.poll() is None:
            self.stop_agent()
        for record in (self.folder / "dea" / "units").glob("*.json"):
            pid = json.loads(record.read_bytes())["pid"]
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await self.bus.close()
        if self._nats is not None:
            self.stop_nats()

    @property
    def id(self) -> str:
        return (self.folder / "dea" / "id").read_text().strip()

    def main_pid(self, instance: str) -> int:
        record = (self.folder / "dea/units" / f"ingot-app-{instance}.json").read_bytes()
        return int(json.loads(record)["pid"])

    async def get(self, url: str, credentials: list[str] | None = None, **headers: str) -> tuple[int, str]:
        """GET; return the status and the body."""
        return await asyncio.to_thread(_get, url, credentials, headers)

    def log(self) -> str:
        """Return the agent's log."""
        return (self.folder / "agent.log").read_text()

    async def varz_until(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 60) -> Any:
        """Return the agent's `/varz` once it meets the condition."""
        url, deadline = f"http://127.0.0.1:{self.status_port}/varz", time.monotonic() + seconds
        while True:
            status, body = await self.get(url, ["status", "p"])
            shown = json.loads(body) if status == 200 else {}
            if shown and condition(shown):
                return shown
            assert time.monotonic() < deadline, body
            await asyncio.sleep(0.05)

    def mark(self) -> int:
        """Return the present position, for `since`."""
        return len(self.heard)

    def said(self, subject: str, since: int = 0) -> list[Any]:
        return [body for name, body in self.heard[since:] if name == subject]

    async def hears(
        self,
        subject: str,
        wanted: Callable[[Any], bool] = lambda _: True,
        since: int = 0,
        seconds: float = 20,
    ) -> Any:
        """Wait for a message."""
        found = await self.until(
            lambda: next(([b] for b in self.said(subject, since) if wanted(b)), None), subject, seconds
        )
        return found[0]

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """Wait for a condition; the error has the end of the agent's log."""
        try:
            return await until_async(condition, what, seconds)
        except AssertionError as error:
            error.add_note((self.folder / "agent.log").read_text()[-3000:])
            raise

    def keep(self, content: bytes) -> str:
        """Put a droplet on the share; return its digest."""
        sha1 = hashlib.sha1(content).hexdigest()
        (self.share / sha1).write_bytes(content)
        return sha1

    def message(self, sha1: str, **more: Any) -> dict[str, Any]:
        return {
            "droplet": 12,
            "name": "env",
            "uris": ["env.ingot.localhost"],
            "runtime": "python3",
            "framework": "wsgi",
            "sha1": sha1,
            "executableFile": str(self.share / sha1),
            "executableUri": "",
            "version": f"{sha1}-1",
            "services": [],
            "limits": {"mem": 128, "disk": 256, "fds": 256},
            "env": [],
            "users": ["a@b.com"],
            "index": 0,
            "debug": None,
            "console": None,
            **more,
        }

    async def run(self, sha1: str | None = None, **more: Any) -> Any:
        """Start an instance and wait until it runs; return its line of the heartbeat."""
        mark = self.mark()
        message = self.message(sha1 or self.keep(droplet()), **more)
        await self.bus.publish(f"dea.{self.id}.start", message)
        beat = await self.hears(
            "dea.heartbeat",
            lambda b: any(
                d["droplet"] == message["droplet"]
                and d["index"] == message["index"]
                and d["state"] == "RUNNING"
                for d in b["droplets"]
            ),
            since=mark,
        )
        return next(d for d in beat["droplets"] if d["index"] == message["index"])

    async def lines(self, of: dict[str, Any], after: int = 0, wait: float = 0, limit: int = 1000) -> Any:
        """Return numbered lines; `of` is an answer of `dea.find.droplet` or to a task."""
        query = f"?after={after}&wait={wait:g}&limit={limit}"
        status, body = await self.get(of["log_uri"] + query, of["credentials"])
        assert status == 200, body
        return json.loads(body)

    async def ask(self, subject: str, body: Any, expected: int = 1, timeout: float = 20.0) -> list[Any]:
        return await self.bus.request_many(subject, body, dict[str, Any], timeout, expected)

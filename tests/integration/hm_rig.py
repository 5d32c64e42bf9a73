"""A real nats-server, real health managers as processes, and small peers: a controller's HTTP, and DEAs on the bus."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from components.common.bus.client import Bus, Incoming
from components.common.bus.messages import (
    Capacity,
    DeaBeat,
    DropletExited,
    Heartbeat,
    HeartbeatEntry,
    HmRequest,
)
from components.common.config import BusConfig
from components.dea.instances.renewal import Renewal
from tests.integration import forked
from tests.support.ports import free_port
from tests.support.waiting import until_async

ROOT = Path(__file__).resolve().parents[2]
# The shipped timings, an order of magnitude faster.
INTERVALS = {
    "desired_interval": 0.5,
    "desired_max_age": 3.0,
    "droplets_analysis": 0.5,
    "stable_state": 1.0,
    "restart_timeout": 3.0,
    "settle": 1.0,
    "lead_settle": 0.2,
    "silent_hold": 60.0,
    "lease_ttl": 2.0,
    "lease_renew": 0.5,
    "nats_ping": 0.5,
}


class NatsServer:
    """One nats-server on loopback; can be stopped and started on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._log = folder / "nats.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-l", str(self._log)]
        self._process = subprocess.Popen(argv)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("nats-server does not listen")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class ControllerPeer:
    """Bulk API and leases, as a controller answers them, and the requests of health managers on the bus."""

    def __init__(self) -> None:
        self.apps: dict[int, dict[str, Any]] = {}
        self.requests: list[tuple[float, HmRequest]] = []
        self.holder, self.token, self.until = "", 0, 0.0
        self.fail = False
        self.pages = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def app(self, droplet: int, **changes: Any) -> None:
        self.apps[droplet] = {
            "id": droplet,
            "name": f"app{droplet}",
            "state": "STARTED",
            "instances": 1,
            "staged_package_hash": "ab" * 20,
            "run_count": 1,
            "package_state": "STAGED",
            "updated_at": int(time.time()) - 100,
            "memory": 64,
            "framework": "wsgi",
            "runtime": "python3",
            **self.apps.get(droplet, {}),
            **changes,
        }

    def version(self, droplet: int) -> str:
        return f"{self.apps[droplet]['staged_package_hash']}-{self.apps[droplet]['run_count']}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/bulk/apps", self._bulk)
        app.router.add_get("/bulk/counts", self._counts)
        app.router.add_put("/v2/leases/{name}", self._lease)
        app.router.add_delete("/v2/leases/{name}", self._release)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.fail:
            return web.Response(status=500)
        wanted = "Basic " + base64.b64encode(b"bulk_api:bulk-secret").decode()
        if request.headers.get("Authorization") != wanted:
            return web.Response(status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _bulk(self, request: web.Request) -> web.Response:
        self.pages += 1
        size = int(request.query["batch_size"])
        after = json.loads(request.query["bulk_token"]).get("id", -1)
        page = [d for d in sorted(self.apps) if d > after][:size]
        return web.json_response(
            {
                "results": {str(d): self.apps[d] for d in page},
                "bulk_token": {"id": page[-1] if page else after},
            }
        )

    async def _counts(self, _request: web.Request) -> web.Response:
        return web.json_response({"counts": {"user": 7}})

    async def _lease(self, request: web.Request) -> web.Response:
        asked, now = await request.json(), time.monotonic()
        if now >= self.until and self.holder != asked["holder"]:
            self.holder, self.token = asked["holder"], self.token + 1
        mine = self.holder == asked["holder"]
        if mine:
            self.until = now + asked["ttl"]
        body = {"holder": self.holder, "token": self.token, "expires_in": self.until - now}
        return web.json_response(body, status=200 if mine else 409)

    async def _release(self, request: web.Request) -> web.Response:
        if (await request.json())["holder"] == self.holder:
            self.until = 0.0
        return web.json_response({})


class DeaPeer:
    """A DEA as the bus sees it: it beats, names its instances, and obeys the test's requests."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.instances: dict[str, HeartbeatEntry] = {}
        self.evacuating = False
        self.renewal = Renewal()
        self.bus = Bus(BusConfig(urls=[url], user="", password=""), name)
        self.bus.subscribe("healthmanager.start", None, self._greeted)
        self.bus.on_connect(self.heartbeat)
        self._beating: asyncio.Task[None] | None = None
        self._serial = 0

    async def start(self) -> None:
        await self.bus.start()
        assert await self.bus.wait_connected(20)
        self._beating = asyncio.create_task(self._beat())

    async def power_off(self) -> None:
        """End silently."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        await self.bus.close()

    async def launch(self, droplet: int, version: str, index: int) -> str:
        self._serial += 1
        name = f"{self.name}-{self._serial}"
        self.instances[name] = HeartbeatEntry(
            droplet=droplet,
            version=version,
            instance=name,
            index=index,
            state="RUNNING",
            state_timestamp=int(time.time()),
        )
        await self.heartbeat()
        return name

    async def exit(self, instance: str, reason: str) -> None:
        gone = self.instances.pop(instance)
        await self.bus.publish(
            "droplet.exited",
            DropletExited(
                droplet=gone.droplet,
                version=gone.version,
                instance=instance,
                index=gone.index,
                reason=reason,
                crash_timestamp=int(time.time()) if reason == "CRASHED" else None,
            ),
        )

    async def heartbeat(self) -> None:
        if self.instances:
            await self.bus.publish(
                "dea.heartbeat", Heartbeat(dea=self.name, droplets=list(self.instances.values()))
            )

    async def _greeted(self, _message: Incoming[Any]) -> None:
        await self.heartbeat()

    async def _beat(self) -> None:
        while True:
            counts: dict[str, int] = {}
            for entry in self.instances.values():
                counts[str(entry.droplet)] = counts.get(str(entry.droplet), 0) + 1
            await self.bus.publish(
                "ingot.dea.beat",
                DeaBeat(
                    id=self.name,
                    address="127.0.0.1",
                    interval=0.3,
                    capacity=Capacity(memory=4096),
                    evacuating=self.evacuating,
                    leaving=self.renewal.turn(self.instances.keys(), time.monotonic()),
                    droplets=counts,
                ),
            )
            await asyncio.sleep(0.3)


class Manager:
    """One health manager, a process of its own."""

    def __init__(self, folder: Path, index: int, nats: str, controllers: list[str], **changes: Any) -> None:
        self.port = free_port()
        self.config = folder / f"hm{index}.yml"
        self._log_path = folder / f"hm{index}.log"
        content = {
            "bus": {"urls": [nats]},
            "status": {"host": "127.0.0.1", "port": self.port, "user": "status", "password": "pw"},
            "index": index,
            "controllers": controllers,
            "bulk_password": "bulk-secret",
            "bulk_batch": 2,
            "intervals": INTERVALS,
            **changes,
        }
        self.config.write_text(yaml.safe_dump(content))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log_path.open("ab") as log:
            self.process = forked.start(
                "components.health_manager.main",
                "--config",
                str(self.config),
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    async def signal(self, number: int) -> int:
        """Send a signal and wait for the end; the peers go on serving meanwhile."""
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 20)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return self._log_path.read_text()

    async def get(self, path: str) -> Any:
        """Return the answer of one of its probes; None while it does not answer or is not ready."""
        headers = {"Authorization": "Basic " + base64.b64encode(b"status:pw").decode()}
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as reply,
            ):
                if reply.status != 200:
                    return None
                return await reply.json() if path != "/metrics" else await reply.text()
        except aiohttp.ClientError:
            return None

    async def leads(self) -> bool:
        facts = await self.get("/varz")
        return bool(facts and facts["leader"])


class Rig:
    """One bus, one controller, three DEAs, and as many managers as a test starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nats = NatsServer(folder)
        self.controller = ControllerPeer()
        self.deas: list[DeaPeer] = []
        self.managers: list[Manager] = []
        self.bus: Bus
        self.obey = True

    async def manager(self, *, ready: bool = True, **changes: Any) -> Manager:
        made = Manager(
            self.folder,
            len(self.managers),
            self.nats.url,
            changes.pop("urls", [self.controller.url]),
            **changes,
        )
        self.managers.append(made)
        made.start()
        if ready:
            await until_async(lambda: made.get("/readyz"), "manager ready")
        return made

    async def on_request(self, message: Incoming[HmRequest]) -> None:
        request = message.body
        self.controller.requests.append((time.monotonic(), request))
        if not self.obey:
            return
        if request.op == "START":
            home = min((d for d in self.deas if d.bus.connected), key=lambda d: len(d.instances))
            for index in request.indices or []:
                await home.launch(request.droplet, request.version, index)
        for dea in self.deas:
            for name in set(request.instances or []) & set(dea.instances):
                await dea.exit(name, "STOPPED")

    def starts(self) -> list[tuple[int, int]]:
        return [(r.droplet, i) for _, r in self.controller.requests for i in r.indices or []]

    def stops(self) -> list[str]:
        return [i for _, r in self.controller.requests for i in r.instances or []]

    def places(self, droplet: int) -> list[int]:
        return sorted(
            e.index
            for d in self.deas
            if d.bus.connected
            for e in d.instances.values()
            if e.droplet == droplet
        )

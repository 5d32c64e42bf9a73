"""Controllers as real processes, and peers on the bus that stand for stager, DEAs and health manager."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from components.common.bus.messages import (
    Capacity,
    DeaBeat,
    DeaDiscover,
    DeaHello,
    DeaStart,
    DeaStop,
    DropletRef,
    FindDroplet,
    FoundDroplet,
    HealthQuery,
    HealthReply,
    StagingReply,
    StagingRequest,
)
from components.common.bus.platform_hosts import REGISTER, UNREGISTER
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from components.common.plain_http import NO_TLS
from tests.integration import ccdb, forked

ROOT = Path(__file__).resolve().parents[2]
ADMIN, PASSWORD = "admin@ingot.localhost", "correct horse"


def zip_of(files: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return out.getvalue()


def multipart(
    parts: list[tuple[str, str | None, bytes]], boundary: str = "41184"
) -> tuple[bytes, dict[str, str]]:
    """A body as rest-client writes it: a short decimal boundary, the closing one followed by CRLF."""
    out = b""
    for name, filename, content in parts:
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename:
            out += f'; filename="{filename}"\r\nContent-Type: application/zip'.encode()
        out += b"\r\n\r\n" + content + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return out, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


_clients: list[httpx.Client] = []


def close_clients() -> None:
    while _clients:
        _clients.pop().close()


class Client:
    """A client that acts like `vmc`: the raw token in AUTHORIZATION, the upload as a POST with the method put."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token
        # A new connection for each request, as rest-client makes them.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False, limits=limits, verify=NO_TLS)
        _clients.append(self.http)

    def call(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            **options.pop("headers", {}),
        }
        if self.token:
            headers.setdefault("AUTHORIZATION", self.token)
        content = None if body is None else json.dumps(body)
        return self.http.request(method, path, content=content, headers=headers, **options)

    def login(self, email: str = ADMIN, password: str = PASSWORD) -> Client:
        answer = self.call("POST", f"/users/{email.replace('@', '%40')}/tokens", {"password": password})
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["token"]
        return self

    def at(self, url: str) -> Client:
        """The same user at another controller."""
        return Client(url, self.token)

    def create(self, name: str, **changes: Any) -> httpx.Response:
        body = {
            "name": name,
            "staging": {"framework": "wsgi", "runtime": None},
            "uris": [f"{name}.ingot.localhost"],
            "instances": 1,
            "resources": {"memory": 64},
            **changes,
        }
        return self.call("POST", "/apps", body)

    def upload(
        self, name: str, files: dict[str, str | bytes], resources: Sequence[object] = ()
    ) -> httpx.Response:
        body, headers = multipart(
            [
                ("_method", None, b"put"),
                ("application", f"{name}.zip", zip_of(files)),
                ("resources", None, json.dumps(list(resources)).encode()),
            ]
        )
        headers["AUTHORIZATION"] = self.token
        headers["Accept"] = "*/*; q=0.5, application/xml"
        return self.http.post(f"/apps/{name}/application", content=body, headers=headers)

    def put(self, name: str, **changes: Any) -> httpx.Response:
        app = self.call("GET", f"/apps/{name}").json()
        return self.call("PUT", f"/apps/{name}", {**app, **changes})

    def app(self, name: str) -> dict[str, Any]:
        answer = self.call("GET", f"/apps/{name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


class ControllerProcess:
    """One `ingot-controller`."""

    def __init__(self, folder: Path, port: int, nats_url: str, database_url: str, **more: Any) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"controller-{port}.log"
        path = folder / f"controller-{port}.yml"
        share = folder / "share"
        share.mkdir(exist_ok=True)
        config = {
            "bus": {"urls": [nats_url], "user": ""},
            "status": {"user": "status", "password": "watching"},
            "host": "127.0.0.1",
            "port": port,
            "database_url": database_url,
            "share_path": str(share),
            "temp_path": str(folder),
            "token_keys": ["0123456789abcdef0123"],
            "bulk_password": "bulk secret",
            "staging_password": "stage/secret:@",
            "admin_email": ADMIN,
            "admin_password": PASSWORD,
            "workers": 2,
            "threads": 8,
            "drain_seconds": 0.2,
            "max_staging_seconds": 20,
            **more,
        }
        path.write_text(yaml.safe_dump(config))
        if forked.enabled():
            # A real start begins with nothing.
            ccdb.prepare(database_url, ADMIN, PASSWORD)
        with self.log.open("ab") as out:
            self.process = forked.start(
                "components.controller.main",
                "--config",
                str(path),
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text())
        try:
            return (
                httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False, verify=NO_TLS).status_code == 200
            )
        except httpx.HTTPError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(self.log.read_text()) from None


class Peers:
    """A stager, two DEAs and a health manager, as a controller sees them."""

    def __init__(self, nats_url: str, deas: tuple[str, ...] = ("0-a", "1-b"), old_dea: str = "") -> None:
        self.bus = BusThread(BusConfig(urls=[nats_url]), "peers")
        self.deas = {id_: DeaBeat(id=id_, address=f"127.0.0.{n + 2}", capacity=Capacity(memory=1024), interval=0.2)
                     for n, id_ in enumerate(deas)}  # fmt: skip
        self.silent: set[str] = set()
        self.running: dict[tuple[int, int], tuple[str, DeaStart]] = {}
        # While True, the instances of every started version crash.
        self.breaking = False
        self.broken: set[str] = set()
        self.starts: list[tuple[str, DeaStart]] = []
        self.stops: list[DeaStop] = []
        self.updates: list[DeaStart] = []
        self.updated: list[int] = []
        self.staged: list[StagingRequest] = []
        self.packages: list[dict[str, bytes]] = []
        self.routes: list[tuple[str, dict[str, Any]]] = []
        self.events: list[Any] = []
        self.staging_error: str | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.file_server = ("http://127.0.0.1:1/droplets/", ["u", "p"])
        for id_ in deas:
            self.bus.subscribe(f"dea.{id_}.start", DeaStart, self._started(id_))
        if old_dea:
            # A DEA of 2011: it sends no beats, and answers questions.
            self.bus.subscribe(f"dea.{old_dea}.start", DeaStart, self._started(old_dea))
            self.bus.subscribe("dea.discover", DeaDiscover, self._discovered(old_dea))
        self.bus.subscribe("dea.stop", DeaStop, self._stop)
        self.bus.subscribe("dea.update", DeaStart, self._update)
        self.bus.subscribe("dea.find.droplet", FindDroplet, self._find)
        self.bus.subscribe("droplet.updated", DropletRef, self._touched)
        self.bus.subscribe("staging", StagingRequest, self._staging, queue="staging")
        self.bus.subscribe("healthmanager.health", HealthQuery, self._health)
        for subject in (*REGISTER, *UNREGISTER):
            self.bus.subscribe(subject, None, self._route)
        self.bus.subscribe("vcap.cc.events", None, self._event)
        self.bus.bus.on_connect(self._begin)
        self.bus.start()
        assert self.bus.run(self.bus.bus.wait_connected(10))

    def close(self) -> None:
        for task in list(self._tasks):
            self.bus._loop.call_soon_threadsafe(task.cancel)
        self.bus.close()
        close_clients()

    def call(self, work: Callable[[], Any]) -> None:
        self.bus._loop.call_soon_threadsafe(work)

    async def _begin(self) -> None:
        self._task(self._beats())

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beats(self) -> None:
        import msgspec

        while True:
            for id_, beat in self.deas.items():
                if id_ in self.silent:
                    continue
                mine = [m for d, m in self.running.values() if d == id_]
                droplets: dict[str, int] = {}
                for m in mine:
                    droplets[str(m.droplet)] = droplets.get(str(m.droplet), 0) + 1
                reserved = sum(m.limits.mem for m in mine)
                capacity = msgspec.structs.replace(
                    beat.capacity, memory_reserved=reserved, instances=len(mine)
                )
                await self.bus.bus.publish(
                    "ingot.dea.beat", msgspec.structs.replace(beat, capacity=capacity, droplets=droplets)
                )
            await asyncio.sleep(0.2)

    def _started(self, id_: str) -> Any:
        async def receive(message: Any) -> None:
            self.starts.append((id_, message.body))
            if self.breaking:
                self.broken.add(message.body.version)
            self.running[message.body.droplet, message.body.index] = (id_, message.body)

        return receive

    def _discovered(self, id_: str) -> Any:
        async def receive(message: Any) -> None:
            await message.respond(DeaHello(id=id_, ip="127.0.0.1", port=12345))

        return receive

    async def _stop(self, message: Any) -> None:
        body = message.body
        self.stops.append(body)
        for key, (_dea, start) in list(self.running.items()):
            if key[0] != body.droplet or (body.version and start.version != body.version):
                continue
            if body.indices is None or key[1] in body.indices:
                del self.running[key]

    async def _update(self, message: Any) -> None:
        self.updates.append(message.body)

    async def _touched(self, message: Any) -> None:
        self.updated.append(message.body.droplet)

    async def _route(self, message: Any) -> None:
        self.routes.append((message.subject, message.body))

    async def _event(self, message: Any) -> None:
        self.events.append(message.body)

    async def _health(self, message: Any) -> None:
        for asked in message.body.droplets:
            version = asked["version"]
            healthy = [
                k for k, (_, m) in self.running.items() if k[0] == asked["droplet"] and m.version == version
            ]
            reply = HealthReply(droplet=asked["droplet"], version=version, healthy=len(healthy))
            # Two health managers: the second's answer is one too many.
            await message.respond(reply)
            await message.respond(reply)

    async def _find(self, message: Any) -> None:
        query = message.body
        for (droplet, index), (dea, start) in self.running.items():
            instance = f"{droplet:016x}{index:016x}"
            if droplet != query.droplet or (query.version and query.version != start.version):
                continue
            if query.indices is not None and index not in query.indices:
                continue
            if query.instances is not None and instance not in query.instances:
                continue
            stats = {"name": start.name, "uris": start.uris, "usage": {"mem": 20480.0}}
            await message.respond(
                FoundDroplet(
                    dea=dea,
                    version=start.version,
                    droplet=droplet,
                    instance=instance,
                    index=index,
                    state="CRASHED" if start.version in self.broken else "RUNNING",
                    state_timestamp=1,
                    file_uri=self.file_server[0],
                    credentials=self.file_server[1],
                    staged=f"{start.name}-{index}",
                    stats=stats if query.include_stats else None,
                )
            )

    async def _staging(self, message: Any) -> None:
        self._task(self._stage(message))

    async def _stage(self, message: Any) -> None:
        request: StagingRequest = message.body
        self.staged.append(request)
        subject = f"ingot.staging.{request.app_id}.log"
        await self.bus.bus.publish(subject, {"task_id": "t", "seq": 1, "line": "-----> building"})
        await self.hold.wait()
        if self.staging_error:
            await message.respond(
                StagingReply(
                    task_id="t", task_log="-----> building\nno such package", error=self.staging_error
                )
            )
            return
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
            got = await http.get(request.download_uri)
            assert got.status_code == 200, got.text
            with zipfile.ZipFile(io.BytesIO(got.content)) as zipped:
                files = {n: zipped.read(n) for n in zipped.namelist()}
            self.packages.append(files)
            droplet = io.BytesIO()
            with tarfile.open(fileobj=droplet, mode="w:gz") as tar:
                for name, content in files.items():
                    entry = tarfile.TarInfo(f"app/{name}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
            sent = await http.post(
                request.upload_uri, files={"upload[droplet]": ("droplet.tgz", droplet.getvalue())}
            )
            assert sent.status_code == 200, sent.text
            again = await http.post(request.upload_uri, files={"upload[droplet]": ("droplet.tgz", b"x")})
            assert again.status_code == 400, again.text
        await message.respond(StagingReply(task_id="t", task_log="-----> building\n-----> done"))


__all__ = ["ADMIN", "PASSWORD", "Client", "ControllerProcess", "Peers", "multipart", "zip_of"]

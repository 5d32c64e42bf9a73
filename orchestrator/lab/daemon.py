"""The daemon: REST on a Unix socket, the relay, and a periodic check for labs whose holder has ended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from components.common import log
from components.common.errors import IngotError
from components.common.filesystem.files import PUBLIC, write_atomically
from components.common.version import VERSION
from orchestrator.lab import wire
from orchestrator.lab.backends.accelerator import remembered
from orchestrator.lab.backends.nspawn import Nspawn
from orchestrator.lab.backends.qemu import Qemu
from orchestrator.lab.engine import LabEngine
from orchestrator.lab.errors import BadRequestError, LabError
from orchestrator.lab.host.relay import Relay
from orchestrator.lab.images.image_store import ImageStore
from orchestrator.lab.paths import HOST_SETTINGS, Paths
from orchestrator.lab.sweep import abandoned_labs, restore, sweep

EXIT_LOCKED = 75
_WATCH_SECONDS = 5.0
_GRACE_SECONDS = 60.0
_THREADS = 64
T = TypeVar("T")
Request = web.Request
logger = log.get(__name__)


def code_digest() -> str:
    """Return a digest of the lab's own program, by which a client recognises a daemon of another program."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


class Daemon:
    """The daemon: it routes requests to the engine, in threads, and keeps the relay in step."""

    def __init__(self, engine: LabEngine) -> None:
        self.engine = engine
        self.stop = asyncio.Event()
        self.relay = Relay(self._targets)
        self._code = code_digest()
        self._working = 0

    def app(self) -> web.Application:
        """Return the REST application."""
        app = web.Application(middlewares=[self._answer])
        machine = "/labs/{lab}/machines/{machine}"
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/images", self._images),
                web.post("/images/{image}", self._build),
                web.get("/images/{image}", self._progress),
                web.delete("/images/{image}", self._remove_image),
                web.get("/labs", self._labs),
                web.post("/labs", self._create_lab),
                web.get("/labs/{lab}", self._lab),
                web.delete("/labs/{lab}", self._delete_lab),
                web.put("/labs/{lab}/routers", self._routers),
                web.get("/labs/{lab}/access", self._access),
                web.post("/labs/{lab}/machines", self._create_machine),
                web.get(machine, self._machine),
                web.delete(machine, self._delete_machine),
                web.post(machine + "/{action}", self._act),
                web.post("/sweep", self._sweep),
                web.post("/shutdown", self._shutdown),
            ]
        )
        return app

    async def open_doors(self) -> None:
        """Listen on the port of every lab; a port that is taken is logged, and the others are opened."""
        for lab in list(self.engine.labs.values()):
            try:
                await self.relay.open(lab.name, lab.port)
            except LabError:
                logger.exception("port of a lab not opened", lab=lab.name)

    async def watch(self) -> None:
        """Remove labs whose holder has ended and notice machines that rebooted, for ever."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            await asyncio.to_thread(self.engine.notice_reboots)
            for name in abandoned_labs(self.engine, owners=False):
                logger.info("the holder of a lab has ended", lab=name)
                with contextlib.suppress(LabError):
                    await self._down(name)

    @web.middleware
    async def _answer(
        self, request: Request, handler: Callable[[Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._working += 1
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except IngotError as error:
            kind = error.kind if isinstance(error, LabError) else LabError.kind
            status = error.status if isinstance(error, LabError) else LabError.status
            logger.info("refused", path=request.path, error=str(error))
            return _json({"error": kind, "message": str(error)}, status)
        except Exception as error:
            logger.exception("request failed", path=request.path)
            return _json({"error": LabError.kind, "message": f"{type(error).__name__}: {error}"}, 500)
        finally:
            self._working -= 1

    async def _status(self, _: Request) -> web.Response:
        found = remembered(self.engine.paths.accelerator)
        return _json(
            wire.Status(
                api=wire.API,
                code=self._code,
                source=str(Path(__file__).parents[2]),
                pid=os.getpid(),
                version=VERSION,
                labs=sorted(self.engine.labs),
                building=self.engine.images.busy(),
                accelerator=f"{found.name} ({found.reason})" if found else "",
            )
        )

    async def _images(self, _: Request) -> web.Response:
        return _json(await asyncio.to_thread(self.engine.images.all))

    async def _build(self, request: Request) -> web.Response:
        state = await asyncio.to_thread(self.engine.images.build, request.match_info["image"])
        return _json(state.as_json(), 202)

    async def _progress(self, request: Request) -> web.Response:
        return _json(self.engine.images.progress(request.match_info["image"]).as_json())

    async def _remove_image(self, request: Request) -> web.Response:
        outdated = request.query.get("outdated") == "1"
        name = request.match_info["image"]
        return _json(await asyncio.to_thread(self.engine.images.remove, name, outdated=outdated))

    async def _labs(self, _: Request) -> web.Response:
        labs = list(self.engine.labs.values())
        return _json(await asyncio.to_thread(lambda: [self.engine.lab_view(lab) for lab in labs]))

    async def _lab(self, request: Request) -> web.Response:
        lab = self.engine.lab(request.match_info["lab"])
        return _json(await asyncio.to_thread(self.engine.lab_view, lab))

    async def _create_lab(self, request: Request) -> web.Response:
        wanted = await _read(request, wire.LabRequest)
        before = wanted.name in self.engine.labs
        view = await asyncio.to_thread(self.engine.create_lab, wanted)
        try:
            await self.relay.open(view.name, view.port)
        except LabError:
            if not before:
                await self._down(view.name)
            raise
        return _json(view, 200 if before else 201)

    async def _delete_lab(self, request: Request) -> web.Response:
        return _json(await self._down(request.match_info["lab"]))

    async def _routers(self, request: Request) -> web.Response:
        wanted = await _read(request, wire.RoutersRequest)
        name = request.match_info["lab"]
        return _json(await asyncio.to_thread(self.engine.set_routers, name, wanted.machines))

    async def _access(self, request: Request) -> web.Response:
        return _json(await asyncio.to_thread(self.engine.access, request.match_info["lab"]))

    async def _create_machine(self, request: Request) -> web.Response:
        wanted = await _read(request, wire.MachineRequest)
        lab = request.match_info["lab"]
        return _json(await asyncio.to_thread(self.engine.create_machine, lab, wanted), 201)

    async def _machine(self, request: Request) -> web.Response:
        lab, machine = self.engine.machine(request.match_info["lab"], request.match_info["machine"])
        return _json(await asyncio.to_thread(self.engine.machine_view, lab, machine))

    async def _delete_machine(self, request: Request) -> web.Response:
        where = (request.match_info["lab"], request.match_info["machine"])
        await asyncio.to_thread(self.engine.delete_machine, *where)
        return _json({})

    async def _act(self, request: Request) -> web.Response:
        action, lab, machine = (request.match_info[k] for k in ("action", "lab", "machine"))
        asked = await _read(request, wire.ActionRequest)
        engine = self.engine
        actions: dict[str, Callable[[], wire.MachineView]] = {
            "start": lambda: engine.start_machine(lab, machine),
            "stop": lambda: engine.stop_machine(lab, machine, asked.deadline),
            "kill": lambda: engine.kill_machine(lab, machine),
            "cut": lambda: engine.plug(lab, machine, cut=True),
            "mend": lambda: engine.plug(lab, machine, cut=False),
            "wait": lambda: engine.wait_machine(lab, machine, asked.deadline),
        }
        if action not in actions:
            raise BadRequestError(f"action {action!r}: must be one of {', '.join(actions)}")
        return _json(await asyncio.to_thread(actions[action]))

    async def _sweep(self, _: Request) -> web.Response:
        said = await asyncio.to_thread(sweep, self.engine, owners=True)
        for lab in set(self.relay.labs()) - set(self.engine.labs):
            await self.relay.close(lab)
        return _json(said)

    async def _shutdown(self, request: Request) -> web.Response:
        asked = await _read(request, wire.ShutdownRequest)
        busy = self._working > 1 or self.engine.images.busy() or bool(self.engine.labs)
        ends = not (asked.if_idle and busy)
        if ends:
            self.stop.set()
        return _json({"ends": ends, "labs": sorted(self.engine.labs)})

    async def _down(self, name: str) -> wire.Spent:
        await self.relay.close(name)
        return await asyncio.to_thread(self.engine.delete_lab, name)

    def _targets(self, name: str) -> list[str]:
        lab = self.engine.labs.get(name)
        return self.engine.relay_targets(lab) if lab else []


def serve(paths: Paths) -> int:
    """Run the daemon until SIGTERM, SIGINT or a client's request; return the exit status."""
    log.configure("lab")
    os.chdir("/")
    paths.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.labs.mkdir(parents=True, exist_ok=True)
    paths.state.chmod(0o700)
    with paths.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another daemon serves here", lock=str(paths.lock))
            return EXIT_LOCKED
        asyncio.run(_run(paths))
    return 0


async def _run(paths: Paths) -> None:
    engine = LabEngine(paths, ImageStore(paths.images), Nspawn(), Qemu(paths.accelerator), HOST_SETTINGS)
    daemon = Daemon(engine)
    loop = asyncio.get_running_loop()
    # Many clients wait for machines at once, and others must still be served.
    loop.set_default_executor(ThreadPoolExecutor(_THREADS))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop.set)
    await asyncio.to_thread(restore, engine)
    await asyncio.to_thread(sweep, engine, owners=False)
    await daemon.open_doors()
    runner = web.AppRunner(daemon.app(), access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    paths.socket.unlink(missing_ok=True)
    await web.UnixSite(runner, str(paths.socket)).start()
    paths.socket.chmod(0o600)
    write_atomically(paths.pid, f"{os.getpid()}\n", mode=PUBLIC)
    logger.info("serving", socket=str(paths.socket), labs=sorted(engine.labs))
    watch = asyncio.create_task(daemon.watch())
    await daemon.stop.wait()
    await asyncio.to_thread(engine.images.wait_idle)
    engine.closing.set()
    watch.cancel()
    await runner.cleanup()
    await daemon.relay.close_all()
    paths.pid.unlink(missing_ok=True)
    paths.socket.unlink(missing_ok=True)
    logger.info("ended", labs=sorted(engine.labs))


async def _read(request: Request, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=shape)
    except msgspec.MsgspecError as error:
        raise BadRequestError(str(error)) from error


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")

"""WebSockets while a router is drained: each is told, answers, and ends in order at both ends; elsewhere none is touched."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from tests.integration.router_rig import Rig, running
from tests.integration.test_router_edge import certificate
from tests.integration.test_router_limits import workers
from tests.support.ports import free_port
from tests.support.waiting import until

HOST = "sockets.localhost"
CLOSE = b"\x88\x02\x03\xe9"
HANDSHAKE = (
    f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()


class App:
    """An application that echoes, and writes down how each of its sockets ended."""

    def __init__(self) -> None:
        self.ends: list[WSMsgType] = []
        self.release = asyncio.Event()

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        if request.path == "/held":
            await self.release.wait()
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        chatter = asyncio.create_task(self._chat(ws)) if request.path == "/chatty" else None
        while (message := await ws.receive()).type == WSMsgType.TEXT:
            await ws.send_str(message.data)
        if chatter is not None:
            chatter.cancel()
        self.ends.append(message.type)
        return ws

    async def _chat(self, ws: web.WebSocketResponse) -> None:
        while not ws.closed:
            await ws.send_str("again")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def serving(rig: Rig) -> AsyncIterator[App]:
    """Serve the application through the router."""
    app = App()
    site = web.Application()
    site.router.add_get("/{tail:.*}", app.talk)
    runner = web.AppRunner(site, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    port = runner.addresses[0][1]
    rig.register(port, HOST, app=7)
    await wait(lambda: port in ports(rig), "nginx has the route")
    try:
        yield app
    finally:
        rig.unregister(port, HOST, app=7)
        await wait(lambda: port not in ports(rig), "nginx has forgotten the route")
        await runner.cleanup()


def ports(rig: Rig) -> set[int]:
    """The ports that nginx knows of the application."""
    return {endpoint["port"] for endpoint in rig.dump().get(HOST, [])}


Connect = Callable[..., Awaitable[aiohttp.ClientWebSocketResponse]]


@asynccontextmanager
async def clients(rig: Rig, tls_port: int = 0) -> AsyncIterator[Connect]:
    """Give what opens WebSockets, plain or by TLS."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def connect(path: str = "/", *, secure: bool = False) -> aiohttp.ClientWebSocketResponse:
            at = f"wss://127.0.0.1:{tls_port}" if secure else f"ws://127.0.0.1:{rig.port}"
            return await session.ws_connect(at + path, headers={"Host": HOST}, ssl=trusting)

        yield connect


async def wait(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(until, condition, what)


async def echoes(ws: aiohttp.ClientWebSocketResponse, text: str) -> bool:
    await ws.send_str(text)
    return bool(await ws.receive_str(timeout=20) == text)


async def ending(ws: aiohttp.ClientWebSocketResponse) -> tuple[WSMsgType, int | None]:
    """Listen to the end; give how it came, and the code that says why."""
    while True:
        message = await ws.receive(timeout=40)
        if message.type != WSMsgType.TEXT:
            return message.type, ws.close_code


def telling(rig: Rig) -> float:
    """Over how many seconds nginx tells its sockets now, by its own word."""
    connection = http.client.HTTPConnection("nginx", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(rig.folder / "data.sock"))
    try:
        connection.request("GET", "/drain")
        return float(json.load(connection.getresponse())["seconds"])
    finally:
        connection.close()


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, int]]:
    folder, port = tmp_path_factory.mktemp("certificates"), free_port()
    certificate(folder, "default", HOST)
    nginx = {
        "router_tls_port": f"127.0.0.1:{port}",
        "router_certificates_path": str(folder),
        "router_workers": 2,
    }
    with running(nginx=nginx, router={"drain_seconds": 0, "websocket_drain_seconds": 3}) as rig:
        yield rig, port


async def raw(rig: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(HANDSHAKE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return reader, writer


async def test_every_socket_is_told_and_both_ends_finish_in_order(drained: tuple[Rig, int]) -> None:
    rig, tls_port = drained
    async with serving(rig) as app, clients(rig, tls_port) as connect:
        quiet = [await connect(secure=i % 2 == 0) for i in range(60)]
        assert all([await echoes(ws, "before") for ws in quiet])
        chatty = [await connect("/chatty"), await connect("/chatty", secure=True)]
        mute, mute_writer = await raw(rig)
        await wait(lambda: rig.varz()["websockets"] == 63, "all are counted")
        assert (rig.varz()["websockets_told"], app.ends) == (0, [])
        flag = rig.folder / "drain"
        flag.touch()
        try:
            # A frame of the router's own, and nothing else.
            async with asyncio.timeout(40):
                assert await mute.readexactly(4) == CLOSE
            ends = await asyncio.gather(*(ending(ws) for ws in quiet))
            assert set(ends) == {(WSMsgType.CLOSE, 1001)}
            assert rig.readiness()[0] == 503
            # Each client's answer went on to the application.
            await wait(
                lambda: app.ends.count(WSMsgType.CLOSE) == 60, "the application heard its clients close"
            )
            # One that never falls silent is not cut into; one that does not answer is not waited for.
            assert {kind for kind, _ in await asyncio.gather(*(ending(ws) for ws in chatty))} <= {
                WSMsgType.CLOSED,
                WSMsgType.CLOSING,
            }
            async with asyncio.timeout(40):
                assert await mute.read() == b""
            await wait(lambda: rig.varz()["websockets"] == 0, "none is open")
            told = rig.varz()
            assert (told["websockets_told"], told["websockets_ended"]) == (61, 3)
            assert told["apps"]["7"]["websockets"] == 0
            # It serves what still comes, and tells it in its turn.
            late = await connect()
            assert await ending(late) == (WSMsgType.CLOSE, 1001)
        finally:
            mute_writer.close()
            flag.unlink()
            await wait(lambda: telling(rig) == 0, "telling ends")


async def test_one_that_is_not_yet_a_socket_is_left_alone(drained: tuple[Rig, int]) -> None:
    rig, _ = drained
    async with serving(rig) as app, clients(rig) as connect:
        other = await connect()
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(HANDSHAKE.replace(b"GET / ", b"GET /held "))
        flag = rig.folder / "drain"
        flag.touch()
        try:
            assert await ending(other) == (WSMsgType.CLOSE, 1001)
            flag.unlink()
            await wait(lambda: telling(rig) == 0, "telling ends")
            app.release.set()
            async with asyncio.timeout(20):
                assert (await reader.read(1000)).startswith(b"HTTP/1.1 101")
        finally:
            flag.unlink(missing_ok=True)
            writer.close()


async def test_undrain_stops_it_half_way() -> None:
    with running(router={"drain_seconds": 0, "websocket_drain_seconds": 60}) as rig:
        async with serving(rig), clients(rig) as connect:
            sockets = [await connect() for _ in range(300)]
            (rig.folder / "drain").touch()
            await wait(lambda: rig.varz()["websockets_told"] > 5, "it has begun")
            (rig.folder / "drain").unlink()
            await wait(lambda: telling(rig) == 0, "telling ends")

            async def alive(ws: aiohttp.ClientWebSocketResponse) -> bool:
                await ws.send_str("after")
                return (await ws.receive(timeout=20)).type == WSMsgType.TEXT

            first = sum(await asyncio.gather(*(alive(ws) for ws in sockets)))
            assert 0 < first < 300
            await wait(lambda: rig.varz()["websockets"] == first, "the rest stay")
            assert rig.varz()["websockets_told"] == 300 - first


async def test_a_worker_that_a_reload_replaced_tells_its_sockets_before_it_ends() -> None:
    with running(nginx={"router_shutdown_seconds": 10, "router_websocket_drain_seconds": 1}) as rig:
        async with serving(rig) as app, clients(rig) as connect:
            old = await connect()
            (worker,) = workers(rig)
            rig.reload_nginx()
            title = Path(f"/proc/{worker}/cmdline")
            await wait(lambda: b"shutting down" in title.read_bytes(), "the old worker takes no more clients")
            new = await connect()
            assert await ending(old) == (WSMsgType.CLOSE, 1001)
            await wait(lambda: app.ends == [WSMsgType.CLOSE], "the application heard its clients close")
            assert await echoes(new, "still")

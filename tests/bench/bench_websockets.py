"""Idle WebSockets outlive the router process, and get a Close frame when it drains: their number, and nginx's cost of one.

    python -m tests.bench.bench_websockets [--sockets N] [--out build/bench/websockets.json]

Opens WebSockets through one worker to one application, kills the router process and starts it again, then sends a message on every
socket and awaits its echo. Then drains the router; every client answers its Close frame. Each socket takes two descriptors of
nginx, one of the application and one here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import sys
import time
from pathlib import Path

from tests.integration.router_rig import Rig, running
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
HANDSHAKE = b"GET / HTTP/1.1\r\nHost: sockets.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
# "Going away" from the router, and a client's answer to it.
GOING_AWAY, CLOSE = b"\x88\x02\x03\xe9", b"\x88\x82\0\0\0\0\x03\xe9"
AT_A_TIME = 100
DRAIN = {"drain_seconds": 0, "websocket_drain_seconds": 10}


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def resident(rig: Rig) -> int:
    """Memory of nginx's worker in bytes."""
    worker = next(iter(rig.folder.glob("worker.*.stats"))).name.split(".")[1]
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[0]) * 1024


async def run(rig: Rig, count: int) -> dict[str, float]:
    """Open the sockets, restart the process, send on all; return the number of echoes and the memory of one socket."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, backlog=4096)
    rig.register(server.sockets[0].getsockname()[1], "sockets.localhost", app=1)
    await asyncio.to_thread(until, lambda: "sockets.localhost" in rig.dump(), "nginx has the route")
    before = resident(rig)
    pairs: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open_one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(HANDSHAKE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        pairs.append((reader, writer))

    for start in range(0, count, AT_A_TIME):
        await asyncio.gather(*(open_one() for _ in range(min(AT_A_TIME, count - start))))
    taken = resident(rig) - before
    await asyncio.to_thread(until, lambda: rig.varz()["websockets"] == count, "all are counted")
    rig.kill("router")
    rig.start_router()
    await asyncio.to_thread(rig.wait_ready)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"still here")
        try:
            async with asyncio.timeout(30):
                return await reader.readexactly(10) == b"still here"
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return False

    alive = sum(await asyncio.gather(*(say(*pair) for pair in pairs)))
    await asyncio.to_thread(until, lambda: rig.varz()["websockets"] == count, "all are counted again")

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(120):
            frame = await reader.readexactly(4)
        writer.write(CLOSE)
        writer.close()
        return frame == GOING_AWAY

    began = time.monotonic()
    (rig.folder / "drain").touch()
    left = sum(await asyncio.gather(*(leave(*pair) for pair in pairs)))
    seconds = time.monotonic() - began
    await asyncio.to_thread(until, lambda: rig.varz()["websockets"] == 0, "all are gone")
    varz = rig.varz()
    (rig.folder / "drain").unlink()
    server.close()
    return {
        "sockets": count,
        "alive": alive,
        "bytes_per_socket": round(taken / count),
        "told_on_drain": left,
        "ended_on_drain": varz["websockets_ended"],
        "drain_seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "websockets.json")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # nginx begins to close idle connections when a sixteenth of its room is left.
    room = int(arguments.sockets * 2 * 17 / 15) + 200
    with running(nginx={"router_worker_connections": room}, router=DRAIN) as rig:
        result = asyncio.run(run(rig, arguments.sockets))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(0 if result["alive"] == result["told_on_drain"] == result["sockets"] else 1)


if __name__ == "__main__":
    main()

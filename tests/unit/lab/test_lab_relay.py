"""The relay: in turn, past routers that refuse, and to the last byte."""

import asyncio
import socket

import pytest

from orchestrator.lab.errors import ConflictError
from orchestrator.lab.host.relay import Relay, in_turn


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def router(address: str, port: int) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(address.encode() + b" " + data)
        writer.close()
        await writer.wait_closed()

    return await asyncio.start_server(answer, address, port)


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_turns() -> None:
    assert in_turn([], 5) == []
    assert [in_turn(["a", "b", "c"], n)[0] for n in range(4)] == ["a", "b", "c", "a"]
    assert in_turn(["a", "b", "c"], 1) == ["b", "c", "a"]


async def test_routers_take_turns_and_dead_ones_are_skipped() -> None:
    far, near = free_port(), free_port()
    targets = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    servers = [await router("127.0.0.2", far), await router("127.0.0.4", far)]
    relay = Relay(lambda lab: targets if lab == "one" else [], router_port=far)
    await relay.open("one", near)
    await relay.open("one", near)
    answers = [await ask(near, b"x" * 200_000) for _ in range(6)]
    assert {a.split()[0] for a in answers} == {b"127.0.0.2", b"127.0.0.4"}
    assert all(len(a) == 200_010 for a in answers)
    targets[:] = ["127.0.0.3"]
    assert await ask(near, b"x") == b""
    await relay.close_all()
    with pytest.raises(OSError):
        await ask(near, b"x")
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_taken_port_is_a_conflict() -> None:
    near = free_port()
    relay = Relay(lambda _: [])
    await relay.open("one", near)
    with pytest.raises(ConflictError, match=f"port {near}"):
        await relay.open("two", near)
    assert relay.labs() == ["one"]
    await relay.close("one")
    await relay.open("two", near)
    await relay.close_all()


async def test_closing_ends_open_connections() -> None:
    far, near = free_port(), free_port()
    server = await router("127.0.0.2", far)
    relay = Relay(lambda _: ["127.0.0.2"], router_port=far)
    await relay.open("one", near)
    reader, writer = await asyncio.open_connection("127.0.0.1", near)
    writer.write(b"unfinished")
    await writer.drain()
    await relay.close("one")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    server.close()

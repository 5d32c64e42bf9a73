"""A router among peers of 2011: protocol 2.3, member by member; and what is no message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from components.common.bus.platform_hosts import REGISTER, UNREGISTER
from tests.integration.router_rig import Rig, running
from tests.integration.wire_peer import HUGE, Peer, break_all, check_discovery, get_text, kinds, peer_on
from tests.support.waiting import until_async


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running(router={"start_seconds": 0.5}) as rig:
        yield rig


async def test_a_router_among_peers_of_2011(rig: Rig) -> None:
    async with peer_on(f"nats://127.0.0.1:{rig.bus_port}") as peer:
        await peer.listen("router.start", "vcap.component.announce")
        start = await peer.hears("router.start")
        assert kinds(start).items() >= {"id": "str", "version": "float", "hosts": "list"}.items()
        assert start["version"] == 0.98
        await peer.hears("router.start", since=len(peer.heard))
        assert (await peer.ask("router.greet")) == start
        await check_discovery(peer, "Router")
        await _route(rig, peer, "one.ingot.localhost")
        metrics = f"http://127.0.0.1:{rig.status_port}/metrics"
        await _platform(rig, peer)
        await break_all(
            peer,
            [
                "router.register",
                "router.unregister",
                "ingot.platform.register",
                "ingot.platform.unregister",
            ],
            lambda: get_text(metrics, "status", "p"),
        )
        for host, port in (
            ("127.0.0.1", 0),
            ("127.0.0.1", HUGE),
            ("127.0.0.1", -1),
            ("no address", 80),
            ("", 80),
            ("0.0.0.0", 65536),
        ):
            for uri in ("bad.ingot.localhost", "", "a b", "x" * 5000, "../..", "\u0000", "\ud800"):
                for subject in (*REGISTER, *UNREGISTER):
                    await peer.say(subject, {"host": host, "port": port, "uris": [uri], "tags": {}})
        await peer.say("router.greet", b"\xff[[[")
        await _route(rig, peer, "two.ingot.localhost")
        await _platform(rig, peer)
        assert await status(rig, "bad.ingot.localhost") == 404
        assert "Traceback" not in rig.log("router.out")


async def _route(rig: Rig, peer: Peer, host: str) -> None:
    backend = await asyncio.to_thread(rig.backend, host)
    # As a DEA of 2011 writes it, and a controller, and one of a later year.
    whole = {"dea": "0-" + "a" * 32, "app": 12, "host": "127.0.0.1", "port": backend.port, "uris": [host.upper()],
             "tags": {"framework": "sinatra", "runtime": "ruby18"}}  # fmt: skip
    least = {"host": "127.0.0.1", "port": backend.port, "uris": [host]}
    for message in (
        whole,
        {**whole, "private_instance_id": "x", "stale": 1},
        {**least, "tags": {"component": "CloudController"}},
        least,
    ):
        await peer.say("router.register", message)
        await until_async(lambda: _is(rig, host, 200), f"{host} is served")
        await peer.say("router.unregister", message)
        await until_async(lambda: _is(rig, host, 404), f"{host} is gone")


async def _platform(rig: Rig, peer: Peer) -> None:
    """Protocol 2.3's messages on subjects of ours: a peer of 2011 may not say them, and cannot say this host otherwise."""
    host = "api.ingot.localhost"
    backend = await asyncio.to_thread(rig.backend, host)
    route = {
        "host": "127.0.0.1",
        "port": backend.port,
        "uris": [host],
        "tags": {"component": "CloudController"},
    }
    await peer.say("ingot.platform.register", route)
    await until_async(lambda: _is(rig, host, 200), f"{host} is served")
    await peer.say("router.unregister", route)
    await _route(rig, peer, "between.ingot.localhost")
    assert await status(rig, host) == 200
    await peer.say("ingot.platform.unregister", route)
    await until_async(lambda: _is(rig, host, 404), f"{host} is gone")
    await peer.say("router.register", route)
    await _route(rig, peer, "between.ingot.localhost")
    assert await status(rig, host) == 404


async def _is(rig: Rig, host: str, wanted: int) -> bool:
    return await status(rig, host) == wanted


async def status(rig: Rig, host: str) -> int:
    return (await asyncio.to_thread(rig.get, host)).status

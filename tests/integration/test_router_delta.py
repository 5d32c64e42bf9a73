"""The delta protocol of the data socket (docs/platform.md), against a real nginx and without a router process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

import aiohttp
import pytest

from components.router.errors import NginxError
from components.router.nginx import Delta, Nginx
from components.router.routes import Endpoint
from tests.integration.router_rig import Rig

ONE = [Endpoint("10.0.0.1", 61001, 7, "instance", {"framework": "sinatra"})]
TWO = [Endpoint("10.0.0.2", 61002), Endpoint("fd00::2", 61003, instance="other")]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    try:
        rig.start_nginx()
        yield rig
    finally:
        rig.stop()


@pytest.fixture
async def nginx(rig: Rig) -> AsyncIterator[Nginx]:
    client = Nginx(rig.folder / "data.sock")
    await client.open()
    yield client
    await client.close()


async def hosts(nginx: Nginx) -> dict[str, Sequence[Endpoint]]:
    return dict((await nginx.routes()).routes)


async def refused(nginx: Nginx, delta: Delta) -> int:
    with pytest.raises(NginxError) as error:
        await nginx.push(delta)
    return error.value.status


async def test_a_delta_follows_a_whole_table_and_another_delta(nginx: Nginx) -> None:
    assert await refused(nginx, Delta("e", 1, {"a.x": ONE})) == 409
    await nginx.push(Delta("e", 5, {"a.x": ONE}, full=True))
    held = await nginx.push(Delta("e", 6, {"b.x": TWO}))
    assert (held.epoch, held.seq, held.loaded) == ("e", 6, True)
    assert await hosts(nginx) == {"a.x": ONE, "b.x": TWO}
    await nginx.push(Delta("e", 7, {"a.x": TWO}, ["b.x", "never.x"]))
    assert await hosts(nginx) == {"a.x": TWO}


async def test_what_is_no_successor_is_refused_and_changes_nothing(nginx: Nginx) -> None:
    await nginx.push(Delta("e", 5, {"a.x": ONE}, full=True))
    for delta in (
        Delta("e", 5, {"b.x": ONE}),
        Delta("e", 7, {"b.x": ONE}),
        Delta("f", 6, {"b.x": ONE}),
        Delta("e", 7, {"b.x": ONE}, full=True, part=1),
    ):
        assert await refused(nginx, delta) == 409
    assert await hosts(nginx) == {"a.x": ONE}
    assert (await nginx.state()).seq == 5


async def test_a_whole_table_in_parts_drops_old_hosts_only_at_its_end(nginx: Nginx) -> None:
    await nginx.push(Delta("e", 1, {"a.x": ONE, "*.x": ONE, "old.x": ONE}, full=True))
    held = await nginx.push(Delta("f", 1, {"a.x": TWO}, full=True, more=True))
    assert not held.loaded
    assert await hosts(nginx) == {"a.x": TWO, "*.x": ONE, "old.x": ONE}
    held = await nginx.push(Delta("f", 2, {"b.x": ONE}, full=True, part=1))
    assert held.loaded
    assert await hosts(nginx) == {"a.x": TWO, "b.x": ONE}


async def test_a_worker_follows_sets_deletions_and_wildcards(rig: Rig, nginx: Nginx) -> None:
    backend = rig.backend("b")
    there = [Endpoint("127.0.0.1", backend.port)]
    await nginx.push(Delta("e", 1, {"a.x": there}, full=True))
    assert (rig.get("a.x").status, rig.get("w.x").status) == (200, 503)
    await nginx.push(Delta("e", 2, {"*.x": there}, ["a.x"]))
    assert (rig.get("a.x").status, rig.get("w.x").status) == (200, 200)
    await nginx.push(Delta("e", 3, {}, ["*.x"]))
    assert (rig.get("a.x").status, rig.get("w.x").status) == (503, 503)
    await nginx.push(Delta("f", 1, {"*.x": there}, full=True))
    assert rig.get("w.x").status == 200


async def test_more_changes_than_a_worker_follows(rig: Rig, nginx: Nginx) -> None:
    there = [Endpoint("127.0.0.1", rig.backend("b").port)]
    await nginx.push(Delta("e", 1, {"a.x": there, "b.x": there}, full=True))
    assert rig.get("a.x").status == 200
    for number in range(1100):
        await nginx.push(Delta("e", 2 + number, {f"h{number}.x": ONE}, ["a.x"]))
    assert (rig.get("a.x").status, rig.get("b.x").status) == (503, 200)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"epoch":1,"seq":1}', b'{"epoch":"e"}'])
async def test_nonsense_is_refused(rig: Rig, nginx: Nginx, body: bytes) -> None:
    connector = aiohttp.UnixConnector(path=str(rig.folder / "data.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        response = await session.post("http://nginx/routes", data=body)
        assert response.status == 400
        assert (await session.get("http://nginx/elsewhere")).status == 404
    assert (await nginx.state()).epoch is None

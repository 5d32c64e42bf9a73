"""The synchronisation with an nginx that keeps the rules of the delta protocol and fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from components.router.errors import NginxError
from components.router.nginx import Delta, Dump, NginxState
from components.router.nginx_sync import MAX_ENDPOINTS, NginxSync
from components.router.routes import Endpoint
from components.router.table import Table


class FakeNginx:
    """docs/platform.md, "The router's sockets"."""

    def __init__(self) -> None:
        self.held = NginxState()
        self.hosts: dict[str, Sequence[Endpoint]] = {}
        self.named: set[str] = set()
        self.deltas: list[Delta] = []
        self.failures: list[NginxError] = []
        self.lose_next_answer = False

    async def state(self) -> NginxState:
        return self.held

    async def routes(self) -> Dump:
        return Dump({h: list(e) for h, e in self.hosts.items()}, self.held.loaded, self.held.epoch)

    async def stats(self) -> dict[str, float]:
        return {}

    async def push(self, delta: Delta) -> NginxState:
        if self.failures:
            raise self.failures.pop(0)
        opening = delta.full and delta.part == 0
        if not opening and (delta.epoch, delta.seq) != (self.held.epoch, self.held.seq + 1):
            raise NginxError("another sequence", 409)
        self.deltas.append(delta)
        if opening:
            self.named = set()
        self.named |= set(delta.set)
        self.hosts.update(delta.set)
        for host in delta.delete:
            self.hosts.pop(host, None)
        loaded = self.held.loaded and not opening
        if delta.full and not delta.more:
            self.hosts = {h: e for h, e in self.hosts.items() if h in self.named}
            loaded = True
        self.held = NginxState(delta.epoch, delta.seq, loaded)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise NginxError("the connection broke")
        return self.held

    def restart(self) -> None:
        self.held, self.hosts = NginxState(), {}


def make(hosts: int = 0) -> tuple[FakeNginx, Table, NginxSync]:
    nginx, table = FakeNginx(), Table()
    for i in range(hosts):
        table.register([f"h{i}.x"], Endpoint("10.0.0.1", 1 + i), 0)
    return nginx, table, NginxSync(nginx, table, 0)  # type: ignore[arg-type]


def expected(table: Table) -> dict[str, Sequence[Endpoint]]:
    return {h: table.routes(h) for h in table.names()}


async def test_first_the_whole_table_then_only_changes() -> None:
    nginx, table, sync = make(2 * MAX_ENDPOINTS + 1)
    await sync.step()
    assert nginx.hosts == expected(table)
    assert [d.more for d in nginx.deltas] == [True, True, False]
    nginx.deltas.clear()
    table.register(["new.x"], Endpoint("10.0.0.9", 9), 0)
    table.unregister(["h0.x"], Endpoint("10.0.0.1", 1))
    await sync.step()
    (delta,) = nginx.deltas
    assert (set(delta.set), list(delta.delete), delta.full) == ({"new.x"}, ["h0.x"], False)
    assert nginx.hosts == expected(table)
    await sync.step()
    assert len(nginx.deltas) == 1


async def test_an_empty_table_is_a_table() -> None:
    nginx, _, sync = make()
    await sync.step()
    assert nginx.held.loaded
    assert sync.synced


async def test_a_restarted_nginx_gets_the_whole_table() -> None:
    nginx, table, sync = make(3)
    await sync.step()
    nginx.restart()
    await sync.step()
    assert nginx.hosts == expected(table)


async def test_whatever_fails_the_next_steps_make_it_good() -> None:
    for failure in ("refused", "conflict", "lost"):
        nginx, table, sync = make(3)
        await sync.step()
        table.register(["new.x"], Endpoint("10.0.0.9", 9), 0)
        if failure == "lost":
            nginx.lose_next_answer = True
        else:
            nginx.failures = [NginxError(failure, 409 if failure == "conflict" else 500)]
        await sync.step()
        assert sync.synced == (failure == "conflict")
        await sync.step()
        assert sync.synced
        assert nginx.hosts == expected(table)


async def test_a_table_broken_off_in_the_middle_is_sent_again() -> None:
    nginx, table, sync = make(3 * MAX_ENDPOINTS)
    nginx.lose_next_answer = True
    await sync.step()
    assert not nginx.held.loaded
    await sync.step()
    assert nginx.hosts == expected(table)


async def test_a_new_process_takes_over_what_nginx_serves() -> None:
    nginx, table, sync = make(3)
    await sync.step()
    successor_table = Table()
    successor_table.register(["own.x"], Endpoint("10.0.0.7", 7), 0)
    successor = NginxSync(nginx, successor_table, 0)  # type: ignore[arg-type]
    await successor.step()
    assert set(nginx.hosts) == {*expected(table), "own.x"}
    assert nginx.held.epoch == successor.epoch != sync.epoch


async def test_a_process_that_ended_in_the_middle_of_a_whole_table_loses_no_route() -> None:
    nginx, table, sync = make(3 * MAX_ENDPOINTS)
    await sync.step()
    second = NginxSync(nginx, Table(), 0)  # type: ignore[arg-type]
    nginx.lose_next_answer = True
    await second.step()
    assert not nginx.held.loaded
    await NginxSync(nginx, Table(), 0).step()  # type: ignore[arg-type]
    assert nginx.hosts == expected(table)


async def test_hosts_of_the_platform_are_taken_over_only_from_one_who_kept_them() -> None:
    api, app = Endpoint("10.0.0.1", 9022), Endpoint("10.0.0.2", 61001, 7)
    release_before = Table()
    release_before.register(["api.x"], api, 0)
    release_before.register(["api.x", "a.x"], app, 0)
    fewer, same = ["api.x"], ["api.x", "www.x"]
    cases = [(release_before, same, 1), (_kept(fewer, api, app), same, 1), (_kept(same, api, app), same, 3)]
    for before, platform, routes in cases:
        nginx, table = FakeNginx(), Table(platform=platform)
        await NginxSync(nginx, before, 0).step()  # type: ignore[arg-type]
        assert nginx.held.loaded
        await NginxSync(nginx, table, 0).step()  # type: ignore[arg-type]
        assert sum(len(endpoints) for endpoints in nginx.hosts.values()) == routes
        assert app not in nginx.hosts.get("api.x", [])
        assert nginx.hosts["a.x"] == [app]


def _kept(platform: Sequence[str], api: Endpoint, app: Endpoint) -> Table:
    table = Table(platform=platform)
    table.register(["api.x"], api, 0, platform=True)
    table.register(["a.x"], app, 0)
    table.register(["www.x"], app, 0, platform="www.x" in platform)
    return table


async def test_half_a_table_proves_nothing_about_hosts_of_the_platform() -> None:
    before = Table()
    before.register(["api.x"], Endpoint("10.0.0.2", 61001), 0)
    nginx = FakeNginx()
    await NginxSync(nginx, before, 0).step()  # type: ignore[arg-type]
    second = Table(platform=["api.x"])
    for number in range(2 * MAX_ENDPOINTS):
        second.register([f"h{number}.x"], Endpoint("10.0.0.1", 1 + number), 0)
    nginx.lose_next_answer = True
    await NginxSync(nginx, second, 0).step()  # type: ignore[arg-type]
    assert "api.x" in nginx.hosts, "the last part, which removes it, did not come"
    await NginxSync(nginx, Table(platform=["api.x"]), 0).step()  # type: ignore[arg-type]
    assert "api.x" not in nginx.hosts


async def test_flush_waits_for_what_is_there_now() -> None:
    nginx, table, sync = make()
    runner = asyncio.create_task(sync.run())
    try:
        table.register(["new.x"], Endpoint("10.0.0.9", 9), 0)
        assert await sync.flush(5)
        assert "new.x" in nginx.hosts
        nginx.failures = [NginxError("away")] * 1000
        table.register(["late.x"], Endpoint("10.0.0.9", 10), 0)
        assert not await sync.flush(0.05)
    finally:
        runner.cancel()

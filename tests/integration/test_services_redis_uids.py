"""Each Redis server has a uid of its own, one that a release before made included. Real servers, which change their uid as units do."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from components.common.config import parse
from components.common.units import ProcessRunner, UnitSpec
from components.services.base.errors import ServiceError
from components.services.redis.config import RedisNodeConfig
from components.services.redis.folders import Folders
from components.services.redis.instance_manager import InstanceManager
from components.services.redis.records import Record
from tests.integration.common_rig import free_port, until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root changes uids"),
    # A newer client of Redis than the platform's least has other words for what the node asks it.
    pytest.mark.filterwarnings("ignore:Call to '__init__' function with deprecated:DeprecationWarning"),
]
FIRST = 48990
PASSWORD = "owner's password"


class AsUser(ProcessRunner):
    """Plain processes with the uid that the unit would have; limits of another's process are not everywhere root's to set."""

    async def start(self, spec: UnitSpec) -> None:
        prefix = ["/usr/bin/setpriv", f"--reuid={spec.uid}", f"--regid={spec.uid}", "--clear-groups", "--"]
        await super().start(dataclasses.replace(spec, argv=[*prefix, *spec.argv], uid=None, nofile=None))


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's, which root alone may enter.
    made = Path(tempfile.mkdtemp(prefix="ingot-redis-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def config_of(folder: Path, **changes: Any) -> RedisNodeConfig:
    port = free_port()
    given = {
        "bus": {"urls": ["nats://127.0.0.1:1"]},
        "node_id": "redis_node_1",
        "base_dir": str(folder / "redis"),
        "bind": "127.0.0.1",
        "ports": {"first": port, "last": port + 9},
        "capacity": 2,
        "memory_mb": 8,
        "uids": {"first": FIRST, "last": FIRST + 1},
    }
    return parse({**given, **changes}, RedisNodeConfig)


@asynccontextmanager
async def managing(config: RedisNodeConfig, folder: Path) -> AsyncIterator[InstanceManager]:
    """Have a manager keep instances; with it they end."""
    locks: dict[str, asyncio.Lock] = {}
    background: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        background.add(task)
        return task

    runner = AsUser(folder / "units")
    manager = InstanceManager(config, runner, lambda name: locks.setdefault(name, asyncio.Lock()), spawn)
    try:
        yield manager
    finally:
        for name in list(manager.records):
            await manager.remove(name)
        await manager.close()


async def owner(record: Record) -> set[str]:
    """Return the uids of a server that answers, as the kernel has them."""
    async with Redis(host="127.0.0.1", port=record.port, username="owner", password=PASSWORD) as client:
        await client.set("key", "value")
    return _uids(f":{record.port}".encode())


def _uids(address: bytes) -> set[str]:
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            if title.startswith(b"/usr/bin/redis-server") and address in title:
                found |= set((process / "status").read_text().split("Uid:")[1].split("\n")[0].split())
        except OSError:
            continue
    return found


async def test_no_two_servers_share_a_uid(folder: Path) -> None:
    config = config_of(folder)
    async with managing(config, folder) as manager:
        one, two = [await manager.create("free", name, PASSWORD) for name in ("one", "two")]
        assert (await owner(one), await owner(two)) == ({str(FIRST)}, {str(FIRST + 1)})
        folders = Folders(config)
        for record in (one, two):
            facts = folders.of(record.name).stat(), (folders.of(record.name) / "data").stat()
            assert [(f.st_uid, f.st_gid) for f in facts] == [(0, record.uid), (record.uid, record.uid)]
            assert facts[0].st_mode & 0o007 == 0
        with pytest.raises(ServiceError, match=f"no uid from {FIRST} to {FIRST + 1} is free"):
            await manager.create("free", "three", PASSWORD)
        assert set(manager.records) == {"one", "two"}
        # Given back, it is another's.
        await manager.remove("one")
        assert (await manager.create("free", "three", PASSWORD)).uid == FIRST


async def test_a_server_of_a_release_before_keeps_its_data_and_gets_a_uid_at_its_next_start(
    folder: Path,
) -> None:
    config, stranger = config_of(folder), folder / "not_its_own"
    stranger.write_text("root's")
    async with managing(config, folder) as manager:
        old = await manager.create("free", "old", PASSWORD)
        await owner(old)
        # The machine goes down: what runs ends, and nobody removes it.
        manager.records.clear()
        await manager.close()
        runner = AsUser(folder / "units")
        await runner.stop(old.unit, 10)
        await runner.close()
        folders = Folders(config)
        # As a release before left it: all is one account's, and the record names none.
        data = folders.of("old") / "data"
        (data / "link").symlink_to(stranger)
        for path in (data, *data.rglob("*")):
            os.chown(path, 806, 806, follow_symlinks=False)
        record = msgspec.json.decode((folders.of("old") / "instance.json").read_bytes())
        del record["uid"]
        (folders.of("old") / "instance.json").write_bytes(msgspec.json.encode(record))

    async with managing(config, folder) as manager:
        await manager.recover()
        await until(lambda: "old" not in manager.down, "it is up again")
        found = manager.records["old"]
        assert found.uid == FIRST
        assert await owner(found) == {str(FIRST)}
        async with Redis(host="127.0.0.1", port=found.port, username="owner", password=PASSWORD) as client:
            assert await client.get("key") == b"value"
        assert {p.lstat().st_uid for p in data.rglob("*")} == {FIRST}
        assert stranger.stat().st_uid == 0
        # What is written down is so for the next node, too.
        assert [r.uid for r in folders.load()] == [FIRST]

"""`ingot-service-redis-node`: one real redis-server for each instance, a user for each binding."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import msgspec

from components.common.bus.client import Bus
from components.common.bus.service_messages import Credentials, ServiceAnnouncement
from components.common.daemon import run
from components.common.identity import Identity
from components.common.units import ProcessRunner, Runner, SystemdRunner
from components.services.base import Node, ServiceError
from components.services.base.credentials import digest
from components.services.redis.config import RedisNodeConfig
from components.services.redis.errors import INVALID_CREDENTIALS, INVALID_PLAN
from components.services.redis.instance_manager import InstanceManager
from components.services.redis.records import OWNER, Binding, Record, wanted_identity, wanted_user

_VERSION_SECONDS = 10.0


class RedisNode(Node[RedisNodeConfig]):
    """The Redis node."""

    service_name = "RaaS"

    def __init__(self, config: RedisNodeConfig, bus: Bus, identity: Identity) -> None:
        super().__init__(config, bus, identity)
        self._version = ""
        self._instances = InstanceManager(config, _runner(config), self.lock, self.spawn)

    async def start(self) -> None:
        """Find the instances again, and begin."""
        self._version = await _version(self.config.executable)
        await self._instances.recover()
        await super().start()

    async def stop(self) -> None:
        """Finish accepted requests, and release the instances."""
        await super().stop()
        await self._instances.close()

    async def provision(self, plan: str, credentials: Credentials | None) -> Credentials:
        """See `Node.provision`."""
        if plan and plan != self.config.plan:
            raise ServiceError(INVALID_PLAN, f"this node has no plan {plan}")
        name, password = wanted_identity(credentials)
        if name in self._instances.records:
            record = self._instances.get(name)
            if record.owner_digest != digest(password):
                raise ServiceError(INVALID_CREDENTIALS, f"the instance {name} is there with another password")
        else:
            record = await self._instances.create(self.config.plan, name, password)
        return {**self._credentials(record, OWNER, password), "node_id": self.config.node_id}

    async def unprovision(self, name: str, bindings: list[Credentials]) -> None:  # noqa: ARG002 - they go with it
        """See `Node.unprovision`."""
        await self._instances.remove(name)

    async def bind(self, name: str, options: dict[str, Any], credentials: Credentials | None) -> Credentials:  # noqa: ARG002 - Redis knows none
        """See `Node.bind`."""
        record = self._instances.get(name)
        username, password = wanted_user(credentials)
        await self._instances.add_binding(record, Binding(username, digest(password)))
        return self._credentials(record, username, password)

    async def unbind(self, credentials: Credentials) -> None:
        """See `Node.unbind`."""
        record = self._instances.records.get(str(credentials.get("name", "")))
        binding = record.find(credentials) if record is not None else None
        if record is not None and binding is not None:
            await self._instances.remove_binding(record, binding)

    def instances(self) -> list[str]:
        """See `Node.instances`."""
        return [record.name for record in self._instances.records.values() if record.ready]

    def bindings(self) -> list[Credentials]:
        """See `Node.bindings`."""
        return [
            {"name": record.name, "username": binding.username}
            for record in self._instances.records.values()
            for binding in record.bindings
        ]

    def announcement(self) -> ServiceAnnouncement:
        """Return the announcement with the memory, by which gateways of 2011 decide."""
        announcement = super().announcement()
        return msgspec.structs.replace(
            announcement, available_memory=(announcement.available_capacity or 0) * self.config.memory_mb
        )

    def ready(self) -> list[str]:
        """Return the reasons why nothing can be made, such as a missing program."""
        return super().ready() if self._version else [*super().ready(), "no_redis_server"]

    def varz(self) -> dict[str, object]:
        """Return the version, and every instance with its port and number of bindings."""
        table = {
            r.name: {"port": r.port, "bindings": len(r.bindings), "up": r.name not in self._instances.down}
            for r in self._instances.records.values()
        }
        return {**super().varz(), "redis_version": self._version, "instance_table": table}

    def _credentials(self, record: Record, username: str, password: str) -> Credentials:
        """Return credentials in the form of protocol 6.7, with the user, which 2011 did not know."""
        return {
            "hostname": self.config.address,
            "host": self.config.address,
            "port": record.port,
            "password": password,
            "name": record.name,
            "username": username,
        }


def _runner(config: RedisNodeConfig) -> Runner:
    if config.sandbox == "systemd":
        return SystemdRunner(Path(config.run_dir) / "units")
    return ProcessRunner(Path(config.base_dir) / "units")


async def _version(executable: str) -> str:
    """Return the version of the server's program; empty where it prints none."""
    with contextlib.suppress(OSError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            executable, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        output, _ = await asyncio.wait_for(process.communicate(), _VERSION_SECONDS)
        match = re.search(r"v=([0-9.]+)", output.decode(errors="replace"))
        return match[1] if match else ""
    return ""


def main() -> None:
    """Run the node."""
    run("service_redis_node", "RaaS-Node", RedisNodeConfig, RedisNode)


if __name__ == "__main__":
    main()

"""Whether an instance has come up: its health check over HTTP, its state file; and the script of a one-off task."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import DeaStart, HealthCheck, Limits
from components.common.config import parse
from components.common.states import InstanceState
from components.dea.config import DeaConfig
from components.dea.folders.launcher import task_script
from components.dea.instances.instance import Instance
from components.dea.ports.readiness import NotReadyError, answer, ready


class Server:
    """Answers every connection with the same bytes; keeps what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.says: bytes | None = b"HTTP/1.1 200 OK\r\n\r\n"
        self.asked: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        except asyncio.IncompleteReadError:
            self.asked.append("")
        if self.says is None:
            await reader.read()
        else:
            writer.write(self.says)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    listening = await asyncio.start_server(found, "127.0.0.1", 0)
    found.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield found


def instance(port: int | None, health: HealthCheck | None = None) -> Instance:
    message = DeaStart(droplet=1, name="a", version="v", uris=["a.x"], limits=Limits(mem=1), health=health)
    found = Instance.of(message, "a" * 32, 0)
    found.port = port
    return found


def config(**more: Any) -> DeaConfig:
    return parse({"bus": {"urls": ["nats://x:1"]}, "start_timeout": 0.3, **more}, DeaConfig)


@pytest.mark.parametrize(
    ("says", "heard"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204"),
        (b"HTTP/1.0 302 Found\r\n\r\n", "302"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "500"),
        (b"SSH-2.0-x\r\n", "it spoke no HTTP"),
        (b"HTTP/1.1 abc\r\n", "it spoke no HTTP"),
        (b"x" * 100_000, "it spoke no HTTP"),
        (b"", "it spoke no HTTP"),
        (None, "no answer within 0.2 s"),
    ],
)
async def test_an_answer_is_its_status_or_why_there_is_none(
    server: Server, says: bytes | None, heard: str
) -> None:
    server.says = says
    assert await answer("127.0.0.1", instance(server.port), "/up", 0.2) == heard


async def test_a_path_cannot_bring_headers_of_its_own(server: Server) -> None:
    await answer("127.0.0.1", instance(server.port), "up?a=b&c=%20\r\nX: y z", 5)
    first, host, *_rest = server.asked[0].split("\r\n")
    assert first == "GET /up?a=b&c=%20%0D%0AX:%20y%20z HTTP/1.1"
    assert host == "Host: a.x"


async def test_a_health_check_wants_its_answer_in_its_own_time(server: Server) -> None:
    health = HealthCheck(path="/up", timeout=0.3)
    assert await ready(instance(server.port, health), Path(), config())
    server.says = b"HTTP/1.1 503 No\r\n\r\n"
    with pytest.raises(NotReadyError, match=r"/up did not answer 2xx or 3xx \(last: 503\) within 0.3 s"):
        await ready(instance(server.port, health), Path(), config(start_timeout=60))


async def test_without_a_path_the_port_counts_in_the_checks_time(server: Server) -> None:
    assert await ready(instance(server.port, HealthCheck(timeout=5)), Path(), config())
    with pytest.raises(NotReadyError, match=r"did not open its port 1 within 0.2 s"):
        await ready(instance(1, HealthCheck(timeout=0.2)), Path(), config())
    with pytest.raises(NotReadyError, match=r"within 0.3 s"):
        await ready(instance(1, HealthCheck(timeout=-1)), Path(), config())


@pytest.mark.parametrize("path", ["/up", None])
async def test_an_answer_of_somebody_else_is_refused_at_once(server: Server, path: str | None) -> None:
    found = instance(server.port, HealthCheck(path=path, timeout=60))
    found.uid = os.geteuid() + 1
    with pytest.raises(NotReadyError, match=rf"\(uid {os.geteuid()}\) listens on its port {server.port}$"):
        await ready(found, Path(), config())


async def test_a_state_file_is_no_excuse_for_a_port_of_others(server: Server, tmp_path: Path) -> None:
    found = instance(server.port)
    found.uid, found.state_file = os.geteuid() + 1, "state"
    (tmp_path / "state").write_text('{"state": "RUNNING"}')
    with pytest.raises(NotReadyError, match="listens on its port"):
        await ready(found, tmp_path, config())


async def test_a_state_file_counts_where_a_droplet_names_one(tmp_path: Path) -> None:
    found = instance(1)
    found.state_file = "state"
    (tmp_path / "state").write_text('{"state": "STARTING"}')
    with pytest.raises(NotReadyError, match="did not report RUNNING in state"):
        await ready(found, tmp_path, config(state_file_timeout=0.2))
    (tmp_path / "state").write_text('{"state": "RUNNING"}')
    assert await ready(found, tmp_path, config())


async def test_one_that_is_no_longer_starting_is_not_waited_for() -> None:
    found = instance(1)
    found.state = InstanceState.STOPPING
    assert not await ready(found, Path(), config(start_timeout=60))
    assert await ready(instance(None), Path(), config())


def test_a_task_has_what_the_startup_script_exports(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    startup = '#!/bin/bash\nexit 1\nexport A="x y"\nunset B\nrm -rf app\n  export C=1\n'
    script = tmp_path / "task"
    script.write_text(task_script(startup, 'pwd; echo "$A ${B-none} ${C-none} it\'s"'))
    done = subprocess.run(
        ["/bin/bash", script],
        env={"B": "1", "PATH": "/bin:/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path}/app\nx y none none it's\n"

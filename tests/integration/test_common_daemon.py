"""What every daemon is built upon, against a real nats-server: the probes, and a daemon's life."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from common_rig import DAEMON, ROOT, NatsServer, bus_of, up

from components.common.bus.client import Incoming
from components.common.bus.messages import ComponentAnnouncement
from components.common.config import StatusConfig
from components.common.probes import Probes
from components.common.version import VERSION
from tests.support.waiting import until_async


async def test_probes_are_open_where_they_should_be_and_closed_where_they_tell(
    closing: AsyncExitStack,
) -> None:
    reasons: list[str] = ["not_yet"]
    probes = Probes(
        StatusConfig(host="127.0.0.1", password="pw"), lambda: reasons, lambda: {"colour": "green"}
    )
    closing.push_async_callback(probes.stop)
    await probes.start()
    assert probes.credentials == ["status", "pw"]
    session = await closing.enter_async_context(aiohttp.ClientSession())

    async def get(path: str, password: str | None = None) -> tuple[int, str]:
        headers = {} if password is None else {"Authorization": aiohttp.encode_basic_auth("status", password)}
        async with session.get(f"http://127.0.0.1:{probes.port}{path}", headers=headers) as reply:
            return reply.status, await reply.text()

    assert await get("/healthz") == (200, "ok\n")
    status, text = await get("/readyz")
    assert (status, json.loads(text)) == (503, {"ready": False, "reasons": ["not_yet"], "release": VERSION})
    reasons.clear()
    assert (await get("/readyz"))[0] == 200
    for path in ("/varz", "/metrics"):
        assert (await get(path))[0] == 401
        assert (await get(path, "wrong"))[0] == 401
    assert json.loads((await get("/varz", "pw"))[1]) == {"colour": "green"}
    assert "ingot_bus_connected" in (await get("/metrics", "pw"))[1]


# The daemon.


def daemon(folder: Path, content: Any, *arguments: str) -> list[str]:
    path = folder / "sample.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return [sys.executable, "-c", DAEMON, "--config", str(path), *arguments]


def checked(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_check_config_reports_every_problem_and_exits_2(tmp_path: Path) -> None:
    bad = {"bus": {"urls": ["http://x"], "password": "hidden"}, "status": {"port": -1}, "shape": 1}
    result = checked(daemon(tmp_path, bad, "--check-config"))
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    for key in ("bus.urls: ", "status.port: ", "colour: is required", "shape: not a key"):
        assert any(key in line for line in lines), (key, lines)
    assert "hidden" not in result.stderr


def test_check_config_accepts_a_good_one_and_starts_nothing(tmp_path: Path) -> None:
    good = {"bus": {"urls": ["nats://127.0.0.1:9"]}, "colour": "green"}
    result = checked(daemon(tmp_path, good, "--check-config"))
    assert result.returncode == 0
    assert "sample started" not in result.stdout


async def test_a_daemon_announces_itself_answers_and_ends_on_sigterm(
    tmp_path: Path, nats: NatsServer, closing: AsyncExitStack
) -> None:
    orchestrator = bus_of(closing, nats)
    announced: list[ComponentAnnouncement] = []

    async def hear(message: Incoming[ComponentAnnouncement]) -> None:
        announced.append(message.body)

    orchestrator.subscribe("vcap.component.announce", ComponentAnnouncement, hear)
    await up(orchestrator)
    content = {
        "bus": {"urls": [nats.url]},
        "status": {"host": "127.0.0.1"},
        "index": 2,
        "colour": "green",
    }
    environment = {**os.environ, "INGOT_RELEASE": "9.9"}
    process = await asyncio.create_subprocess_exec(
        *daemon(tmp_path, content), cwd=ROOT, env=environment, stdout=subprocess.PIPE
    )
    try:
        await until_async(lambda: announced, "its announcement")
        (said,) = announced
        assert (said.type, said.index) == ("Sample", 2)
        found = await orchestrator.request_many(
            "vcap.component.discover", None, ComponentAnnouncement, timeout=10, expected=1
        )
        assert found[0].uuid == said.uuid
        assert found[0].uptime is not None
        headers = {"Authorization": aiohttp.encode_basic_auth(*said.credentials)}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"http://{said.host}/varz") as reply,
        ):
            facts = await reply.json()
        assert (facts["type"], facts["colour"]) == ("Sample", "green")
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    text = output.decode()
    assert "sample stopped" in text
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [e["event"] for e in events][-1] == "daemon_stopped"
    assert {e["release"] for e in events} == {"9.9"}
    assert said.credentials[1] not in text


async def test_a_daemon_without_a_bus_lives_and_ends(tmp_path: Path) -> None:
    content = {"bus": {"urls": ["nats://127.0.0.1:9"]}, "status": {"host": "127.0.0.1"}, "colour": "green"}
    process = await asyncio.create_subprocess_exec(
        *daemon(tmp_path, content), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        while b"daemon_started" not in await asyncio.wait_for(process.stdout.readline(), 20):
            pass
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    assert b"sample stopped" in output


async def test_a_taken_port_is_said_and_ends_it(tmp_path: Path, closing: AsyncExitStack) -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    closing.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    content = {
        "bus": {"urls": ["nats://127.0.0.1:9"]},
        "status": {"host": "127.0.0.1", "port": port},
        "colour": "green",
    }
    result = await asyncio.to_thread(checked, daemon(tmp_path, content))
    assert result.returncode == 1
    assert '"daemon_failed"' in result.stdout

"""A stager among peers of 2012 (protocol 7.5): the request, its answer, and what is no request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stager_rig import APPS, Rig, zipped
from tests.integration.wire_peer import Peer, break_all, check_discovery, get_text, kinds, peer_on

OPTIONS = {"user": "controller", "password": "controller", "inbox_prefix": b"_INBOX_controller"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    try:
        yield rig
    finally:
        rig.close()


async def test_a_stager_among_peers_of_2012(rig: Rig) -> None:
    async with peer_on(f"nats://127.0.0.1:{rig.bus_port}", **OPTIONS) as peer:
        await check_discovery(peer, "Stager")
        await _staged(rig, peer)
        metrics = f"http://127.0.0.1:{rig.status_port}/metrics"
        await break_all(peer, ["staging"], lambda: get_text(metrics, "status", "x"))
        # What has the shape of a request and makes no sense is answered.
        whole = rig.request(zipped(APPS / "hello"), "wsgi", "python3")
        senseless = {"framework": 7, "runtime": [], "services": "x", "resources": 5, "environment": {}}
        for change in (
            {"download_uri": ""},
            {"download_uri": "file:///etc/passwd"},
            {"properties": senseless},
        ):
            answer = await peer.ask("staging", {**whole, **change}, timeout=60)
            assert kinds(answer) == {"task_id": "str", "task_log": "str", "error": "str"}, change
        await _staged(rig, peer)
        assert await asyncio.to_thread(rig.ready)


async def _staged(rig: Rig, peer: Peer) -> None:
    package = zipped(APPS / "hello")
    properties = {"services": [], "framework": "wsgi", "runtime": "python26", "resources": {"memory": 64, "disk": 2048, "fds": 256},
                  "environment": ["A=1"], "meta": {"debug": None}}  # fmt: skip
    request = {**rig.request(package), "properties": properties}
    answer = await peer.ask("staging", request, timeout=60)
    assert kinds(answer) == {"task_id": "str", "task_log": "str"}, answer
    assert str(request["app_id"]) in rig.controller.droplets
    # What fails says so, in `error`, and logs all the same.
    properties = {**properties, "framework": "cobol"}
    failed = await peer.ask("staging", {**rig.request(package), "properties": properties}, timeout=60)
    assert kinds(failed) == {"task_id": "str", "task_log": "str", "error": "str"}

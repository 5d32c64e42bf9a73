"""Ports that others want: a route leads to the instance it was made for, or nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.integration.dea_rig import DeaRig, droplet

# Of no instance; plain processes run with the agent's uid.
STRANGER = 59_123
# Binds what it is told, says so, and listens once it is told where.
SQUATTER = """
import socket, sys
held = {}
for port in map(int, sys.argv[2:]):
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((sys.argv[1], port))
    held[port] = found
print("bound", flush=True)
for line in sys.stdin:
    held[int(line)].listen()
    print("listens", flush=True)
"""
# Serves until a file says that it shall close its port, and lives on.
LEAVER = """
import os, socket, sys, time
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while not os.path.exists("leave"):
    time.sleep(0.02)
server.close()
open("left", "w").close()
time.sleep(1000)
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another uid is taken by root alone")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(tmp_path, stop_grace=0.3)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


@contextlib.contextmanager
def squatter(address: str, *ports: int) -> Iterator[Any]:
    """Bind ports under another uid; gives what makes one listen."""
    become = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    with subprocess.Popen(
        [*become, "/usr/bin/python3", "-c", SQUATTER, address, *map(str, ports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        words = process.stdout
        assert words.readline() == "bound\n"

        def listen(port: int) -> None:
            print(port, file=process.stdin, flush=True)
            assert words.readline() == "listens\n"

        try:
            yield listen
        finally:
            process.kill()


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.9"])
async def test_a_port_that_somebody_bound_is_not_handed_out(rig: DeaRig, address: str) -> None:
    first = rig.config["ports"]["first"]
    with squatter(address, *range(first, first + 5)) as listen:
        entry = await rig.run()
        listen(first)
        (found,) = await rig.ask("dea.find.droplet", {"droplet": 12, "include_stats": True})
        assert found["stats"]["port"] >= first + 5
        assert (await rig.get(f"http://127.0.0.1:{found['stats']['port']}/"))[0] == 200
        os.kill(rig.main_pid(entry["instance"]), 0)


async def test_who_listens_in_an_instances_place_ends_it_and_gets_no_route(rig: DeaRig) -> None:
    entry = await rig.run(rig.keep(droplet({"app/server.py": LEAVER})))
    registered = await rig.hears("router.register", lambda b: b["private_instance_id"] == entry["instance"])
    app = rig.folder / "dea/instances" / entry["instance"] / "app"
    (app / "leave").touch()
    await rig.until((app / "left").exists, "the port is given up")
    mark = rig.mark()
    with squatter("0.0.0.0", registered["port"]) as listen:
        listen(registered["port"])
        gone = await rig.hears("router.unregister", since=mark, seconds=60)
        assert (gone["port"], gone["uris"]) == (registered["port"], registered["uris"])
        exited = await rig.hears("droplet.exited", since=mark, seconds=60)
        wanted = f"another program of this machine (uid {STRANGER}) listens on its port {registered['port']}"
        assert (exited["reason"], exited["detail"]) == ("CRASHED", wanted)
        errors = app.parent / "logs/err.log"
        await rig.until(lambda: wanted in errors.read_text(), "its owner can read why")
        # Also among the numbered lines, which are read to their end before it is settled.
        (found,) = await rig.ask("dea.find.droplet", {"droplet": 12, "states": ["CRASHED"]})
        numbered: list[str] = []
        async with asyncio.timeout(60):
            while f"FATAL: {wanted}" not in numbered:
                numbered = [line["text"] for line in (await rig.lines(found, wait=1))["lines"]]
        mark = rig.mark()
        # Nor is it registered again with those that run.
        await rig.hears("dea.heartbeat", lambda b: b["droplets"][0]["state"] == "CRASHED", since=mark)
        assert rig.said("router.register", mark) == []


async def test_an_instance_whose_port_is_taken_while_it_starts_never_runs(rig: DeaRig) -> None:
    app = "import time; open('here', 'w').close(); time.sleep(1000)"
    message = rig.message(rig.keep(droplet({"app/server.py": app})))
    await rig.bus.publish(f"dea.{rig.id}.start", message)
    await rig.until(lambda: list((rig.folder / "dea/instances").glob("*/app/here")), "it starts")
    # Not always the first: one that another test's connections have left is passed over.
    (record,) = json.loads((rig.folder / "dea/applications.json").read_bytes())["12"].values()
    port = record["port"]
    with squatter("0.0.0.0", port) as listen:
        listen(port)
        exited = await rig.hears("droplet.exited", seconds=60)
        assert f"(uid {STRANGER}) listens on its port {port}" in exited["detail"]
    assert rig.said("router.register") == []
    with pytest.raises(URLError):
        await rig.get(f"http://127.0.0.1:{port}/")


async def test_a_returning_agent_looks_before_it_registers(rig: DeaRig) -> None:
    entry = await rig.run(rig.keep(droplet({"app/server.py": LEAVER})))
    port = (await rig.hears("router.register"))["port"]
    rig.stop_agent()
    app = rig.folder / "dea/instances" / entry["instance"] / "app"
    (app / "leave").touch()
    await rig.until((app / "left").exists, "the port is given up")
    with squatter("0.0.0.0", port) as listen:
        listen(port)
        mark = rig.mark()
        await rig.start_agent()
        exited = await rig.hears("droplet.exited", since=mark, seconds=60)
        assert f"listens on its port {port}" in exited["detail"]
        assert rig.said("router.register", mark) == []

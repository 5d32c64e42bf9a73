"""A hard limit is hard: on a machine with a kernel of its own, applications over their memory or tasks end, with the reason.

The agent runs as its role's unit with its role's configuration; the test stands in the controller's place.
"""

from __future__ import annotations

import asyncio
import compileall
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jinja2
import pytest
import yaml

from components.common.bus.client import Bus
from components.common.config import BusConfig
from orchestrator.lab.layout import SHARE
from tests.integration.dea_rig import droplet
from tests.lab.kernel_lab import KernelLab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are made by root"),
]

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "dea"
TASKS = 64
# The installed packages that the agent imports; the machine has the same Python.
PACKAGES = [
    "aiohappyeyeballs",
    "aiohttp",
    "aiosignal",
    "attr",
    "attrs",
    "dbus_fast",
    "frozenlist",
    "idna",
    "msgspec",
    "multidict",
    "nats",
    "prometheus_client",
    "propcache",
    "structlog",
    "typing_extensions.py",
    "yaml",
    "_yaml",
    "yarl",
]
PROGRAM = """#!/bin/sh
exec env PYTHONPATH={share}/code PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m components.dea.main "$@"
"""
SERVER = """#!/bin/bash
exec /usr/bin/python3 -c '
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer(("0.0.0.0", int(sys.argv[2])), H).serve_forever()
' "$@"
"""
# Its child takes too much memory: the control group ends all processes.
HOG = "#!/bin/bash\nwhile [ ! -e app/go ]; do sleep 0.2; done\n/usr/bin/python3 -c 'x = bytearray(200 << 20)' &\nsleep 1000\n"
BOMB = "#!/bin/bash\nwhile [ ! -e app/go ]; do sleep 0.2; done\nbomb() { bomb | bomb & }\nbomb\nsleep 1000\n"
# Writes until a write is refused, and prints the bytes written.
FILLER = """#!/bin/bash
while [ ! -e app/go ]; do sleep 0.2; done
cat /dev/zero > app/full
size=$(stat -c %s app/full)
rm app/full
echo "$size" > app/said
sleep 1000
"""
# The instances have a file system of their own that keeps quotas, as docs/operating.md has it.
VOLUME = (
    "truncate -s 400M /var/dea.img && mkfs.ext4 -q -O quota -E quotatype=usrquota /var/dea.img"
    " && mount -o loop,usrquota /var/dea.img /var/lib/ingot/dea"
)
PATIENCE = 300.0
# Twice as many as instances, as the role has them.
UIDS = range(50_000, 50_016)


class Rig:
    """The agent's bus, heard from the host."""

    def __init__(self, address: str, share: Path, on: Callable[[str], str]) -> None:
        self.address, self.share, self.on = address, share, on
        self.heard: list[tuple[str, Any]] = []
        self.bus = Bus(BusConfig([f"nats://{address}:4222"]), "test")
        for subject in ("ingot.dea.beat", "dea.heartbeat", "droplet.exited", "ingot.task.ended"):
            self.bus.subscribe(subject, None, self._hear)

    async def _hear(self, message: Any) -> None:
        self.heard.append((message.subject, message.body))

    async def hears(
        self, subject: str, wanted: Callable[[Any], bool] = lambda _: True, since: int = 0
    ) -> Any:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for name, body in self.heard[since:]:
                if name == subject and wanted(body):
                    return body
            await asyncio.sleep(0.05)
        journal = await asyncio.to_thread(self.on, "journalctl -u ingot-dea -n 40 --no-pager")
        pytest.fail(f"not within {PATIENCE:.0f} s: {subject}\n{journal}")

    async def run(self, number: int, startup: str, mem: int = 64, uris: tuple[str, ...] = ()) -> str:
        """Start an instance and wait until it runs; return its id."""
        message = self.message(number, startup, mem, uris)
        await self.bus.publish(f"dea.{await self.id()}.start", message)

        def runs(beat: Any) -> bool:
            return any(d["droplet"] == number and d["state"] == "RUNNING" for d in beat["droplets"])

        beat = await self.hears("dea.heartbeat", runs)
        return str(next(d["instance"] for d in beat["droplets"] if d["droplet"] == number))

    def message(self, number: int, startup: str, mem: int, uris: tuple[str, ...]) -> dict[str, Any]:
        import hashlib

        content = droplet({"app/here": ""}, startup)
        sha1 = hashlib.sha1(content).hexdigest()
        (self.share / sha1).write_bytes(content)
        return {
            "droplet": number, "name": f"a{number}", "version": "v", "uris": list(uris), "sha1": sha1,
            "executableFile": f"{SHARE}/{sha1}", "limits": {"mem": mem, "disk": 64, "fds": 64}, "index": 0,
        }  # fmt: skip

    async def id(self) -> str:
        return str((await self.hears("ingot.dea.beat"))["id"])

    async def find(self, number: int) -> Any:
        asked = {"droplet": number, "include_stats": True}
        (found,) = await self.bus.request_many("dea.find.droplet", asked, dict[str, Any], 20.0, 1)
        return found

    async def go(self, instance: str) -> None:
        await asyncio.to_thread(self.on, f"touch /var/lib/ingot/dea/instances/{instance}/app/go")


@pytest.fixture(scope="module")
def share(kernel_lab: KernelLab) -> Path:
    """Copy the agent's code to a directory that its machine sees; return the host's path of it."""
    share = kernel_lab.folder / "share"
    site = Path(yaml.__file__).parent.parent
    for package in PACKAGES:
        source = site / package
        if source.is_dir():
            shutil.copytree(
                source, share / "code" / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyx", "*.c")
            )
        elif source.exists():
            shutil.copy(source, share / "code" / package)
    for part in ("common", "dea"):
        shutil.copytree(ROOT / "components" / part, share / "code" / "components" / part)
    # Here, as compiling takes the machine ten times as long.
    compileall.compile_dir(share / "code", quiet=1)
    return share


@pytest.fixture(scope="module")
def on(kernel_lab: KernelLab) -> Callable[[str], str]:
    return partial(kernel_lab.ssh, "own")


@pytest.fixture(scope="module")
def installed(kernel_lab: KernelLab, share: Path, on: Callable[[str], str]) -> Iterator[str]:
    """Install the agent as its role does; yield the machine's address. Its instances end with the tests."""
    kernel_lab.client.start(kernel_lab.name, "own")
    address = kernel_lab.client.wait(kernel_lab.name, "own", PATIENCE).address
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    common = yaml.safe_load((ROLE.parent / "ingot" / "vars" / "main.yml").read_text())
    values = {
        **common,
        **{name: value for name, value in defaults.items() if "{{" not in str(value)},
        "ansible_managed": "of a test",
        "dea_address": address,
        "dea_index": 0,
        "dea_share_path": "/srv/ingot/share",
        "dea_zone": "default",
        "dea_bus_urls": ["nats://127.0.0.1:4222"],
        "dea_bus_password": "",
        "dea_status_password": "p",
        "dea_release": "test",
        "dea_tasks": TASKS,
        "dea_memory_mb": 512,
        "dea_max_instances": len(UIDS) // 2,
        "__dea_uids": list(UIDS),
        "__dea_stamp": "test",
        "__dea_program": "/usr/local/bin/ingot-dea",
        "__dea_config": "/etc/ingot/dea.yml",
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    for source, name in (
        ("etc/ingot/dea.yml.j2", "dea.yml"),
        ("etc/systemd/system/ingot-dea.service.j2", "ingot-dea.service"),
        ("sysusers.conf.j2", "sysusers.conf"),
    ):
        (share / name).write_text(
            environment.from_string((ROLE / "templates" / source).read_text()).render(values)
        )
    (share / "ingot-dea").write_text(PROGRAM.format(share=SHARE))
    on(
        f"mkdir -p /etc/ingot /var/lib/ingot/dea && {VOLUME} && install -m 755 {SHARE}/ingot-dea /usr/local/bin/ingot-dea"
        f" && install -m 600 {SHARE}/dea.yml /etc/ingot/dea.yml"
        f" && install -m 644 {SHARE}/ingot-dea.service /etc/systemd/system/ingot-dea.service"
        f" && systemd-sysusers {SHARE}/sysusers.conf"
        f" && systemd-run -q -u bus nats-server -p 4222 && systemctl daemon-reload && systemctl start ingot-dea"
    )
    yield address
    on(
        "systemctl stop ingot-dea ingot.slice bus; systemctl reset-failed; umount /var/lib/ingot/dea && rm /var/dea.img"
    )


@pytest.fixture
async def rig(installed: str, share: Path, on: Callable[[str], str]) -> AsyncIterator[Rig]:
    rig = Rig(installed, share, on)
    await rig.bus.start()
    try:
        assert await rig.bus.wait_connected(PATIENCE)
        await rig.hears("ingot.dea.beat")
        yield rig
    finally:
        await rig.bus.close()


async def test_too_much_ends_it_with_the_reason_and_the_neighbour_does_not_notice(
    rig: Rig, on: Callable[[str], str]
) -> None:
    neighbour = await rig.run(1, SERVER, uris=("neighbour.x",))
    stats = (await rig.find(1))["stats"]
    url = f"http://{stats['host']}:{stats['port']}/"

    async def answer() -> str:
        async with httpx.AsyncClient() as http:
            return (await http.get(url, timeout=PATIENCE)).text

    pid, agent = await answer(), await asyncio.to_thread(on, "systemctl show -P MainPID ingot-dea")
    hog, bomb = await rig.run(2, HOG), await rig.run(3, BOMB)
    limits = await asyncio.to_thread(
        on,
        f"cd /sys/fs/cgroup/ingot.slice/ingot-apps.slice/ingot-app-{hog}.service && cat memory.max memory.oom.group pids.max",
    )
    assert limits.split() == [str(64 << 20), "1", str(TASKS)]

    await rig.go(hog)
    exited = await rig.hears("droplet.exited", lambda b: b["instance"] == hog)
    assert (exited["reason"], exited["detail"]) == (
        "CRASHED",
        "memory over 64 MB (killed by its control group)",
    )
    folder = f"/var/lib/ingot/dea/instances/{hog}"
    assert "FATAL: memory over 64 MB" in await asyncio.to_thread(on, f"cat {folder}/logs/err.log")
    assert await answer() == pid
    kernel = await asyncio.to_thread(on, "journalctl -k --no-pager | grep -c 'memory.oom.group set'")
    assert int(kernel) >= 1

    await rig.go(bomb)
    exited = await rig.hears("droplet.exited", lambda b: b["instance"] == bomb)
    assert (exited["reason"], exited["detail"]) == ("CRASHED", f"too many tasks ({TASKS})")
    assert await answer() == pid

    # A one-off task has the limits of an instance.
    asked = {"task": "hog", "command": "python3 -c 'x = bytearray(200 << 20)'", "timeout": 100}
    task = {**asked, "start": rig.message(4, "#!/bin/bash\n", 64, ())}
    await rig.bus.publish(f"ingot.dea.{await rig.id()}.task", task)
    ended = await rig.hears("ingot.task.ended")
    assert (ended.get("exit_status"), ended["detail"]) == (
        None,
        "memory over 64 MB (killed by its control group)",
    )

    left = await asyncio.to_thread(
        on, "systemctl list-units --plain --no-legend 'ingot-app-*' 'ingot-task-*'"
    )
    assert [line.split()[0] for line in left.splitlines()] == [f"ingot-app-{neighbour}.service"]
    assert await asyncio.to_thread(on, "systemctl show -P MainPID ingot-dea") == agent
    assert (await rig.find(1))["state"] == "RUNNING"
    said = [b["detail"] for name, b in rig.heard if name == "droplet.exited"]
    assert len(said) == 2


async def test_who_fills_its_disk_is_refused_more_and_goes_on(rig: Rig, on: Callable[[str], str]) -> None:
    filler = await rig.run(6, FILLER)
    quotas = await asyncio.to_thread(on, "repquota -un /var/lib/ingot/dea")
    # User, state, blocks with their soft and hard limit, files with theirs.
    rows = [row.split() for row in quotas.splitlines() if row.startswith("#50")]
    assert {(row[4], row[7]) for row in rows} == {(str(64 << 10), "250000")}
    await rig.go(filler)
    said = f"/var/lib/ingot/dea/instances/{filler}/app/said"
    deadline = time.monotonic() + PATIENCE
    while not (size := await asyncio.to_thread(on, f"cat {said} 2> /dev/null || true")):
        assert time.monotonic() < deadline, "it was never refused"
        await asyncio.sleep(0.2)
    assert 32 << 20 < int(size) <= 64 << 20
    assert (await rig.find(6))["state"] == "RUNNING"


async def test_a_unit_that_is_restarted_serves_again_and_its_instance_lives(
    rig: Rig, on: Callable[[str], str]
) -> None:
    instance = await rig.run(5, SERVER, uris=("again.x",))
    stats = (await rig.find(5))["stats"]
    seen = set()

    async def answers_anew() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            async with httpx.AsyncClient() as http:
                try:
                    pid = (await http.get(f"http://{stats['host']}:{stats['port']}/", timeout=PATIENCE)).text
                except httpx.TransportError:
                    pid = ""
            if pid and pid not in seen:
                seen.add(pid)
                return
            await asyncio.sleep(0.2)
        pytest.fail("it does not answer anew")

    await answers_anew()
    # As needrestart does after an upgrade of a library: the unit, then units and agent together.
    for units in (f"ingot-app-{instance}", f"ingot-app-{instance} ingot-dea"):
        await asyncio.to_thread(on, f"systemctl restart {units}")
        await answers_anew()
    mark = len(rig.heard)
    await rig.hears("dea.heartbeat", lambda b: any(d["droplet"] == 5 for d in b["droplets"]), since=mark)
    beat = [b for name, b in rig.heard if name == "dea.heartbeat"][-1]
    assert [(d["instance"], d["state"]) for d in beat["droplets"] if d["droplet"] == 5] == [
        (instance, "RUNNING")
    ]
    assert [b for name, b in rig.heard if name == "droplet.exited" and b["droplet"] == 5] == []
    # The files of its start go with it.
    await rig.bus.publish("dea.stop", {"droplet": 5})
    left = "ls /run/ingot-dea/units"
    deadline = time.monotonic() + PATIENCE
    while instance in await asyncio.to_thread(on, left):
        assert time.monotonic() < deadline, "its files stay"
        await asyncio.sleep(0.5)

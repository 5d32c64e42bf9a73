"""Two routers under constant load while the parts behind, beside and below them fail or change: no request is lost.

The tests share the platform that `test_platform.py` raised. `make drill-nats` has a longer absence of the bus, and figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from components.common.plain_http import NO_TLS
from orchestrator.control import ansible_playbook
from tests.lab.conftest import DOMAIN, LAB, ROOT, ROUTERS, LabPlatform, live, until
from tests.lab.load import Seen, load

APP = "hello"
HOST = f"{APP}.{DOMAIN}"
DEAS = ("dea1", "dea2")
# The shortened absence of the bus is longer than these ages, so that the test finds a router that lets routes age meanwhile.
SHORT_AGES = {"prune_seconds": 15, "sweep_seconds": 2, "start_seconds": 5}
OUTAGE = float(os.environ.get("INGOT_NATS_OUTAGE", "35"))
DRAIN_SECONDS = 4
# Requests that have waited this long when their machine is lost, and whose answer is due much later.
OLD_SECONDS, LONG = 10, "/slow/20"

# Echoes what comes after an upgrade; nginx passes the bytes on as they are.
SOCKETS = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            while data := self.connection.recv(4096):
                self.connection.sendall(data)
            self.close_connection = True
            return
        body = json.dumps({"name": "sockets"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("0.0.0.0", int(os.environ["VCAP_APP_PORT"])), Handler).serve_forever()
"""

# An operator gets a package of a higher version. This makes one from the installed files, with the maintainers' own scripts, which do
# the work of an upgrade.
NEXT_NGINX = """
set -eu
folder=$(mktemp -d)
cd /
for package in nginx nginx-common; do
  root=$folder/$package
  mkdir -p $root/DEBIAN
  dpkg-query --listfiles $package | while read -r path; do
    if [ -f "$path" ]; then cp --archive --parents ".$path" $root; fi
  done
  for part in postinst prerm preinst postrm conffiles triggers config templates; do
    if [ -f /var/lib/dpkg/info/$package.$part ]; then cp /var/lib/dpkg/info/$package.$part $root/DEBIAN/$part; fi
  done
  dpkg-query --show --showformat 'Package: ${Package}\\nVersion: ${Version}+next1\\nArchitecture: ${Architecture}\\n\
Maintainer: ${Maintainer}\\nDepends: ${Depends}\\nProvides: ${Provides}\\nDescription: ${Package}\\n' $package |
    grep -v '^[A-Za-z]*: $' >$root/DEBIAN/control
  dpkg-deb --build $root $folder >/dev/null
done
echo $folder
"""

ENTRY_POINTS = """
- hosts: {router}
  gather_facts: false
  tasks:
{tasks}
"""

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def units(platform: LabPlatform, machine: str) -> list[str]:
    """Return the ids of the instances that run on a DEA."""
    listed = platform.on(machine, "systemctl", "list-units", "--plain", "--no-legend", "ingot-app-*")
    return [
        line.split()[0].removeprefix("ingot-app-").removesuffix(".service") for line in listed.splitlines()
    ]


def lose_power(platform: LabPlatform, machine: str) -> None:
    """End a machine silently: the cable goes first, or its kernel would close its connections in good order."""
    platform.lab("cut", LAB, machine)
    platform.lab("machine", "kill", LAB, machine)


def all_up(platform: LabPlatform) -> bool:
    return all(platform.machine(dea)["state"] == "up" for dea in DEAS)


def replaced(seen: Seen, before: set[str], lost: int, since: float) -> float:
    """Wait until as many new instances have answered as were lost; return the seconds until the last of them did."""
    new: dict[str, float] = until(
        lambda: len(new := {i: t for i, t in seen.instances.items() if i not in before}) >= lost and new,
        f"{lost} instances took the places of those lost",
    )
    return max(new.values()) - since


def test_power_loss_of_a_dea_machine_fails_no_request(platform: LabPlatform) -> None:
    # From one, so that new ones come to the machine that has none.
    platform.ingot("scale", APP, "--instances", "1")
    platform.ingot("scale", APP, "--instances", "4")
    before = live(platform, APP, 4)
    address = platform.machine("dea2")["address"]
    lost = [i for i, dea in before.items() if dea == address]
    assert lost
    began = time.monotonic()
    with load(list(platform.routers().values()), HOST, LONG, LONG) as seen:
        until(lambda: time.monotonic() - began >= OLD_SECONDS, "requests have waited for long")
        since = time.monotonic()
        lose_power(platform, "dea2")
        seconds = replaced(seen, set(before), len(lost), since)
        until(lambda: platform.machine("dea2")["state"] == "lost", "the lost machine is shown as lost")
    print(f"{len(lost)} lost instances ran again after {seconds:.1f} s; {seen.figures()}")
    platform.lab("mend", LAB, "dea2")
    platform.lab("machine", "start", LAB, "dea2")
    until(lambda: all_up(platform), "the machine is back")
    assert seen.failures == []


@contextlib.contextmanager
def short_ages(platform: LabPlatform) -> Iterator[None]:
    """Have routes age quickly on all routers, by their configuration."""
    path = "/etc/ingot/router.yml"
    edits = [f"--expression=s/^{name}: .*/{name}: {value}/" for name, value in SHORT_AGES.items()]

    def ready(router: str) -> bool:
        probe = httpx.URL(scheme="http", host=platform.routers()[router][0], port=9031, path="/readyz")
        return httpx.get(probe, timeout=5, verify=NO_TLS).status_code == 200

    def change(*command: str) -> None:
        for router in ROUTERS:
            platform.on(router, *command)
            platform.on(router, "systemctl", "restart", "ingot-router")
        until(lambda: all(map(ready, ROUTERS)), "both routers are ready")

    try:
        change("sed", "--in-place=.kept", *edits, path)
        yield
    finally:
        change("mv", f"{path}.kept", path)


def test_requests_do_not_need_the_bus(platform: LabPlatform) -> None:
    platform.ingot("scale", APP, "--instances", "4")
    before = live(platform, APP, 4)
    with contextlib.ExitStack() as stack:
        if OUTAGE < 300:
            stack.enter_context(short_ages(platform))
        with load(list(platform.routers().values()), HOST) as seen:
            platform.on("core1", "systemctl", "stop", "nats-server")
            stopped = time.monotonic()
            try:
                until(lambda: time.monotonic() - stopped >= OUTAGE, "the bus was away", seconds=OUTAGE + 60)
                # Nobody can be told of this one before the bus is back.
                victim = next(i for i in units(platform, "dea1") if i in before)
                platform.on(
                    "dea1",
                    "systemctl",
                    "kill",
                    "--kill-whom=all",
                    "--signal=KILL",
                    f"ingot-app-{victim}.service",
                )
                seen.more()
                assert set(seen.instances) == set(before)
            finally:
                since = time.monotonic()
                platform.on("core1", "systemctl", "start", "nats-server")
            until(lambda: all_up(platform), "every DEA is up again")
            machines = time.monotonic() - since
            seconds = max(machines, replaced(seen, set(before), 1, since))
        figures = {**seen.figures(), "outage_seconds": OUTAGE, "reconciled_seconds": round(seconds, 1)}
        print(json.dumps(figures))
    assert seen.failures == []


@pytest.fixture
def sockets(platform: LabPlatform, tmp_path: Path) -> Iterator[str]:
    """Yield the host of an application that takes WebSockets."""
    (tmp_path / "server.py").write_text(SOCKETS)
    (tmp_path / "Procfile").write_text("web: python server.py\n")
    platform.ingot("push", "sockets", "--path", str(tmp_path))
    yield f"sockets.{DOMAIN}"
    platform.ingot("delete", "sockets", "--force", check=False)


def open_socket(address: tuple[str, int], host: str) -> socket.socket:
    """Return an upgraded connection."""
    connection = socket.create_connection(address, 20)
    lines = ["GET / HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = connection.recv(1)
        assert data, head
        head += data
    assert b" 101 " in head, head
    return connection


def echoes(connection: socket.socket, text: bytes) -> bool:
    connection.sendall(text)
    heard = b""
    while len(heard) < len(text) and (data := connection.recv(100)):
        heard += data
    return heard == text


def test_nginx_is_upgraded_under_load(platform: LabPlatform, sockets: str) -> None:
    address = platform.routers()["router1"]
    until(lambda: platform.get("sockets").status_code == 200, "the application with sockets answers")

    def master() -> str:
        return platform.on("router1", "cat", "/run/nginx.pid").strip()

    old = master()
    folder = platform.on("router1", "sh", "-c", NEXT_NGINX).strip()
    install = f"DEBIAN_FRONTEND=noninteractive dpkg --install {shlex.quote(folder)}/*.deb"
    with open_socket(address, sockets) as kept, load([address], HOST) as seen:
        assert echoes(kept, b"before")
        print(platform.on("router1", "sh", "-c", install))
        new = until(lambda: (pid := master()) != old and pid, "another nginx took over")
        seen.more(200)
        assert echoes(kept, b"after")
        with open_socket(address, sockets) as fresh:
            assert echoes(fresh, b"on the new one")
    assert "deleted" not in platform.on("router1", "readlink", f"/proc/{new}/exe")
    until(
        lambda: platform.on("router1", "systemctl", "show", "-P", "MainPID", "nginx").strip() == new,
        "systemd follows the new nginx when the old one has ended",
    )
    assert platform.on("router1", "systemctl", "show", "-P", "NRestarts", "nginx").strip() == "0"
    print(f"nginx upgraded: {seen.figures()}")
    assert seen.failures == []


def call(platform: LabPlatform, router: str, *entries: str) -> None:
    """Call entry points of the role on a router, as a roll does."""
    lines = [
        f"    - ansible.builtin.include_role: {{name: router, tasks_from: {entry}}}" for entry in entries
    ]
    play = platform.folder / f"{'-'.join(entries)}.yml"
    play.write_text(ENTRY_POINTS.format(router=router, tasks="\n".join(lines)))
    extra = {"router_drain_seconds": str(DRAIN_SECONDS)}
    ansible_playbook.run(
        os.path.relpath(play, ROOT / "playbooks"),
        platform.folder / "inventory",
        play.with_suffix(".log"),
        extra,
    )


def test_routers_drained_in_turn_fail_no_request(platform: LabPlatform, balancer: tuple[str, int]) -> None:
    with load([balancer], HOST) as seen:

        def served(router: str) -> int:
            return seen.answered[router]

        def served_since(router: str, count: int) -> bool:
            return served(router) > count

        until(lambda: all(served(router) for router in ROUTERS), "both routers serve")
        for router in ROUTERS:
            call(platform, router, "drain")
            before = served(router)
            seen.more()
            assert served(router) == before
            # The purpose of draining: without it, this costs requests.
            platform.on(router, "systemctl", "stop", "nginx", "ingot-router")
            platform.ingot("map", APP, f"while-{router}.{DOMAIN}")
            platform.on(router, "systemctl", "start", "nginx", "ingot-router")
            call(platform, router, "health", "undrain")
            late = httpx.get(
                f"http://{platform.routers()[router][0]}/",
                headers={"Host": f"while-{router}.{DOMAIN}"},
                timeout=20,
            )
            assert late.status_code == 200, late.text
            until(partial(served_since, router, before), f"{router} serves again")
            platform.ingot("unmap", APP, f"while-{router}.{DOMAIN}")
    print(f"routers drained in turn: {seen.figures()}, {dict(seen.answered)}")
    assert seen.failures == []

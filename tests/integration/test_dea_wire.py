"""Every subject a DEA hears, against a real agent on a real bus: the shapes of protocol 2.4."""

from __future__ import annotations

import hashlib
import http.server
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dea_rig import DeaRig, droplet


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(tmp_path)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def test_empty_dea_beats_and_advertises_but_sends_no_heartbeat(rig: DeaRig) -> None:
    beat = await rig.hears("ingot.dea.beat")
    assert beat["id"] == rig.id
    assert beat["interval"] == 0.2
    assert beat["capacity"] == {
        "memory": 1024,
        "memory_reserved": 0,
        "disk": 10000,
        "disk_reserved": 0,
        "instances": 0,
        "max_instances": 1024,
    }
    advert = await rig.hears("dea.advertise")
    assert advert == {"id": rig.id, "available_memory": 1024, "runtimes": ["python2", "python3"]}
    assert not rig.said("dea.heartbeat")


async def test_discover_is_answered_where_there_is_room(rig: DeaRig) -> None:
    asked = {"droplet": 1, "limits": {"mem": 64, "disk": 64, "fds": 64}, "name": "a", "runtime": "python2"}
    answers = await rig.ask("dea.discover", asked)
    assert answers[0]["id"] == rig.id
    assert answers[0]["port"] > 0
    assert answers[0]["version"] == 0.99
    for change in ({"runtime": "ruby18"}, {"limits": {"mem": 5000, "disk": 1, "fds": 1}}):
        assert await rig.ask("dea.discover", {**asked, **change}, timeout=0.5) == []


async def test_status_find_and_droplet_status(rig: DeaRig) -> None:
    entry = await rig.run()
    (status,) = await rig.ask("dea.status", {})
    assert (status["max_memory"], status["reserved_memory"], status["num_clients"]) == (1024, 128, 1)
    assert "state" not in status
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 12, "states": ["RUNNING"]})
    assert found["staged"] == f"env-0-{entry['instance']}"
    assert found["stats"] is None
    assert found["debug_ip"] is None
    assert await rig.ask("dea.find.droplet", {"droplet": 12, "instance_ids": ["0"]}, timeout=0.3) == []
    assert await rig.ask("dea.find.droplet", {"droplet": 12, "version": "x"}, timeout=0.3) == []

    shown: dict[str, Any] = {}
    while "usage" not in shown:
        shown = (await rig.ask("dea.find.droplet", {"droplet": 12, "include_stats": True}))[0]["stats"]
    assert shown["mem_quota"] == 128 * 1024 * 1024
    assert shown["usage"]["mem"] > 1000
    (line,) = await rig.ask("droplet.status", {})
    assert (line["name"], line["fds_quota"]) == ("env", 256)


async def test_update_changes_the_routes(rig: DeaRig) -> None:
    await rig.run(uris=["a.x", "b.x"])
    await rig.hears("router.register", lambda b: b["uris"] == ["a.x", "b.x"])
    mark = rig.mark()
    await rig.bus.publish("dea.update", {"droplet": 12, "uris": ["b.x", "c.x"]})
    assert (await rig.hears("router.unregister", since=mark))["uris"] == ["a.x"]
    await rig.hears("router.register", lambda b: b["uris"] == ["c.x"], since=mark)
    mark = rig.mark()
    await rig.bus.publish("router.start", {"id": "r", "version": 0.98})
    await rig.hears("router.register", lambda b: b["uris"] == ["b.x", "c.x"], since=mark)


async def test_locate_and_health_manager_are_answered_at_once(tmp_path: Path) -> None:
    hour = {"beat": 0.2, "heartbeat": 3600, "advertise": 3600, "register": 3600}
    rig = DeaRig(tmp_path, intervals=hour)
    await rig.start()
    try:
        await rig.run()
        for question, answer in (("dea.locate", "dea.advertise"), ("healthmanager.start", "dea.heartbeat")):
            mark = rig.mark()
            await rig.bus.publish(question, None)
            await rig.hears(answer, since=mark)
    finally:
        await rig.stop()


async def test_evacuation_tells_stops_nothing_and_survives_a_restart(rig: DeaRig) -> None:
    entry = await rig.run()
    (beat,) = await rig.ask(f"ingot.dea.{rig.id}.evacuate", {"evacuating": True})
    assert beat["evacuating"] is True
    exited = await rig.hears("droplet.exited")
    assert (exited["reason"], exited["instance"]) == ("DEA_EVACUATION", entry["instance"])
    asked = {"droplet": 1, "limits": {"mem": 64, "disk": 64, "fds": 64}}
    assert await rig.ask("dea.discover", asked, timeout=0.4) == []
    mark = rig.mark()
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(rig.keep(droplet()), index=5))
    await rig.hears("dea.heartbeat", since=mark)
    assert rig.said("ingot.dea.beat")[-1]["droplets"] == {"12": 1}
    rig.stop_agent()
    await rig.hears("ingot.dea.beat", lambda b: b["stopping"], since=mark)
    mark = rig.mark()
    await rig.start_agent()
    assert (await rig.hears("ingot.dea.beat", since=mark))["evacuating"] is True
    (beat,) = await rig.ask(f"ingot.dea.{rig.id}.evacuate", {"evacuating": False})
    assert beat["evacuating"] is False
    assert [b["reason"] for b in rig.said("droplet.exited")] == ["DEA_EVACUATION"]
    mark = rig.mark()
    rig.signal_agent(signal.SIGUSR2)
    await rig.hears("ingot.dea.beat", lambda b: b["evacuating"], since=mark)
    mark = rig.mark()
    rig.signal_agent(signal.SIGUSR1)
    await rig.hears("ingot.dea.beat", lambda b: not b["evacuating"], since=mark)
    await rig.hears("dea.advertise", since=mark)


async def test_files_are_served_to_who_knows_the_password(rig: DeaRig) -> None:
    await rig.run(rig.keep(droplet({"app/secret.txt": "abcdef"})))
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 12})

    url, known = found["file_uri"] + found["staged"], found["credentials"]

    async def get(path: str, **headers: str) -> tuple[int, str]:
        return await rig.get(url + path, known, **headers)

    assert (await rig.get(url + "/app/secret.txt"))[0] == 401
    assert (await rig.get(url + "/app/secret.txt", ["u", "p"]))[0] == 401
    assert await get("/app/secret.txt") == (200, "abcdef")
    assert await get("/%2Fapp%2Fsecret.txt") == (200, "abcdef")
    assert await get("/app/secret.txt", Range="bytes=1-2") == (206, "bc")
    assert await get("/app/secret.txt", Range="bytes=-2") == (206, "ef")
    assert (await get("/app/secret.txt", Range="bytes=99-"))[0] == 416
    assert await get("/") == (200, f"{'app/':<35} {'-':>10}\n{'logs/':<35} {'-':>10}\n")
    assert f"{'secret.txt':<35} {'6B':>10}\n" in (await get("/app"))[1]
    for path in ("/startup", "/app/..%2f..%2fx", "/stop"):
        assert (await get(path))[0] == 403, path
    for path in ("/nothing", "/run.pid", "/app/nothing"):
        assert (await get(path))[0] == 404, path
    (rig.folder / "dea/instances" / found["instance"] / "app/out").symlink_to("/etc/passwd")
    assert (await get("/app/out"))[0] == 403


async def test_droplet_comes_over_http_once_when_the_share_lacks_it(rig: DeaRig) -> None:
    content = droplet()
    sha1 = hashlib.sha1(content).hexdigest()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            uri = f"http://u:s3cret@127.0.0.1:{server.server_address[1]}/staged_droplets/12/{sha1}"
            for index in (0, 1):
                await rig.bus.publish(
                    f"dea.{rig.id}.start", rig.message(sha1, executableUri=uri, index=index)
                )
            await rig.hears(
                "dea.heartbeat", lambda b: [d["state"] for d in b["droplets"]] == ["RUNNING", "RUNNING"]
            )
            assert len(asked) == 1
            assert str(asked[0]).startswith("Basic ")
            await rig.bus.publish(
                f"dea.{rig.id}.start", rig.message("b" * 40, executableUri=uri, index=2, droplet=13)
            )
            exited = await rig.hears("droplet.exited", lambda b: b["droplet"] == 13)
            assert f"has the digest {sha1}" in exited["detail"]
        finally:
            server.shutdown()
            thread.join()
    assert "s3cret" not in (rig.folder / "agent.log").read_text()


async def test_start_that_cannot_be_here_is_refused(rig: DeaRig) -> None:
    sha1 = rig.keep(droplet())
    for wrong in ({"runtime": "ruby18"}, {"limits": {"mem": 9999}}, {"sha1": ""}, {"executableFile": ""}):
        await rig.bus.publish(f"dea.{rig.id}.start", {**rig.message(sha1), **wrong})
    await rig.run(sha1, index=7)
    assert rig.said("ingot.dea.beat")[-1]["capacity"]["instances"] <= 1
    assert (rig.folder / "agent.log").read_text().count("start_refused") == 4


async def test_probes_tell_and_hide(rig: DeaRig) -> None:
    await rig.run()
    url = f"http://127.0.0.1:{rig.status_port}"
    assert (await rig.get(f"{url}/readyz"))[0] == 200
    assert (await rig.get(f"{url}/varz"))[0] == 401
    _status, body = await rig.get(f"{url}/varz", ["status", "p"])
    assert '"apps_max_memory": 1024' in body
    assert '"running_apps": 1' in body

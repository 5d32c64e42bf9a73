"""A stand-in for the controller, on a DEA's machine: `python stand_in_controller.py VERB MORE APPLICATION`.

It runs as root with the interpreter of the release. MORE is a JSON object, APPLICATION the text of `stand_in_app.py`.
It prints what it hears as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
import urllib.request
from pathlib import Path
from typing import Any

import nats
import nats.errors
import yaml
from nats.aio.client import Client

APP = 7
STARTUP = """\
#!/bin/bash
cd "$(dirname "$0")/app"
exec %VCAP_LOCAL_RUNTIME% server.py "$2" >>../logs/stdout.log 2>>../logs/stderr.log
"""


class StandIn:
    """The stand-in.

    Args:
        client: connected as the controller.
        config: the DEA's.
        more: what the verb takes.
        application: the program of an instance.
    """

    def __init__(
        self, client: Client, config: dict[str, Any], more: dict[str, Any], application: str
    ) -> None:
        self._client, self._config, self._more = client, config, more
        self._application = application
        self._dea = Path("/var/lib/ingot/dea/id").read_text().strip()

    async def start(self) -> None:
        """Start an instance, with the fields of MORE in its message; print how it is found when it runs."""
        message = {**self._message(), **self._more}
        await self._client.publish(f"dea.{self._dea}.start", json.dumps(message).encode())
        for _ in range(100):
            found = [f for f in await self._found(states=["RUNNING"]) if f["index"] == message["index"]]
            if found:
                print(json.dumps(found[0]))
                return
        raise SystemExit("it did not start")

    async def task(self) -> None:
        """Run the task and command of MORE, and its command `meanwhile`; print all ends that are announced."""
        ended = await self._client.subscribe("ingot.task.ended", queue="cc")
        message = self._message()
        if "env" in self._more:
            message["env"] = self._more["env"]
        task = {
            "task": self._more["task"],
            "command": self._more["command"],
            "timeout": 60,
            "start": message,
        }
        reply = await self._client.request(
            f"ingot.dea.{self._dea}.task", json.dumps(task).encode(), timeout=5
        )
        assert "error" not in json.loads(reply.data), reply.data
        if self._more.get("meanwhile"):
            await asyncio.to_thread(_run, self._more["meanwhile"])
        ends = [json.loads((await ended.next_msg(timeout=60)).data)]
        try:
            while True:
                ends.append(json.loads((await ended.next_msg(timeout=2)).data))
        except nats.errors.TimeoutError:
            print(json.dumps(ends))

    async def beat(self) -> None:
        """Print the DEA's beat and its `/varz`."""
        beats = await self._client.subscribe("ingot.dea.beat")
        beat = json.loads((await beats.next_msg(timeout=20)).data)
        print(json.dumps([beat, await asyncio.to_thread(self._varz)]))

    async def find(self) -> None:
        """Print how all instances are found."""
        print(json.dumps(await self._found()))

    async def exited(self) -> None:
        """Run the command `after` of MORE; print the exit that is announced."""
        exited = await self._client.subscribe("droplet.exited")
        # The server has the subscription before anything ends.
        await self._client.flush()
        await asyncio.to_thread(_run, self._more["after"])
        print((await exited.next_msg(timeout=20)).data.decode())

    async def stop(self) -> None:
        """Stop all instances, and wait until none is found."""
        await self._client.publish("dea.stop", json.dumps({"droplet": APP}).encode())
        for _ in range(60):
            if not await self._found():
                return

    async def _found(self, **wanted: Any) -> list[dict[str, Any]]:
        inbox = self._client.new_inbox()
        listener = await self._client.subscribe(inbox)
        query = {"droplet": APP, "include_stats": True, **wanted}
        await self._client.publish("dea.find.droplet", json.dumps(query).encode(), reply=inbox)
        found: list[dict[str, Any]] = []
        while True:
            try:
                message = await listener.next_msg(timeout=0.3)
            except nats.errors.TimeoutError:
                return found
            if message.data:
                found.append(json.loads(message.data))

    def _message(self) -> dict[str, Any]:
        """Return the start message of an instance whose droplet is served here."""
        content = _droplet(self._application)
        sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        return {
            "droplet": APP,
            "name": "probe",
            "version": "v",
            "uris": ["probe.x"],
            "runtime": "python3",
            "framework": "standalone",
            "sha1": sha1,
            "executableFile": f"/nowhere/{sha1}",
            "executableUri": f"http://127.0.0.1:{_serve(content)}/{sha1}",
            "limits": {"mem": 128, "disk": 64, "fds": 256},
            "index": 0,
            "env": ["HUSH=wellkeptsecret"],
        }

    def _varz(self) -> Any:
        status = self._config["status"]
        credentials = base64.b64encode(f"{status['user']}:{status['password']}".encode()).decode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{status['port']}/varz", headers={"Authorization": f"Basic {credentials}"}
        )
        with urllib.request.urlopen(asked) as reply:
            return json.load(reply)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _droplet(application: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in (("startup", STARTUP), ("app/server.py", application), ("logs/x", "")):
            content = text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _serve(content: bytes) -> int:
    """Serve a droplet under every path; return the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


async def main(config: dict[str, Any], password: str, verb: str, more: str, application: str) -> None:
    """Do what the verb says."""
    client = await nats.connect(
        config["bus"]["urls"],
        user="controller",
        password=password,
        inbox_prefix=b"_INBOX_controller",
    )
    stand_in = StandIn(client, config, json.loads(more), application)
    verbs = {
        "start": stand_in.start,
        "task": stand_in.task,
        "beat": stand_in.beat,
        "find": stand_in.find,
        "exited": stand_in.exited,
        "stop": stand_in.stop,
    }
    await verbs[verb]()
    await client.close()


if __name__ == "__main__":
    asyncio.run(
        main(
            yaml.safe_load(Path("/etc/ingot/dea.yml").read_text()),
            Path("/root/probe.password").read_text().strip(),
            *sys.argv[1:],
        )
    )

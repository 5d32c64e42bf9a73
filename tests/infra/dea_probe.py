"""A stand-in for the controller on a DEA's machine, which asks an instance from within."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

# Stands in the controller's place. `start` serves a droplet, asks the DEA to start it, waits, prints what it hears
# of it; `find` prints the instances; `stop` stops them all; `task` runs one, does something meanwhile, prints its ends.
CONTROLLER = r"""
import asyncio, hashlib, http.server, io, json, sys, tarfile, threading
import nats, yaml

verb, more = sys.argv[1], json.loads(sys.argv[2])
SERVER = '''
import http.server, os, sys, subprocess, urllib.parse
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.parse.unquote(self.path[1:])
        done = subprocess.run(["bash", "-c", asked], capture_output=True)
        body = done.stdout + done.stderr
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class S(http.server.ThreadingHTTPServer):
    def server_bind(self):
        http.server.socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "x", 1
S(("0.0.0.0", int(sys.argv[1])), H).serve_forever()
'''
STARTUP = '''#!/bin/bash
cd "$(dirname "$0")/app"
exec %VCAP_LOCAL_RUNTIME% server.py "$2" >>../logs/stdout.log 2>>../logs/stderr.log
'''

def droplet():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in (("startup", STARTUP), ("app/server.py", SERVER), ("logs/x", "")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass

content = droplet()
config = yaml.safe_load(open("/etc/ingot/dea.yml"))
dea = open("/var/lib/ingot/dea/id").read().strip()

async def find(client, **wanted):
    inbox = client.new_inbox()
    listener = await client.subscribe(inbox)
    await client.publish("dea.find.droplet", json.dumps({"droplet": 7, "include_stats": True, **wanted}).encode(), reply=inbox)
    found = []
    while True:
        try:
            message = await listener.next_msg(timeout=0.3)
        except nats.errors.TimeoutError:
            return found
        if message.data:
            found.append(json.loads(message.data))

async def main():
    password = open("/root/probe.password").read().strip()
    client = await nats.connect(config["bus"]["urls"], user="controller", password=password, inbox_prefix=b"_INBOX_controller")
    exited = await client.subscribe("droplet.exited")
    ended = await client.subscribe("ingot.task.ended", queue="cc")
    if verb in ("start", "task"):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sha1 = hashlib.sha1(content).hexdigest()
        message = {"droplet": 7, "name": "probe", "version": "v", "uris": ["probe.x"], "runtime": "python3", "framework": "standalone",
            "sha1": sha1, "executableFile": "/nowhere/" + sha1, "executableUri": f"http://127.0.0.1:{server.server_address[1]}/{sha1}",
            "limits": {"mem": 128, "disk": 64, "fds": 256}, "index": 0, "env": more.get("env", ["HUSH=wellkeptsecret"]), **(more if verb == "start" else {})}
    if verb == "start":
        await client.publish(f"dea.{dea}.start", json.dumps(message).encode())
        for _ in range(100):
            found = [f for f in await find(client, states=["RUNNING"]) if f["index"] == message["index"]]
            if found:
                print(json.dumps(found[0]))
                return
        raise SystemExit("it did not start")
    if verb == "task":
        task = {"task": more["task"], "command": more["command"], "timeout": 60, "start": message}
        reply = await client.request(f"ingot.dea.{dea}.task", json.dumps(task).encode(), timeout=5)
        assert "error" not in json.loads(reply.data), reply.data
        import subprocess
        if more.get("meanwhile"):
            await asyncio.to_thread(subprocess.run, more["meanwhile"], check=True, stdout=subprocess.DEVNULL)
        ends = [json.loads((await ended.next_msg(timeout=60)).data)]
        try:
            while True:
                ends.append(json.loads((await ended.next_msg(timeout=2)).data))
        except nats.errors.TimeoutError:
            print(json.dumps(ends))
    if verb == "beat":
        import base64, urllib.request
        beats = await client.subscribe("ingot.dea.beat")
        beat = json.loads((await beats.next_msg(timeout=20)).data)
        status = config["status"]
        who = base64.b64encode(f"{status['user']}:{status['password']}".encode()).decode()
        ask = urllib.request.Request(f"http://127.0.0.1:{status['port']}/varz", headers={"Authorization": f"Basic {who}"})
        print(json.dumps([beat, json.load(urllib.request.urlopen(ask))]))
    if verb == "find":
        print(json.dumps(await find(client)))
    if verb == "exited":
        import subprocess
        subprocess.run(more["after"], check=True, stdout=subprocess.DEVNULL)
        print((await exited.next_msg(timeout=20)).data.decode())
    if verb == "stop":
        await client.publish("dea.stop", b'{"droplet": 7}')
        for _ in range(60):
            if not await find(client):
                break
    await client.close()

asyncio.run(main())
"""


def controller(host: Any, verb: str, **more: Any) -> Any:
    done = host.run("/opt/ingot/current/venv/bin/python -c %s %s %s", CONTROLLER, verb, json.dumps(more))
    if done.rc != 0:
        pytest.fail(done.stderr + host.run("journalctl -u ingot-dea -n 50 --no-pager").stdout)
    return json.loads(done.stdout) if done.stdout else None


def asking(instance: dict[str, Any], command: str) -> list[str]:
    """Return the command that has the instance itself run something."""
    script = (
        "import sys, urllib.request, urllib.parse as p; "
        "print(urllib.request.urlopen(sys.argv[1] + p.quote(sys.argv[2], safe='')).read().decode())"
    )
    stats = instance["stats"]
    return ["python3", "-c", script, f"http://{stats['host']}:{stats['port']}/", command]


def inside(host: Any, instance: dict[str, Any], command: str) -> str:
    done = host.run(shlex.join(asking(instance, command)))
    assert done.rc == 0, done.stderr
    return str(done.stdout).strip()


def main_pid(host: Any, instance: dict[str, Any]) -> str:
    return str(host.run("systemctl show -P MainPID ingot-app-%s", instance["instance"]).stdout.strip())

"""The stage of the drill: a victim with an application, a file, a service; a second tenant whose application carries the attempts out."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import socket
import subprocess
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import conftest
from tests.lab.conftest import DOMAIN, LabPlatform
from tests.lab.intrusion.attempts import Guest
from tests.lab.intrusion.clients import upload

HERE = Path(__file__).resolve().parent
VICTIM, TENANT, THIRD = "victim@example.com", "tenant@example.com", "third@example.com"
SECRET = b"sesame-file of the victim\n"
DEBUGGER = 7777
SERVICE = "victims-redis"

VICTIM_APP = f"""
import json, os, socket, threading
print("sesame-log", flush=True)
HELD = []

def _listen(kind, address):
    try:
        sock = socket.socket(kind)
        sock.bind(address)
        sock.listen(5)
        HELD.append(sock)
    except OSError as error:
        print("not listening:", error, flush=True)

_listen(socket.AF_INET, ("127.0.0.1", {DEBUGGER}))
_listen(socket.AF_UNIX, "\\0intrusion-victim")

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    seen = [(k, v) for k, v in environ.items() if isinstance(v, str)]
    return [json.dumps(["VICTIM", seen]).encode()]
"""

OWN_APP = """
import os, subprocess, sys

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
    if path == "/begin":
        with open("results", "wb") as file:
            subprocess.Popen([sys.executable, "probe.py", "application"], stdout=file, stderr=file)
    elif path == "/results":
        with open("results", "rb") as file:
            return [file.read()]
    elif path == "/build":
        import intrusion_build
        return [intrusion_build.RESULTS.encode()]
    elif path == "/squat":
        subprocess.Popen([sys.executable, "squat.py"])
    elif path == "/listen":
        open("listen", "w").close()
    return [b"OWN"]
"""

# Ports of the ring are bound and not listened on until the word is given.
SQUAT = """
import os, select, socket, time
held, end = [], time.monotonic() + 60
port = int(os.environ["VCAP_APP_PORT"])
while len(held) < 100 and port < 64999:
    port += 1
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("0.0.0.0", port))
        held.append(sock)
    except OSError:
        sock.close()
while not os.path.exists("listen") and time.monotonic() < end:
    time.sleep(0.01)
ears = []
for sock in held:
    try:
        sock.listen(16)
        ears.append(sock)
    except OSError:
        pass
while time.monotonic() < end:
    for sock in select.select(ears, [], [], 1)[0]:
        client = sock.accept()[0]
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 8\\r\\nConnection: close\\r\\n\\r\\nSQUATTER")
        client.close()
"""

BACKEND = """
import base64, hashlib, os, subprocess, sys, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    done = subprocess.run([sys.executable, "probe.py", "build"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    name = "intrusion_build-1-py3-none-any.whl"
    files = {
        "intrusion_build.py": "RESULTS = " + repr(done.stdout.decode(errors="replace")) + "\\n",
        "intrusion_build-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: intrusion-build\\nVersion: 1\\n",
        "intrusion_build-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{n},,\\n" for n in [*files, "intrusion_build-1.dist-info/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in {**files, "intrusion_build-1.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; status 0 where the connection was cut before there was one."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Stage:
    """Everything that attempts refer to; `facts` are for rows, `$name` in a request and `F` in a guest."""

    platform: LabPlatform
    facts: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        to: str = "api",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float = 30,
    ) -> Answer:
        """Ask through the front door, as it is written: nothing is tidied on the way."""
        sent = content if content is not None else b"" if body is None else json.dumps(body).encode()
        given = {"Host": f"{to}.{DOMAIN}", "Content-Length": str(len(sent)), "Connection": "close"}
        given |= {"Content-Type": "application/json"} if body is not None else {}
        given |= {"Authorization": token} if token else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.platform.port, timeout=seconds)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in (given | dict(headers or {})).items():
                connection.putheader(name, value)
            with contextlib.suppress(ConnectionError):
                # The front door may answer and close while the rest is under way.
                connection.endheaders(sent)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            return Answer(answer.status, text, dict(answer.getheaders()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Answer(0, f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def must(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """Ask for what belongs to the stage; anything but success ends the drill."""
        answer = self.ask(method, path, body, seconds=600, **options)
        assert 200 <= answer.status < 400, f"{method} {path}: {answer.status} {answer.text[:2000]}"
        return json.loads(answer.text) if answer.text.strip()[:1] in ("{", "[") else answer.text

    def log_in(self, email: str, password: str) -> str:
        """Get a token."""
        return str(self.must("POST", f"/users/{email}/tokens", {"password": password})["token"])

    def push(self, name: str, token: str, files: Mapping[str, str | bytes], **changes: Any) -> None:
        """Push an application and start it."""
        wish = {
            "name": name,
            "staging": {"framework": "wsgi", "runtime": None},
            "uris": [f"{name}.{DOMAIN}"],
            "instances": 1,
            "resources": {"memory": 64},
            "env": [],
            "services": [],
            **changes,
        }
        self.must("POST", "/apps", wish, token=token)
        content, headers = upload(archive(files))
        self.must("POST", f"/apps/{name}/application", content=content, headers=headers, token=token)
        self.must("PUT", f"/apps/{name}", {**wish, "state": "STARTED"}, token=token)

    def scale(self, name: str, token: str, instances: int) -> None:
        """Want so many instances."""
        now = self.must("GET", f"/apps/{name}", token=token)
        self.must("PUT", f"/apps/{name}", {**now, "instances": instances}, token=token)

    def on_bus(self, work: str, *arguments: str) -> Any:
        """Have a program of `bus_probe.py` run beside the bus, and give what it printed as JSON."""
        script = (HERE / "bus_probe.py").read_text()
        return json.loads(self.platform.on("core1", "python3", "-c", script, work, *arguments))

    def end(self) -> None:
        """Leave nothing running."""
        for email, apps in ((TENANT, ("own", "loot", "thief")), (VICTIM, ("victim",))):
            for app in apps:
                self.ask("DELETE", f"/apps/{app}", token=self.tokens[email])
        self.ask("DELETE", f"/services/{SERVICE}", token=self.tokens[VICTIM])


def archive(files: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return out.getvalue()


def set_up(platform: LabPlatform, guests: Sequence[Guest]) -> Stage:
    """Make accounts, the victim's application and the tenant's, which has all that guests try in it."""
    stage = Stage(platform)
    password = (platform.folder / "admin_password").read_text().strip()
    admin = stage.tokens["admin"] = stage.log_in(f"admin@{DOMAIN}", password)
    for email in (VICTIM, TENANT, THIRD):
        secret = f"{email.partition('@')[0]}'s password"
        if stage.ask("POST", f"/users/{email}/tokens", {"password": secret}).status != 200:
            stage.must("POST", "/users", {"email": email, "password": secret}, token=admin)
        stage.tokens[email] = stage.log_in(email, secret)
    stage.end()
    _victim(stage)
    _facts(stage)
    _tenant(stage, guests)
    return stage


def _victim(stage: Stage) -> None:
    token = stage.tokens[VICTIM]
    files: dict[str, str | bytes] = {"wsgi.py": VICTIM_APP, "secret.txt": SECRET}
    stage.push("victim", token, files, instances=2, env=["SECRET=sesame-environment"])
    version = next(iter(stage.must("GET", "/info/services", token=token)["key-value"]["redis"]))
    wish = {"type": "key-value", "vendor": "redis", "version": version, "tier": "free", "name": SERVICE}
    stage.must("POST", "/services", wish, token=token)
    stage.facts["service"] = SERVICE
    stage.facts["task"] = stage.must(
        "POST", "/v2/apps/victim/tasks", {"command": "echo sesame-task"}, token=token
    )["id"]


def _facts(stage: Stage) -> None:
    token, platform = stage.tokens[VICTIM], stage.platform
    machines = {m["name"]: m["address"] for m in platform.report()["machines"]}
    shown = stage.must("GET", "/v2/apps", token=token)["apps"]
    conftest.until(
        lambda: all("port" in s.get("stats", {}) for s in _stats(stage, token).values()), "all run"
    )
    victims = [
        {"host": s["stats"]["host"], "port": s["stats"]["port"]} for s in _stats(stage, token).values()
    ]
    stage.facts |= {
        "machines": machines,
        "gateway": next(iter(machines.values())).rpartition(".")[0] + ".1",
        "link_local": {name: _link_local(platform, name) for name in machines},
        "victims": victims,
        "debugger": DEBUGGER,
        "domain": DOMAIN,
        "victim": VICTIM,
        "tenant": TENANT,
        "app_id": next(a["id"] for a in shown if a["name"] == "victim"),
        "droplet": stage.must("GET", "/v2/apps/victim/revisions", token=token)["revisions"][0]["droplet"],
        "secret_sha1": hashlib.sha1(SECRET, usedforsecurity=False).hexdigest(),
        "secret_size": len(SECRET),
    }


def _stats(stage: Stage, token: str) -> dict[str, Any]:
    return dict(stage.must("GET", "/apps/victim/stats", token=token))


def _link_local(platform: LabPlatform, machine: str) -> str:
    shown = json.loads(platform.on(machine, "ip", "-6", "-j", "addr", "show", "scope", "link"))
    found = [a["local"] for link in shown for a in link.get("addr_info", []) if "local" in a]
    return str(found[0]) if found else "fe80::1"


def interface(address: str) -> int:
    """Return the number of this host's interface that has an address."""
    return next((socket.if_nametoindex(name) for name, known in _addresses() if known == address), 0)


def outside(gateway: str) -> str:
    """Return an address of this host that is none of the lab's network, as that is the platform's; the gateway where there is no other."""
    network = gateway.rpartition(".")[0]
    known = [a for _, a in _addresses() if "." in a and not a.startswith(("127.", f"{network}."))]
    return next(iter(known), gateway)


def _addresses() -> list[tuple[str, str]]:
    shown = json.loads(subprocess.run(["ip", "-j", "addr"], capture_output=True, check=True).stdout)
    return [(link["ifname"], a["local"]) for link in shown for a in link.get("addr_info", []) if "local" in a]


def _tenant(stage: Stage, guests: Sequence[Guest]) -> None:
    probe = (HERE / "probe.py").read_text()
    rows = json.dumps({"facts": stage.facts, "attempts": [asdict(row) for row in guests]})
    files = {"wsgi.py": OWN_APP, "probe.py": probe, "stage.json": rows, "requirements.txt": "./pkg\n"}
    files["squat.py"] = SQUAT
    files |= {"pkg/pyproject.toml": PYPROJECT, "pkg/backend.py": BACKEND, "pkg/probe.py": probe}
    stage.push("own", stage.tokens[TENANT], {**files, "pkg/stage.json": rows})
    shown = stage.must("GET", "/v2/apps", token=stage.tokens[TENANT])["apps"]
    stage.facts["own_id"] = next(a["id"] for a in shown if a["name"] == "own")
    deadline = time.monotonic() + conftest.PATIENCE
    while stage.ask("GET", "/", to="own").text != "OWN":
        assert time.monotonic() < deadline, "the tenant's application does not answer"
        time.sleep(0.5)

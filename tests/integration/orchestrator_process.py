"""`ingot-orchestrator` as a real process, with a pool of one host that does not have to answer."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from components.common.plain_http import NO_TLS
from tests.integration import forked

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "operators-password"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class OrchestratorProcess:
    """One daemon; `start` may be called again after it ended."""

    def __init__(self, folder: Path, port: int, nats_url: str, host_port: int, **more: Any) -> None:
        self.folder = folder
        self.log = folder / "orchestrator.log"
        self.path = folder / "orchestrator.yml"
        self.port = port
        inventory = folder / "inventory"
        inventory.mkdir(exist_ok=True)
        fixed = {"dea": {"hosts": {"dea1": {"ansible_host": "127.0.0.9"}}}}
        (inventory / "10-fixed.yml").write_text(yaml.safe_dump({"all": {"children": fixed}}))
        release = {"all": {"vars": {"ingot_release": "1.0.0"}}}
        (inventory / "16-release.yml").write_text(yaml.safe_dump(release))
        key = folder / "key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        ssh = {
            "private_key": str(key),
            "known_hosts": [str(folder / "known_hosts")],
            "port": host_port,
            "deadline": 1.0,
        }
        pool = {"provider": "metal", "image": "none", "prefix": "dea", "groups": ["dea"], "maximum": 2}
        config = {
            "bus": {"urls": [nats_url]},
            "status": {"password": "watching"},
            "host": "127.0.0.1",
            "port": port,
            "database_url": f"sqlite:///{folder}/state/orchestrator.db",
            "state_path": str(folder / "state"),
            "inventory": str(inventory),
            "releases": str(folder / "releases"),
            "play_runner": "process",
            "operator_password": PASSWORD,
            "drain_seconds": 0.1,
            "ssh": ssh,
            "providers": {"metal": {"driver": "static", "hosts": [{"address": "127.0.0.1"}]}},
            "pools": {"dea": pool},
            **more,
        }
        self.path.write_text(yaml.safe_dump(config))
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False, verify=NO_TLS
        )

    def command(self, *arguments: str) -> list[str]:
        code = "from orchestrator.main import main; main()"
        return [sys.executable, "-c", code, "--config", str(self.path), *arguments]

    def start(self, seconds: float = 40) -> None:
        with self.log.open("ab") as out:
            # A session of its own: a kill of the daemon reaches no other process.
            self.process = forked.start(
                "orchestrator.main",
                "--config",
                str(self.path),
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(self.log.read_text())
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            # A kill ends the worker as well, like a kill of a unit's whole control group.
            (os.killpg if number == signal.SIGKILL else os.kill)(self.process.pid, number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(self.log.read_text()) from None

    def call(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        options.setdefault("headers", basic("operator", PASSWORD))
        return self.http.request(method, path, json=body, **options)

    def job(self, job_id: int) -> dict[str, Any]:
        answer = self.call("GET", f"/v2/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def close(self) -> None:
        try:
            self.stop()
        finally:
            self.http.close()

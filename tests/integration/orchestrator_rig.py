"""A configuration, an inventory of this machine alone, a release of tiny plays, and an SSH server, for tests of the orchestrator."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import paramiko
import yaml

from components.common.config import parse
from orchestrator.config import OrchestratorConfig

RELEASE = "1.0.0"


def config(folder: Path, **changes: Any) -> OrchestratorConfig:
    """A configuration whose files all lie in a folder; plays run as plain processes."""
    raw: dict[str, Any] = {
        "bus": {"urls": ["nats://127.0.0.1:4222"]},
        "database_url": f"sqlite:///{folder / 'orchestrator.db'}",
        "state_path": str(folder / "state"),
        "inventory": str(folder / "inventory"),
        "releases": str(folder / "releases"),
        "play_runner": "process",
        "operator_password": "for-tests-only",
        "ssh": {"private_key": str(folder / "id"), "known_hosts": [str(folder / "known_hosts")]},
    }
    return parse({**raw, **changes}, OrchestratorConfig)


def write_inventory(folder: Path, hosts: dict[str, dict[str, Any]]) -> Path:
    """An inventory with these hosts in the group `dea`, and the release that runs."""
    inventory = folder / "inventory"
    inventory.mkdir(parents=True, exist_ok=True)
    (inventory / "10-fixed.yml").write_text(yaml.safe_dump({"all": {"children": {"dea": {"hosts": hosts}}}}))
    (inventory / "16-release.yml").write_text(yaml.safe_dump({"all": {"vars": {"ingot_release": RELEASE}}}))
    return inventory


def write_play(folder: Path, name: str, text: str, release: str = RELEASE) -> None:
    """A playbook of a release."""
    plays = folder / "releases" / release / "plays"
    (plays / "playbooks").mkdir(parents=True, exist_ok=True)
    (plays / "playbooks" / name).write_text(text)
    (plays / "ansible.cfg").write_text(
        "[defaults]\nforks = 4\ninject_facts_as_vars = False\ninterpreter_python = /usr/bin/python3\n"
    )


class SshServer(paramiko.ServerInterface):
    """An SSH server on loopback that accepts one key and succeeds at every command."""

    def __init__(self, host_key: paramiko.PKey, allowed: paramiko.PKey, port: int = 0) -> None:
        self.host_key, self.allowed = host_key, allowed
        self.logins = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.host_key)
            self._transports.append(transport)
            transport.start_server(event=threading.Event(), server=self)

    def close(self) -> None:
        # Closing alone does not wake the accepting thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for transport in self._transports:
            transport.close()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if key != self.allowed:
            return paramiko.common.AUTH_FAILED
        self.logins += 1
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # Sent here, by the transport's own thread: another could find the connection gone. The client closes the channel.
        channel.send_exit_status(0)
        return True

"""The whole platform on loopback, with a real PostgreSQL, and a user with `ingot`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.dev.harness import ROOT, Platform
from orchestrator.dev.settings import Settings
from tests.integration import ccdb, forked
from tests.support.waiting import until

SERVICE_TOKEN = "a token of redis"
APPS = ROOT / "tests" / "apps"


@dataclass
class Person:
    """A user of the client, logged in as the administrator."""

    platform: Platform
    home: Path

    def ingot(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = forked.run(
            "components.client.main",
            *arguments,
            name="ingot",
            env={**os.environ, "INGOT_HOME": str(self.home), "NO_COLOR": "1", **environment},
            timeout=180,
        )
        assert done.returncode == code, f"ingot {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ingot(*arguments, "--json").stdout)

    def push(self, app: str, name: str = "", *more: str) -> Any:
        arguments = [*([name] if name else []), "--path", str(APPS / app), *more]
        return self.json("push", *arguments)

    def login(self) -> None:
        self.ingot("target", self.platform.api_url)
        email = self.platform.settings.admin_email
        self.ingot("login", email, INGOT_PASSWORD=self.platform.admin_password)

    def token(self) -> str:
        """Return the token of the client's login."""
        tokens: dict[str, str] = json.loads((self.home / "config.json").read_text())["tokens"]
        return tokens[self.platform.api_url]

    def answer(self, name: str) -> dict[str, Any]:
        """Send a request to an application; return its JSON."""
        got = self.platform.get(name)
        assert got.status_code == 200, got.text
        answer: dict[str, Any] = got.json()
        return answer

    def instances(self, name: str, requests: int = 40) -> dict[str, dict[str, Any]]:
        """Send many requests; return the answers by instance id."""
        said = [self.answer(name) for _ in range(requests)]
        return {item["instance_id"]: item for item in said}

    def units(self) -> dict[str, int]:
        """Return the instances that the DEAs run: instance id → pid."""
        found = {}
        for dea in self.platform.settings.dea_names:
            for path in (self.platform.settings.state / dea / "units").glob("ingot-app-*.json"):
                try:
                    record = json.loads(path.read_text())
                except FileNotFoundError:
                    # Its DEA has forgotten it since the folder was listed.
                    continue
                if not record["ended"]:
                    found[path.stem.removeprefix("ingot-app-")] = int(record["pid"])
        return found

    def kill_instance(self, instance: str) -> None:
        os.killpg(self.units()[instance], signal.SIGKILL)


@pytest.fixture(scope="session")
def platform(postgres_cluster: str) -> Iterator[Platform]:
    """A platform for all tests of the run; each leaves it as it was."""
    server = f"ingot@{postgres_cluster}"
    name = f"platform_{os.getpid()}"
    with psycopg.connect(f"postgresql://{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    with tempfile.TemporaryDirectory(prefix="ingot-platform-") as folder:
        settings = Settings(
            Path(folder) / "dev",
            port=0,
            database_url=f"postgresql+psycopg://{server}/{name}",
            overrides={
                # A build that wants a package of an index must fail at once, whatever the network.
                "stager": {"pip_extra_args": ["--no-index"]},
                # Gateways of data services may come.
                "controller": {"service_tokens": {"redis": SERVICE_TOKEN}},
            },
        )
        with Platform(settings) as raised:
            ccdb.ease(raised.settings.database_url, settings.admin_email, raised.admin_password)
            yield raised
            assert not raised.dead(), [managed.tail() for managed in raised.dead()]


@pytest.fixture
def person(platform: Platform, tmp_path: Path) -> Iterator[Person]:
    """A user with an empty home; their applications go with the test."""
    somebody = Person(platform, tmp_path / "home")
    somebody.login()
    yield somebody
    for app in somebody.json("apps"):
        somebody.ingot("delete", app["name"], "--force")
    until(lambda: not somebody.units(), "no instance is left")

"""Requests at the same moment, at two controllers over one PostgreSQL: limits, hosts and versions are given out once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from components.common.states import AppState, PackageState
from components.controller.accounts import quotas
from components.controller.accounts.auth import Caller
from components.controller.apps.rows import by_id
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App, Base, User
from components.controller.pool.registry import Pool
from components.controller.storage.store import Store
from components.controller.tasks.runner import TaskRunner
from tests.integration import forked
from tests.integration.controller_rig import ROOT, Client, ControllerProcess, Peers
from tests.support.waiting import until

LIMITS = {"memory": 128, "app_uris": 4, "services": 4, "apps": 6, "builds": 8}
MIGRATE = (
    "import sys; from components.controller.db.database import Database; Database(sys.argv[1], 1).migrate()"
)


@dataclass
class Platform:
    controllers: list[ControllerProcess]
    client: Client

    def together(self, calls: list[tuple[str, str, dict[str, Any]]]) -> Counter[Any]:
        """Sends requests at once, in turn to the one and the other controller; counts statuses and codes."""
        said: list[Any] = []
        barrier = threading.Barrier(len(calls))

        def send(number: int, method: str, path: str, body: dict[str, Any]) -> None:
            client = self.client.at(self.controllers[number % 2].url)
            barrier.wait()
            said.append(_said(client.call(method, path, body)))

        threads = [threading.Thread(target=send, args=(n, *call)) for n, call in enumerate(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return Counter(said)


def _said(answer: httpx.Response) -> Any:
    return answer.json()["code"] if answer.status_code >= 400 else answer.status_code


@pytest.fixture(scope="module")
def platform(
    postgres_cluster: str,
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> Iterator[Platform]:
    import psycopg

    folder, port = tmp_path_factory.mktemp("parallel"), free_port()
    with psycopg.connect(f"postgresql://ingot@{postgres_cluster}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE parallel")
    url = f"postgresql+psycopg://ingot@{postgres_cluster}/parallel"
    bus = subprocess.Popen(
        ["nats-server", "-a", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peers = Peers(f"nats://127.0.0.1:{port}")
    with forked.forking(False):
        # They start together on an empty database.
        controllers = [
            ControllerProcess(folder, free_port(), f"nats://127.0.0.1:{port}", url, admin_capacity=LIMITS)
            for _ in range(2)
        ]
    try:
        for controller in controllers:
            until(controller.ready, "controller is ready", 180)
        yield Platform(controllers, Client(controllers[0].url).login())
    finally:
        for controller in controllers:
            controller.stop()
        peers.close()
        bus.terminate()
        bus.wait(10)


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    yield platform.client
    for app in platform.client.call("GET", "/apps").json():
        assert platform.client.call("DELETE", f"/apps/{app['name']}").status_code == 200


def body(name: str, uri: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "staging": {"framework": "wsgi", "runtime": None},
        "uris": [f"{uri or name}.ingot.localhost"],
        "instances": 1,
        "resources": {"memory": 32},
    }


def ready(client: Client, *names: str) -> None:
    for name in names:
        assert client.call("POST", "/apps", body(name)).status_code == 302
        assert client.upload(name, {"app.py": name}).status_code == 200


def test_the_tables_are_made_once_by_controllers_that_start_together(postgres_url: str) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, postgres_url], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    db = Database(postgres_url, 1)
    try:
        with db.session() as session:
            assert len(session.execute(text("SELECT version_num FROM alembic_version")).all()) == 1
            assert session.execute(text("SELECT count(*) FROM app_updates")).scalar_one() == 0
    finally:
        db.close()


def test_a_task_and_a_change_wait_for_each_other_in_one_order(postgres_url: str, tmp_path: Path) -> None:
    db, pool = Database(postgres_url, 4), Pool()
    Base.metadata.create_all(db.engine)
    config = ControllerConfig(
        bus=BusConfig(urls=["nats://127.0.0.1:1"]),
        database_url=postgres_url,
        share_path=str(tmp_path),
        token_keys=["0123456789abcdef"],
        bulk_password="b",
        staging_password="s",
    )
    store = Store(tmp_path)
    store.prepare()
    store.droplet("a" * 40).write_bytes(b"")
    with db.session() as session:
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        columns = {
            "framework": "wsgi",
            "runtime": "",
            "memory": 64,
            "instances": 1,
            "state": AppState.STARTED,
        }
        staged = {
            "package_state": PackageState.STAGED,
            "package_hash": "b" * 40,
            "staged_package_hash": "a" * 40,
        }
        app = App(owner=owner, name="a0", created_at=1, updated_at=1, **columns, **staged)
        session.add(app)
    bus = BusThread(config.bus, "none")
    bus.start()
    tasks = TaskRunner(config, db, store, bus, pool)
    caller = Caller(owner.id, owner.email, admin=False)
    try:
        with ThreadPoolExecutor(1) as threads:
            with db.session() as session:
                assert by_id(session, app.id, lock=True) is not None
                made = threads.submit(tasks.create, caller, "a0", {"command": "true"})
                until(lambda: _waits(db), "the task waits")
                assert quotas.lock(session.connection(), owner.id)
            assert made.result(60)["state"] == "failed", "there is no DEA"
    finally:
        bus.close()
        db.close()


def _waits(db: Database) -> bool:
    with db.connection() as asked:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(asked.execute(text(query)).scalar_one())


def test_a_host_is_given_to_one(platform: Platform, client: Client) -> None:
    said = platform.together([("POST", "/apps", body(f"a{n}", "same")) for n in range(4)])
    assert said == {302: 1, 701: 3}
    (app,) = client.call("GET", "/apps").json()
    # The others left nothing behind.
    others = [name for name in ("a0", "a1", "a2", "a3") if name != app["name"]]
    assert {client.call("GET", f"/apps/{name}").status_code for name in others} == {404}


def test_a_name_is_given_to_one(platform: Platform, client: Client) -> None:
    calls = [("POST", "/apps", body("one", f"host{n}")) for n in range(4)]
    assert platform.together(calls) == {302: 1, 300: 3}
    assert len(client.app("one")["uris"]) == 1


def test_the_number_of_applications_is_kept(platform: Platform, client: Client) -> None:
    said = platform.together([("POST", "/apps", body(f"a{n}")) for n in range(8)])
    assert said == {302: LIMITS["apps"], 601: 8 - LIMITS["apps"]}
    assert len(client.call("GET", "/apps").json()) == LIMITS["apps"]


def test_memory_is_kept_by_starts(platform: Platform, client: Client) -> None:
    names = [f"a{n}" for n in range(6)]
    ready(client, *names)
    said = platform.together([("PUT", f"/apps/{name}", {"state": "STARTED"}) for name in names])
    assert said == {200: 4, 600: 2}
    states = Counter(app["state"] for app in client.call("GET", "/apps").json())
    assert states == {"STARTED": 4, "STOPPED": 2}


def test_memory_is_kept_by_scaling(platform: Platform, client: Client) -> None:
    ready(client, "a0", "a1")
    for name in ("a0", "a1"):
        assert client.put(name, state="STARTED").status_code == 200
    said = platform.together([("PUT", f"/apps/{name}", {"instances": 3}) for name in ("a0", "a1")])
    assert said == {200: 1, 600: 1}
    assert sorted(app["instances"] for app in client.call("GET", "/apps").json()) == [1, 3]


def test_of_those_who_change_one_version_one_wins(platform: Platform, client: Client) -> None:
    ready(client, "a0")
    app = client.app("a0")
    said = platform.together([("PUT", "/apps/a0", {**app, "env": [f"N={n}"]}) for n in range(4)])
    assert said == {200: 1, 102: 3}
    after = client.app("a0")
    assert after["meta"]["version"] == app["meta"]["version"] + 1
    assert len(after["env"]) == 1


def test_updates_at_the_same_moment_end_in_one_version(platform: Platform, client: Client) -> None:
    ready(client, "a0")
    assert client.put("a0", state="STARTED").status_code == 200
    assert client.upload("a0", {"app.py": "two"}).status_code == 200
    assert platform.together([("PUT", "/apps/a0/update", {}) for _ in range(3)]) == {204: 3}

    def ended() -> Any:
        update = client.call("GET", "/v2/apps/a0/update").json()
        return update["state"] != "UPDATING" and update

    update = until(ended, "the update has ended", 60)
    assert (update["state"], update["to"]) == ("SUCCEEDED", client.app("a0")["version"])


def test_folder_of_the_controllers_is_empty_after_all(platform: Platform, client: Client) -> None:
    ready(client, "a0")
    folder = platform.controllers[0].log.parent
    assert not list(folder.glob("ingot-upload-*")) + list(folder.glob("ingot-package-*"))
    assert not list((folder / "share" / "droplets" / ".incoming").iterdir())

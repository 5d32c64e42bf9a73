"""The daemon as a process: it migrates, serves, has a route, works through jobs, and goes on after it was killed."""

import json
import signal
import subprocess
import time

import pytest

from components.common.bus.messages import ComponentAnnouncement
from components.common.bus.operation_messages import LogQuery, LogReply
from components.common.bus.platform_hosts import REGISTER, UNREGISTER
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from tests.integration import forked
from tests.integration.controller_rig import ADMIN, Client, ControllerProcess, close_clients
from tests.integration.orchestrator_process import ROOT, OrchestratorProcess, basic
from tests.support.waiting import until


@pytest.fixture
def daemon(tmp_path, free_port, nats_server):
    made = []

    def make(**more):
        # Nothing listens on the port of the host's SSH.
        made.append(OrchestratorProcess(tmp_path, free_port(), nats_server, free_port(), **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def listener(nats_server):
    bus = BusThread(BusConfig(urls=[nats_server]), "listener")
    heard = []

    async def hear(message):
        heard.append((message.subject, message.body))

    for subject in (*REGISTER, *UNREGISTER):
        bus.subscribe(subject, None, hear)
    bus.start()
    assert bus.run(bus.bus.wait_connected(10))
    bus.heard = heard
    yield bus
    bus.close()


def ended(daemon, job_id):
    until(lambda: daemon.job(job_id)["state"] in ("succeeded", "failed"), f"job {job_id} ends", 60)
    return daemon.job(job_id)


def test_it_serves_with_a_route_and_ends_cleanly(daemon, listener):
    d = daemon()
    with forked.forking(False):
        d.start()
    (subject, route), (old_subject, same) = until(
        lambda: listener.heard[1:] and listener.heard[:2], "it registers"
    )
    assert {subject, old_subject} == {"ingot.platform.register", "router.register"}
    assert (route["uris"], route["port"]) == (["orchestrator.ingot.localhost"], d.port)
    assert same == route, "routers of the release before hear only the other"
    (said,) = listener.request_many("vcap.component.discover", None, ComponentAnnouncement, 20.0, 1)
    assert (said.type, said.host) == ("Orchestrator", f"127.0.0.1:{d.port}")
    (logged,) = listener.request_many("ingot.component.logs", LogQuery(), LogReply, 20.0, 1)
    assert (logged.component, logged.id) == ("orchestrator", said.uuid)
    assert "bus_connected" in str(logged.lines)
    # A router that starts asks who is there.
    before = len(listener.heard)
    listener.publish("router.start", {"id": "r"})
    until(lambda: len(listener.heard) > before, "it registers again")
    assert d.call("GET", "/v2/pools").json()["pools"][0]["size"] == 1
    assert d.http.get("/healthz").status_code == 200
    assert d.http.get("/varz", headers=basic("status", "watching")).json()["type"] == "Orchestrator"
    assert d.http.get("/v2/pools").status_code == 401
    assert d.call("GET", "/v2/images").json()["images"][0]["state"] == "ready"
    assert d.stop() == 0
    until(lambda: {s for s, _ in listener.heard} == {*REGISTER, *UNREGISTER}, "its route is gone")
    for line in d.log.read_text().splitlines():
        assert json.loads(line)["component"] == "orchestrator"


def test_a_real_controller_vouches_for_tokens(daemon, tmp_path, free_port, nats_server):
    folder = tmp_path / "controller"
    folder.mkdir()
    controller = ControllerProcess(folder, free_port(), nats_server, f"sqlite:///{folder}/ccdb.db")
    try:
        until(controller.ready, "the controller is ready", 30)
        d = daemon(controllers=["http://127.0.0.1:1", controller.url])
        d.start()
        admin = Client(controller.url).login()
        assert d.call("GET", "/v2/jobs", headers={"Authorization": admin.token}).status_code == 200
        answer = Client(controller.url).call("POST", "/users", {"email": "u@x.y", "password": "pass-word"})
        assert answer.status_code == 204, answer.text
        user = Client(controller.url).login("u@x.y", "pass-word")
        assert d.call("GET", "/v2/jobs", headers={"Authorization": user.token}).status_code == 403
        assert d.call("GET", "/v2/jobs", headers={"Authorization": "made-up"}).status_code == 401
        job = d.call("POST", "/v2/pools/dea/scale_out", {}, headers={"Authorization": admin.token}).json()
        assert job["job"]["by"] == ADMIN
    finally:
        controller.stop()
        close_clients()


def test_a_host_that_never_answers_leaves_a_failed_job_and_no_machine(daemon):
    d = daemon()
    d.start()
    answer = d.call("PUT", "/v2/pools/dea", {"size": 2})
    assert answer.status_code == 202, answer.text
    job = ended(d, answer.json()["job"]["id"])
    assert job["state"] == "failed"
    assert job["message"].startswith("reach: ")
    assert job["way_out"]
    pool = d.call("GET", "/v2/pools/dea").json()
    assert (pool["size"], pool["job"]) == (1, None)
    assert not (d.folder / "inventory" / "20-dea.yml").exists()
    assert d.call("PUT", "/v2/pools/dea", {"size": 3}).status_code == 400
    assert d.call("POST", f"/v2/jobs/{job['id']}/resume").status_code == 409


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_in_the_middle_is_followed_by_one_that_goes_on(daemon, how):
    d = daemon()
    # Long enough to be in the middle of it; the second one need not wait so long.
    config = d.path.read_text()
    d.path.write_text(config.replace("deadline: 1.0", "deadline: 60.0"))
    d.start()
    job_id = d.call("POST", "/v2/pools/dea/scale_out").json()["job"]["id"]
    until(
        lambda: "running" in [s["state"] for s in d.job(job_id)["steps"] if s["name"] == "reach"],
        "it reaches",
    )
    assert d.call("POST", "/v2/pools/dea/scale_out").status_code == 409
    begun = time.monotonic()
    d.stop(how)
    assert time.monotonic() - begun < 15
    d.path.write_text(config)
    d.start()
    job = ended(d, job_id)
    assert [s["state"] for s in job["steps"]][:4] == ["done", "done", "done", "failed"]
    assert job["state"] == "failed"
    assert d.call("GET", "/v2/pools/dea").json()["size"] == 1


def test_a_configuration_is_checked_and_a_database_that_is_away_is_named(daemon, tmp_path):
    d = daemon()
    good = subprocess.run(d.command("--check-config"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    d = daemon(pools={"dea": {}}, operator_password="x")
    bad = subprocess.run(d.command("--check-config"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert {"pools.dea.provider: is required", "pools.dea.image: is required"} <= {
        line.partition(": ")[2] for line in bad.stderr.splitlines()
    }
    d = daemon(providers={"metal": {"driver": "balloon"}})
    unknown = subprocess.run(
        d.command("--check-config"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert unknown.returncode == 2
    assert "providers.metal.driver: must be one of lab, static, not 'balloon'" in unknown.stderr
    d = daemon(database_url=f"sqlite:///{tmp_path}/no/such/folder/x.db", database_wait_seconds=0)
    away = subprocess.run(d.command(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert away.returncode == 1
    assert "unable to open database file" in away.stdout


def test_postgresql_does_as_well(daemon, postgres_url):
    d = daemon(database_url=postgres_url)
    d.start()
    job_id = d.call("POST", "/v2/pools/dea/scale_out").json()["job"]["id"]
    assert d.call("POST", "/v2/pools/dea/scale_out").status_code == 409
    assert ended(d, job_id)["state"] == "failed"
    d.stop()
    d.start()
    assert d.job(job_id)["state"] == "failed"
    assert (d.folder / "state" / "engine.lock").exists()

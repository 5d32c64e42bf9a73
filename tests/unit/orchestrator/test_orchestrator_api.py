"""The API's shapes, and what it refuses (docs/platform.md)."""

import time

import pytest

from orchestrator.api import machines
from orchestrator.db.models import Machine
from orchestrator.errors import StepError
from orchestrator.inventory import release_record
from tests.support.waiting import until
from tests.unit.orchestrator.api_rig import Controller, Rig, basic
from tests.unit.orchestrator.engine_rig import Gate, Small

ADMIN = "admin-token"


def fail(job):
    raise StepError("ctl1 does not answer")


@pytest.fixture
def gate():
    gate = Gate()
    gate.open.set()
    return gate


@pytest.fixture
def controller():
    stub = Controller()
    stub.tokens[ADMIN] = (200, {"email": "admin@x", "admin": True})
    stub.tokens["user-token"] = (200, {"email": "user@x", "admin": False})
    yield stub
    stub.close()


class Locking(Small):
    """Holds the pool it is asked for, or the platform."""

    def plan(self, services, request):
        pool = request.get("pool")
        return super().plan(services, {**request, "locks": [f"pool:{pool}" if pool else "*"]})


@pytest.fixture
def rig(tmp_path, controller, gate):
    names = ["scale_out", "scale_in", "rollback", "wire_nfs", "unwire_nfs"]
    kinds = [Locking(name, [("do", gate)]) for name in names]
    rig = Rig(
        tmp_path,
        [*kinds, Locking("roll", [("canary", gate), ("rest", fail)])],
        ["http://127.0.0.1:1", controller.url],
    )
    yield rig
    gate.open.set()
    rig.close()


def row(rig, name, **values):
    facts = {
        "pool": "dea",
        "provider": "metal",
        "image": "plain",
        "groups": ["dea"],
        "since": 5.0,
        "created": 4.0,
    }
    with rig.world.db.session() as session:
        session.add(Machine(name=name, **{**facts, **values}))


def ended(rig, job_id):
    return rig.world.ended(job_id)


def test_who_may_operate(rig, controller):
    status, said = rig.call("GET", "/v2/jobs", Authorization="")
    assert (status, said["code"]) == (401, 401)
    assert rig.http.get("/v2/jobs").headers["WWW-Authenticate"].startswith("Basic")
    assert rig.call("GET", "/v2/jobs")[0] == 200
    assert rig.call("GET", "/v2/jobs", Authorization=basic("operator", "guess"))[0] == 401
    assert rig.call("GET", "/v2/jobs", Authorization=basic("admin", "operators-password"))[0] == 401
    assert rig.call("GET", "/v2/jobs", Authorization=ADMIN)[0] == 200
    assert rig.call("GET", "/v2/jobs", Authorization="made-up")[0] == 401
    status, said = rig.call("GET", "/v2/jobs", Authorization="user-token")
    assert (status, said["description"]) == (403, "user@x is not an administrator of the platform")
    # A path that is not there tells nobody anything either.
    assert rig.call("GET", "/v2/nothing", Authorization="")[0] == 401
    assert rig.call("GET", "/v2/nothing")[0] == 404
    assert rig.call("DELETE", "/v2/jobs")[0] == 405


def test_a_revoked_administrator_is_refused_at_once(rig, controller):
    assert rig.call("GET", "/v2/jobs", Authorization=ADMIN)[0] == 200
    controller.tokens.pop(ADMIN)
    assert rig.call("GET", "/v2/jobs", Authorization=ADMIN)[0] == 401
    assert rig.call("POST", "/v2/rollback", {}, Authorization=ADMIN)[0] == 401


def test_who_was_vouched_for_may_look_on_while_no_controller_answers(rig, controller):
    assert rig.call("GET", "/v2/jobs", Authorization=ADMIN)[0] == 200
    controller.tokens[ADMIN] = (500, "oops")
    assert rig.call("GET", "/v2/jobs", Authorization=ADMIN)[0] == 200
    assert rig.call("POST", "/v2/rollback", {}, Authorization=ADMIN)[0] == 503
    rig.orchestrator.authenticator._clock = lambda: time.monotonic() + 31
    assert rig.call("GET", "/v2/jobs", Authorization=ADMIN)[0] == 503


def test_where_no_controller_answers_the_operator_is_named(rig, controller):
    controller.tokens[ADMIN] = (500, "oops")
    status, said = rig.call("GET", "/v2/jobs", Authorization=ADMIN)
    assert (status, said["code"]) == (503, 503)
    assert "operator's password" in said["description"]


def test_a_pool_is_its_fixed_and_its_made_machines(rig, monkeypatch):
    monkeypatch.setattr(machines, "LISTEN_SECONDS", -1.0)
    monkeypatch.setattr(type(rig.services.bus.bus), "connected", True)
    row(rig, "dea3", address="198.18.0.9", state="ready", host_key="ssh-ed25519 AAAA")
    row(rig, "dea4", state="creating")
    rig.beat("198.18.0.6")
    rig.beat("198.18.0.9", evacuating=True)
    status, pool = rig.call("GET", "/v2/pools/dea")
    assert status == 200
    assert list(pool) == ["name", "size", "floor", "maximum", "provider", "image", "machines", "job"]
    assert (pool["size"], pool["floor"], pool["maximum"], pool["job"]) == (4, 2, 4, None)
    assert {m["name"]: m["state"] for m in pool["machines"]} == {
        "dea1": "ready",
        "dea2": "lost",
        "dea3": "draining",
        "dea4": "creating",
    }
    assert pool["machines"][2] == {
        "name": "dea3",
        "address": "198.18.0.9",
        "groups": ["dea"],
        "pool": "dea",
        "provider": "metal",
        "image": "plain",
        "state": "draining",
        "fixed": False,
        "host_key": "ssh-ed25519 AAAA",
        "instances": 2,
        "release": "1.0.0",
        "since": 5.0,
    }
    assert rig.call("GET", "/v2/pools")[1] == {"pools": [pool]}
    everything = rig.call("GET", "/v2/machines")[1]["machines"]
    assert [(m["name"], m["pool"], m["fixed"]) for m in everything][:2] == [
        ("core1", None, True),
        ("dea1", "dea", True),
    ]
    assert everything[0]["state"] == "ready"


def test_before_the_bus_was_heard_nobody_is_called_lost(rig):
    states = {m["state"] for m in rig.call("GET", "/v2/pools/dea")[1]["machines"]}
    assert states == {"ready"}


def test_an_unknown_pool(rig):
    for method, path, body in [
        ("GET", "/v2/pools/db", None),
        ("PUT", "/v2/pools/db", {"size": 3}),
        ("POST", "/v2/pools/db/scale_out", {}),
        ("POST", "/v2/pools/db/scale_in", {}),
    ]:
        status, said = rig.call(method, path, body)
        assert (status, said) == (404, {"code": 404, "description": "there is no pool db; known: dea"})


def test_a_size_becomes_a_job_or_nothing(rig):
    assert rig.call("PUT", "/v2/pools/dea", {"size": 2}) == (200, {"job": None})
    status, said = rig.call("PUT", "/v2/pools/dea", {"size": 4})
    assert status == 202
    job = ended(rig, said["job"]["id"])
    assert (job["kind"], job["wish"], job["by"]) == ("scale_out", {"pool": "dea", "count": 2}, "operator")
    row(rig, "dea3", state="ready")
    row(rig, "dea4", state="ready")
    job = ended(rig, rig.call("PUT", "/v2/pools/dea", {"size": 3})[1]["job"]["id"])
    assert (job["kind"], job["wish"]) == ("scale_in", {"pool": "dea", "count": 1})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"size": 5}, "size: must be 2 to 4 for pool dea, not 5: 2 of its machines are fixed"),
        (
            {"size": 1},
            "size: must be 2 to 4 for pool dea, not 1: 2 of its machines are fixed and are never deleted",
        ),
        ({"size": "3"}, "expected `int`, got `str` - at `$.size`"),
        ({}, "missing required field `size`"),
        ({"size": 3, "sise": 4}, "unknown field `sise`"),
        ("[]", "expected `object`, got `array`"),
        ("{", "the body: "),
    ],
)
def test_a_size_that_makes_no_sense(rig, body, text):
    status, said = rig.call("PUT", "/v2/pools/dea", body)
    assert (status, said["code"]) == (400, 400)
    assert text in said["description"]
    assert rig.call("GET", "/v2/jobs")[1] == {"jobs": []}


def test_scaling_by_count_and_by_name(rig):
    for path, body, wish in [
        ("scale_out", None, {"pool": "dea", "count": 1}),
        ("scale_out", {"count": 2}, {"pool": "dea", "count": 2}),
        ("scale_in", {}, {"pool": "dea", "count": 1}),
        ("scale_in", {"machine": "dea3"}, {"pool": "dea", "machine": "dea3"}),
    ]:
        status, said = rig.call("POST", f"/v2/pools/dea/{path}", body)
        assert (status, said["job"]["kind"], said["job"]["wish"]) == (202, path, wish)
        ended(rig, said["job"]["id"])
    assert rig.call("POST", "/v2/pools/dea/scale_out", {"count": 0})[0] == 400
    assert rig.call("POST", "/v2/pools/dea/scale_in", {"count": 1, "machine": "dea3"})[0] == 400


def test_a_second_operation_is_refused_by_the_firsts_number(rig, gate):
    gate.open.clear()
    first = rig.call("POST", "/v2/pools/dea/scale_out")[1]["job"]["id"]
    for method, path, body in [
        ("POST", "/v2/pools/dea/scale_in", {}),
        ("PUT", "/v2/pools/dea", {"size": 2}),
        ("POST", "/v2/roll", {"release": "2"}),
    ]:
        status, said = rig.call(method, path, body)
        assert (status, said["code"]) == (409, 409)
        assert f"job {first} (scale_out) works on pool dea" in said["description"]
    assert rig.call("GET", "/v2/pools/dea")[1]["job"] == first
    gate.open.set()
    ended(rig, first)
    assert rig.call("GET", "/v2/pools/dea")[1]["job"] is None


@pytest.mark.parametrize(
    ("path", "body", "wish"),
    [
        ("roll", {"release": "2"}, {"release": "2"}),
        ("roll", {"release": "2", "share": 0.25}, {"release": "2", "share": 0.25}),
        ("rollback", {}, {}),
        ("rollback", {"release": "1"}, {"release": "1"}),
        ("wire_nfs", None, {}),
        ("unwire_nfs", {"hosts": ["dea1"]}, {"hosts": ["dea1"]}),
    ],
)
def test_operations_on_the_platform(rig, path, body, wish):
    status, said = rig.call("POST", f"/v2/{path}", body)
    assert (status, said["job"]["kind"], said["job"]["wish"]) == (202, path, wish)


def test_the_release_that_runs_and_the_way_back(rig):
    assert rig.call("GET", "/v2/release") == (200, {"release": None, "rolling": None, "back": None})
    release_record.record_release(rig.inventory, "2.0")
    assert rig.call("GET", "/v2/release")[1] == {"release": "2.0", "rolling": None, "back": None}
    release_record.record_rolling(rig.inventory, "3.0")
    assert rig.call("GET", "/v2/release")[1] == {"release": "2.0", "rolling": "3.0", "back": "2.0"}


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("roll", {}, "missing required field `release`"),
        ("roll", {"release": ""}, "release: must be the name"),
        ("roll", {"release": "2", "share": 0}, "share: must be more than 0 and at most 1"),
        ("roll", {"release": "2", "shares": 1}, "unknown field `shares`"),
        ("rollback", {"to": "1"}, "unknown field `to`"),
        ("wire_nfs", {"hosts": []}, "hosts: must name at least one"),
        ("wire_nfs", {"hosts": "dea1"}, "expected `array`"),
    ],
)
def test_operations_that_make_no_sense(rig, path, body, text):
    status, said = rig.call("POST", f"/v2/{path}", body)
    assert status == 400
    assert text in said["description"]


def test_a_job_its_lines_and_going_on(rig):
    job_id = rig.call("POST", "/v2/roll", {"release": "2"}, Authorization=ADMIN)[1]["job"]["id"]
    ended(rig, job_id)
    status, job = rig.call("GET", f"/v2/jobs/{job_id}")
    assert status == 200
    assert list(job) == [
        "id", "kind", "wish", "state", "by", "created", "started", "ended", "seconds", "message", "way_out", "steps",
    ]  # fmt: skip
    assert (job["state"], job["by"], job["message"]) == ("failed", "admin@x", "rest: ctl1 does not answer")
    assert job["way_out"]
    assert list(job["steps"][1]) == ["name", "machines", "state", "started", "seconds", "message"]
    assert [s["state"] for s in job["steps"]] == ["done", "failed"]
    assert rig.call("GET", "/v2/jobs?limit=1&state=failed")[1]["jobs"][0]["id"] == job_id
    assert rig.call("GET", "/v2/jobs?state=running")[1] == {"jobs": []}
    assert rig.call("GET", f"/v2/jobs/{job_id}/log")[1] == {"lines": [], "state": "failed"}
    status, said = rig.call("POST", f"/v2/jobs/{job_id}/resume")
    assert (status, said["job"]["id"]) == (202, job_id)
    until(lambda: rig.world.job(job_id)["state"] == "failed", "it fails again")
    (line,) = rig.call("GET", f"/v2/jobs/{job_id}/log?after=0")[1]["lines"]
    assert (line["n"], line["text"], line["step"]) == (1, "resumed by operator", None)
    assert rig.call("GET", f"/v2/jobs/{job_id}/log?after=1")[1]["lines"] == []


def test_jobs_that_are_not_there_or_not_so(rig):
    assert rig.call("GET", "/v2/jobs/7")[0] == 404
    assert rig.call("GET", "/v2/jobs/7/log")[0] == 404
    assert rig.call("POST", "/v2/jobs/7/resume")[0] == 404
    assert rig.call("GET", "/v2/jobs/x")[0] == 404
    for number in ("%C2%B2", str(1 << 64), "9" * 5000):
        assert rig.call("GET", f"/v2/jobs/{number}")[0] == 404
        assert rig.call("GET", f"/v2/jobs/{number}/log")[0] == 404
        assert rig.call("POST", f"/v2/jobs/{number}/resume")[0] == 404
        assert rig.call("GET", f"/v2/jobs?limit={number}")[0] == 400
    for query in ("limit=0", "limit=x", "limit=9999", "state=odd"):
        assert rig.call("GET", f"/v2/jobs?{query}")[0] == 400
    job_id = rig.call("POST", "/v2/pools/dea/scale_out")[1]["job"]["id"]
    ended(rig, job_id)
    status, said = rig.call("POST", f"/v2/jobs/{job_id}/resume")
    assert (status, said["code"]) == (409, 409)


def test_images_are_registered_imported_and_removed(rig):
    rig.images.prepare()
    plain = {"provider": "metal", "name": "plain", "state": "ready", "message": ""}
    assert rig.call("GET", "/v2/images")[1] == {"images": [plain]}
    rig.provider.known["other"] = "ready"
    status, image = rig.call("POST", "/v2/images", {"provider": "metal", "name": "other"})
    assert (status, image["state"]) == (201, "ready")
    rig.provider.go_on.clear()
    status, image = rig.call("POST", "/v2/images", {"provider": "metal", "name": "later"})
    assert (status, image["state"]) == (202, "importing")
    assert rig.call("POST", "/v2/images", {"provider": "metal", "name": "later"})[0] == 409
    assert rig.call("DELETE", "/v2/images/metal/later")[0] == 409
    rig.provider.go_on.set()
    until(lambda: state_of(rig, "later") == "ready", "it is imported")
    assert rig.call("DELETE", "/v2/images/metal/later")[0] == 204
    assert "later" not in rig.provider.known
    assert state_of(rig, "later") is None


def test_an_import_that_fails_says_why(rig):
    rig.provider.go_on.clear()
    assert rig.call("POST", "/v2/images", {"provider": "metal", "name": "new", "source": "/img"})[0] == 202
    until(lambda: rig.provider.imports, "the import begins")
    rig.provider.broken = "no room, said s3cret-of-the-operator"
    rig.provider.go_on.set()
    until(lambda: state_of(rig, "new") == "failed", "it fails")
    (image,) = rig.call("GET", "/v2/images")[1]["images"]
    assert image["message"] == "no room, said ***"
    assert rig.provider.imports == [("new", "/img")]


def test_an_import_cut_short_is_not_for_ever(rig):
    rig.provider.go_on.clear()
    rig.call("POST", "/v2/images", {"provider": "metal", "name": "later"})
    rig.images.prepare()
    assert state_of(rig, "later") == "failed"
    rig.provider.go_on.set()
    until(lambda: state_of(rig, "later") == "ready", "its thread was not cut after all")


def test_images_that_cannot_be(rig):
    rig.images.prepare()
    for body, status in [
        ({"provider": "cloud", "name": "x"}, 404),
        ({"provider": "metal", "name": "x"}, 404),
        ({"provider": "metal", "name": ""}, 400),
        ({"provider": "metal"}, 400),
        ({"provider": "metal", "name": "plain", "colour": "red"}, 400),
    ]:
        assert rig.call("POST", "/v2/images", body)[0] == status
    assert rig.call("DELETE", "/v2/images/metal/x")[0] == 404
    status, said = rig.call("DELETE", "/v2/images/metal/plain")
    assert (status, said["description"][:8]) == (409, "pool dea")
    rig.provider.broken = "the provider is away"
    assert state_of(rig, "plain") == "unknown"
    status, said = rig.call("POST", "/v2/images", {"provider": "metal", "name": "plain"})
    assert (status, said["description"]) == (502, "the provider is away")


def state_of(rig, name):
    images = rig.call("GET", "/v2/images")[1]["images"]
    return next((image["state"] for image in images if image["name"] == name), None)


def test_probes(rig):
    until(lambda: rig.engine.works, "the engine works")
    assert rig.call("GET", "/healthz", Authorization="")[0] == 200
    status, said = rig.call("GET", "/readyz", Authorization="")
    assert (status, said["reasons"]) == (503, ["no connection to the message bus"])
    assert rig.call("GET", "/varz")[0] == 401
    watcher = basic("status", "watching")
    row(rig, "dea3", state="ready")
    rig.beat("198.18.0.6")
    varz = rig.call("GET", "/varz", Authorization=watcher)[1]
    assert (varz["type"], varz["machines"], varz["deas"]) == ("Orchestrator", {"ready": 1}, 1)
    status, text = rig.call("GET", "/metrics", Authorization=watcher)
    assert status == 200
    assert b"ingot_orchestrator_requests_total" in text

"""What `ingot pool|jobs|platform|nfs|images` put on the wire to the orchestrator, and what they say."""

import base64
import json

import pytest

from components.client.follow.job import AwayError, JobFollower, StepReport, phases
from components.client.orchestrator_api import OrchestratorApi, orchestrator_of
from tests.contract.client_stub import Answer, Ingot

POOL = {
    "name": "dea",
    "size": 2,
    "floor": 1,
    "maximum": 8,
    "provider": "lab",
    "image": "bookworm",
    "job": None,
    "machines": [
        {
            "name": "dea1",
            "address": "198.18.0.6",
            "groups": ["dea", "lab"],
            "pool": "dea",
            "provider": "",
            "image": "",
            "state": "ready",
            "fixed": True,
            "host_key": "",
            "instances": 3,
            "release": "0.2.0",
            "since": 1.0,
        }
    ],
}
ROUTER_404 = {"code": 404, "description": "VCAP ROUTER: 404 - DESTINATION NOT FOUND", "request_id": "x"}


def job(state, *steps, **facts):
    return {
        "id": 7,
        "kind": "scale_out",
        "wish": {"pool": "dea", "size": 3},
        "state": state,
        "by": "a@b.com",
        "created": 1.0,
        "started": 1.0,
        "ended": None,
        "seconds": 12.5,
        "message": "",
        "way_out": "",
        "steps": list(steps),
        **facts,
    }


def step(name, state, seconds=None, message="", machines=("dea3",)):
    return {
        "name": name,
        "machines": list(machines),
        "state": state,
        "started": 1.0,
        "seconds": seconds,
        "message": message,
    }


def follow(stub, *states, lines=()):
    """Let job 7 be looked at: a state for every look, and a page of its log before each."""
    stub.set("GET /v2/jobs/7", *states)
    for after in range(len(lines) + 1):
        rows = [
            {"n": n, "at": 1.0, "step": "create", "text": text}
            for n, text in enumerate(lines, 1)
            if n > after
        ]
        last = states[-1]
        state = last["state"] if isinstance(last, dict) else "running"
        stub.set(f"GET /v2/jobs/7/log?after={after}", {"lines": rows, "state": state})


def test_the_orchestrator_is_beside_the_api_at_the_same_port():
    assert orchestrator_of("http://api.ingot.localhost:18080") == "http://orchestrator.ingot.localhost:18080"
    assert orchestrator_of("https://api.a.b") == "https://orchestrator.a.b"


def test_a_name_and_a_token_are_sent_as_to_a_controller(stub, ingot):
    stub.set("GET /v2/pools", {"pools": [POOL]})
    assert ingot.json("pool", "list") == [POOL]
    call = stub.last("GET /v2/pools")
    assert call.headers["host"] == f"orchestrator.ingot.localhost:{stub.port}"
    assert call.headers["authorization"] == "tok-1"


def test_the_operator_s_password_needs_no_login(stub, tmp_path):
    stub.set("GET /v2/pools", {"pools": []})
    where = f"http://127.0.0.1:{stub.port}"
    fresh = Ingot(stub, tmp_path / "fresh")
    fresh.run("pool", "list", INGOT_ORCHESTRATOR=where, INGOT_OPERATOR_PASSWORD="secret")
    want = "Basic " + base64.b64encode(b"operator:secret").decode()
    assert stub.last("GET /v2/pools").headers["authorization"] == want
    assert "no target" in fresh.run("pool", "list", code=1).stderr


def test_a_target_that_tells_no_orchestrator_asks_for_one(stub, ingot):
    assert "--orchestrator" in ingot.run("--target", "http://127.0.0.1:1", "pool", "list", code=1).stderr


def test_listings_in_words(stub, ingot):
    stub.set("GET /v2/pools", {"pools": [POOL]})
    stub.set("GET /v2/pools/dea", POOL)
    stub.set("GET /v2/images", {"images": [{"provider": "lab", "name": "bookworm", "state": "ready"}]})
    stub.set("GET /v2/jobs?limit=20", {"jobs": [job("succeeded")]})
    stub.set("GET /v2/jobs?limit=5&state=failed", {"jobs": []})
    stub.set("GET /v2/jobs/7", job("failed", step("create", "failed", 3.0, "no room"), way_out="make room"))
    assert "bookworm" in ingot.run("pool", "list").stdout
    shown = ingot.run("pool", "show", "dea").stdout
    assert "floor 1, maximum 8" in shown
    assert "fixed" in shown
    assert "ready" in ingot.run("images", "list").stdout
    assert "pool=dea size=3" in ingot.run("jobs", "list").stdout
    assert "no jobs" in ingot.run("jobs", "list", "--limit", "5", "--state", "failed").stdout
    shown = ingot.run("jobs", "show", "7").stdout
    assert "no room" in shown
    assert "make room" in shown
    assert ingot.json("jobs", "show", "7")["id"] == 7


def test_scale_follows_its_job_and_says_the_seconds(stub, ingot):
    stub.set("PUT /v2/pools/dea", {"job": job("waiting")}, status=202)
    created = step("create", "done", 2.0)
    follow(
        stub,
        job("running", step("create", "running")),
        job("running", created, step("configure", "running")),
        job("succeeded", created, step("configure", "done", 30.5), step("configure", "done", 1.0)),
        lines=("made", "play 1"),
    )
    result = ingot.run("pool", "scale", "dea", "--size", "3")
    assert stub.last("PUT /v2/pools/dea").json() == {"size": 3}
    assert "create" in result.stderr
    assert "play 1" in result.stderr
    assert result.stderr.count("| made") == 1
    assert "from the command to capacity in" in result.stdout
    assert "create 2.0 s, configure 31 s" in result.stdout


def test_scale_as_json_keeps_standard_output_clean(stub, ingot):
    stub.set("PUT /v2/pools/dea", {"job": job("waiting")}, status=202)
    follow(stub, job("succeeded", step("create", "done", 2.0)))
    done = json.loads(ingot.run("pool", "scale", "dea", "--size", "3", "--json").stdout)
    assert done["phases"] == {"create": 2.0}
    assert done["total_seconds"] >= 0


def test_scale_that_changes_nothing_and_one_that_is_not_waited_for(stub, ingot):
    stub.set("PUT /v2/pools/dea", {"job": None})
    assert "already" in ingot.run("pool", "scale", "dea", "--size", "2").stdout
    stub.set("PUT /v2/pools/dea", {"job": job("waiting")}, status=202)
    assert "ingot jobs log 7 --follow" in ingot.run("pool", "scale", "dea", "--size", "3", "--no-wait").stdout
    assert "GET /v2/jobs/7" not in stub.lines()


def test_a_job_that_fails_is_an_error_with_the_way_out(stub, ingot):
    stub.set("PUT /v2/pools/dea", {"job": job("waiting")}, status=202)
    bad = step("reach", "failed", 9.0, "no SSH")
    follow(stub, job("failed", bad, message="dea3 never answered", way_out="try again"))
    result = ingot.run("pool", "scale", "dea", "--size", "3", code=1)
    assert "dea3 never answered" in result.stderr
    assert "next: try again" in result.stderr
    assert "failed: no SSH" in result.stderr


@pytest.mark.parametrize(("status", "words"), [(400, "floor"), (404, "floor"), (409, "jobs list")])
def test_a_refused_wish(stub, ingot, status, words):
    stub.error("PUT /v2/pools/dea", status, status, "size 0 is below the floor of 1")
    assert words in ingot.run("pool", "scale", "dea", "--size", "0", code=1).stderr


def test_somebody_who_may_not_operate_is_told_who_may(stub, ingot):
    stub.error("GET /v2/pools", 403, 403, "not an administrator")
    assert "INGOT_OPERATOR_PASSWORD" in ingot.run("pool", "list", code=1).stderr


def test_an_orchestrator_the_routers_do_not_know_is_said_to_be_away(stub, ingot):
    stub.set("GET /v2/pools", ROUTER_404, status=404)
    assert "away" in ingot.run("pool", "list", code=1).stderr


def test_following_rides_out_what_a_roll_restarts(stub, ingot):
    stub.set("POST /v2/roll", {"job": job("waiting", kind="roll")}, status=202)
    follow(
        stub,
        Answer(503, {"code": 503, "description": "starting"}),
        Answer(502, "bad gateway"),
        Answer(404, ROUTER_404),
        job("succeeded", step("roll", "done", 60.0)),
    )
    stub.set("GET /v2/jobs/7/log?after=0", {"lines": [], "state": "running"})
    assert "runs release 2.0" in ingot.run("platform", "roll", "2.0", "--share", "0.5").stdout
    assert stub.last("POST /v2/roll").json() == {"release": "2.0", "share": 0.5}


def test_following_gives_up_when_nobody_answers_for_long():
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds * 100

    api = OrchestratorApi("http://127.0.0.1:1", "t")
    follower = JobFollower(api, patience=120, clock=lambda: now[0], sleep=sleep)
    with pytest.raises(AwayError, match="no longer answers"):
        follower.follow(7)
    assert 120 < now[0] < 400


def test_an_unknown_job_is_not_waited_for(stub, ingot):
    unknown = {"code": 404, "description": "there is no job 9"}
    stub.set("GET /v2/jobs/9/log?after=0", unknown, status=404)
    assert "no job 9" in ingot.run("jobs", "log", "9", "--follow", code=1).stderr


def test_the_log_of_a_job(stub, ingot):
    rows = [{"n": 1, "at": 1.0, "step": "create", "text": "made [dea3]"}]
    stub.set("GET /v2/jobs/7/log?after=0", {"lines": rows, "state": "succeeded"})
    stub.set("GET /v2/jobs/7/log?after=1", {"lines": [], "state": "succeeded"})
    stub.set("GET /v2/jobs/7", job("succeeded"))
    assert "made [dea3]" in ingot.run("jobs", "log", "7").stdout
    assert "made [dea3]" in ingot.run("jobs", "log", "7", "--follow").stdout
    assert ingot.json("jobs", "log", "7") == rows
    stub.set("GET /v2/jobs/7", job("failed", message="broken"))
    assert "broken" in ingot.run("jobs", "log", "7", "-f", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "line", "body"),
    [
        (("pool", "scale-out", "dea"), "POST /v2/pools/dea/scale_out", {"count": 1}),
        (("pool", "scale-in", "dea", "--count", "2"), "POST /v2/pools/dea/scale_in", {"count": 2}),
        (
            ("pool", "scale-in", "dea", "--machine", "dea3"),
            "POST /v2/pools/dea/scale_in",
            {"machine": "dea3"},
        ),
        (("platform", "rollback", "1.0"), "POST /v2/rollback", {"release": "1.0"}),
        (("nfs", "wire"), "POST /v2/wire_nfs", {}),
        (("nfs", "unwire", "dea1", "ctl1"), "POST /v2/unwire_nfs", {"hosts": ["dea1", "ctl1"]}),
        (("jobs", "resume", "7"), "POST /v2/jobs/7/resume", {}),
    ],
)
def test_what_else_starts_a_job(stub, ingot, arguments, line, body):
    stub.set(line, {"job": job("waiting", kind="x")}, status=202)
    follow(stub, job("succeeded", kind="x"))
    assert "job 7 (x) is done" in ingot.run(*arguments).stdout
    assert stub.last(line).json() == body


def test_the_platform_goes_back_to_what_was_named_and_agreed_to(stub, ingot, monkeypatch):
    stub.set("GET /v2/release", {"release": "2.0", "rolling": None, "back": "1.9"})
    stub.set("POST /v2/rollback", {"job": job("waiting", kind="rollback")}, status=202)
    follow(stub, job("succeeded", kind="rollback"))
    # Nobody can be asked: nothing is done.
    refused = ingot.run("platform", "rollback", code=2)
    assert "back to release 1.9" in refused.stderr
    assert "--force" in refused.stderr
    monkeypatch.setattr("components.client.session.interactive", lambda: True)
    monkeypatch.setattr("components.client.commands.releases.interactive", lambda: True)
    asked = ingot.attempt("platform", "rollback", stdin="n\n")
    assert (asked.exit_code, "back to release 1.9?" in asked.stderr) == (1, True)
    assert "POST /v2/rollback" not in stub.lines()
    for more, answer in ((("--force",), ""), ((), "y\n")):
        assert ingot.attempt("platform", "rollback", *more, stdin=answer).exit_code == 0
        # What was agreed to, whatever the orchestrator would choose by then.
        assert stub.last("POST /v2/rollback").json() == {"release": "1.9"}
    stub.set("GET /v2/release", {"release": "2.0", "rolling": None, "back": None})
    assert "ingot platform rollback VERSION" in ingot.run("platform", "rollback", "--force", code=1).stderr


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("roll", "2.0"), "ingot platform roll VERSION"),
        (("roll", "2.0", "--share", "0.5", "--json"), "ingot platform roll VERSION"),
        (("roll",), "ingot platform roll VERSION"),
        (("rollback",), "ingot platform rollback"),
        (("rollback", "--json", "--no-wait"), "ingot platform rollback"),
        (("rollback", "--revision", "2"), "ingot platform rollback"),
        (("rollback", "1.9"), "ingot platform rollback 1.9"),
        (("rollback", "--release", "next"), "ingot platform rollback next"),
        (("rollback", "hello", "--release", "next"), "ingot platform rollback next"),
    ],
)
def test_the_platforms_words_of_before_change_nothing_and_name_those_of_now(stub, ingot, before, now):
    refused = ingot.run(*before, code=2)
    assert f"`{now}`" in refused.stderr
    assert "Nothing was changed." in refused.stderr
    assert refused.stdout == ""
    assert stub.calls == []


def test_images_are_registered_and_forgotten(stub, ingot):
    image = {"provider": "lab", "name": "bookworm", "state": "importing"}
    stub.set("POST /v2/images", image, status=202)
    stub.set("DELETE /v2/images/lab/bookworm", "", status=204)
    assert "importing" in ingot.run("images", "add", "lab", "bookworm", "--source", "/x.img").stdout
    wanted = {"provider": "lab", "name": "bookworm", "source": "/x.img"}
    assert stub.last("POST /v2/images").json() == wanted
    ingot.run("images", "remove", "lab", "bookworm")


def test_the_board_shows_every_step_once_when_it_ended():
    report = StepReport()
    assert report.news(job("running", step("create", "running"))) == []
    made = step("create", "done", 2.0)
    assert [line.split()[0] for line in report.news(job("running", made, step("reach", "running")))] == [
        "create"
    ]
    assert [line.split()[0] for line in report.news(job("failed", made, step("reach", "failed", 1.0)))] == [
        "reach"
    ]
    assert report.now(job("running", step("reach", "running")), "trying") == "reach dea3: trying"
    assert phases(job("running", made, made, step("reach", "waiting"))) == {"create": 4.0}

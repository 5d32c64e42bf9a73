"""Limits of requests and accounts, tokens, pages and events over HTTP: no bus, SQLite."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from components.common.bus.operation_messages import DeaUsage, RouterUsage, TaskEnded, UsageSample
from components.controller.accounts.auth import find_user
from components.controller.api.app import create_app
from components.controller.composition import Controller
from components.controller.db.models_records import Task
from tests.contract.vmc_client import ADMIN, PASSWORD, Vmc, body_of, controller_in, served


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller_in(
        tmp_path_factory.mktemp("controller"), login_limit={"per_minute": 1, "burst": 3}
    ) as made:
        yield made


def account(vmc: Vmc, email: str) -> Vmc:
    assert vmc.call("POST", "/users", {"email": email, "password": "pw"}).status == 204
    return vmc.login(quote(email), "pw")


def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    with (
        controller_in(tmp_path, rate_limit={"per_minute": 6, "burst": 5}) as made,
        served(made) as vmc,
    ):
        one, two = account(vmc, "a@b.com"), account(vmc, "c@d.com")
        assert [one.call("GET", "/v2/me").status for _ in range(5)] == [200] * 5
        refused = one.call("GET", "/v2/me")
        assert refused.code == (429, 429)
        assert 1 <= int(refused.headers["Retry-After"]) <= 10
        assert one.call("PUT", "/apps/x", {}).code == (429, 429), "on any route"
        assert two.call("GET", "/v2/me").status == 200
        assert all(vmc.call("GET", "/info").status == 200 for _ in range(9)), "nobody in particular"
        boss = vmc.login(ADMIN, PASSWORD)
        acted = [boss.call("GET", "/v2/me", PROXY_USER="c@d.com").status for _ in range(6)]
        assert acted[-1] == 429, "who acts for another uses up their own"
        assert two.call("GET", "/v2/me").status == 200


def test_failed_logins_of_one_address_to_one_account_are_limited(vmc: Vmc) -> None:
    one = account(vmc, "guessed@b.com")
    for _ in range(3):
        vmc.login("guessed@b.com", "pw")
    assert [vmc.call("POST", "/users/guessed@b.com/tokens", {"password": "x"}).status for _ in range(3)] == [
        403
    ] * 3
    refused = vmc.call("POST", "/users/Guessed%40b.com/tokens", {"password": "pw"})
    assert refused.code == (429, 429)
    assert int(refused.headers["Retry-After"]) > 1
    assert one.call("GET", "/v2/me").status == 200, "a token that holds goes on holding"
    assert vmc.call("POST", "/users/other@b.com/tokens", {"password": "x"}).status == 403
    elsewhere = {"X-Forwarded-For": "192.0.2.7", "Content-Type": "application/json"}
    assert vmc.raw("POST", "/users/guessed@b.com/tokens", b'{"password": "pw"}', elsewhere).status == 200


def test_failed_logins_and_registrations_of_one_address_are_limited(tmp_path: Path) -> None:
    with (
        controller_in(tmp_path, address_limit={"per_minute": 1, "burst": 4}) as made,
        served(made) as vmc,
    ):
        one = account(vmc, "one@b.com")
        for _ in range(5):
            # Those that succeed do not count.
            vmc.login("one@b.com", "pw")
        for name in ("a", "b", "c"):
            assert vmc.call("POST", f"/users/{name}@b.com/tokens", {"password": "x"}).code == (403, 200)
        refused = vmc.call("POST", "/users/d@b.com/tokens", {"password": "x"})
        assert refused.code == (429, 429)
        assert int(refused.headers["Retry-After"]) > 1
        assert vmc.call("POST", "/users", {"email": "e@b.com", "password": "pw"}).code == (429, 429)
        # One who logged in from here is let in on; their own limit counts the failures.
        assert vmc.login("one@b.com", "pw").call("GET", "/v2/me").status == 200
        assert vmc.call("POST", "/users/one@b.com/tokens", {"password": "x"}).code == (403, 200)
        refused = vmc.call("POST", "/users/d@b.com/tokens", {"password": "x"})
        assert refused.code == (429, 429), "and a login that was not counted makes no room for others"
        # Neither a client with a token is held up, nor another address; all addresses of one IPv6 network count as one.
        assert one.call("GET", "/v2/me").status == 200
        boss = Vmc(vmc.port, made.tokens.make(ADMIN, _epoch_of(made, ADMIN)))
        assert boss.call("POST", "/users", {"email": "e@b.com", "password": "pw"}).status == 204
        found = [
            vmc.raw(
                "POST",
                f"/users/{n}@b.com/tokens",
                b"{}",
                {"X-Forwarded-For": f"2001:db8:0:1::{n}", "Content-Type": "application/json"},
            ).status
            for n in range(1, 6)
        ]
        assert found == [403, 403, 403, 403, 429]


def _epoch_of(controller: Controller, email: str) -> int:
    with controller.db.session() as session:
        found = find_user(session, email)
        assert found is not None
        return found.token_epoch


def test_who_is_not_known_sends_little_and_is_refused_unread(tmp_path: Path) -> None:
    deep = b"[" + b"[]," * 20_000 + b"[]]"
    large = b'{"password": "pw", "email": "' + b"a" * (64 << 10) + b'@b.com"}'
    headers = {"Content-Type": "application/json"}
    with controller_in(tmp_path, allow_registration=False) as made, served(made) as vmc:
        boss = vmc.login(ADMIN, PASSWORD)
        before = time.process_time()
        body = b"[" + b"[]," * (8 << 20) + b"[]]"
        assert vmc.raw("POST", "/users", body, headers).code == (403, 200)
        assert time.process_time() - before < 2, "a body that is refused is not parsed"
        for path in ("/users/a@b.com/tokens", "/services/v1/offerings"):
            answer = vmc.raw("POST", path, large, {**headers, "X-VCAP-Service-Token": "guessed"})
            assert answer.code == (400, 100)
            assert "larger than 64 KB" in answer.json()["description"]
        named = boss.raw("POST", "/users", large, {**headers, "AUTHORIZATION": boss.token})
        assert "not an email address" in named.json()["description"], "who is known may send more"
        listed = boss.raw("POST", "/resources", deep, {**headers, "AUTHORIZATION": boss.token})
        assert (listed.status, listed.json()) == (200, [])
        many = b"[" + b"[]," * 600_000 + b"[]]"
        answer = boss.raw("POST", "/resources", many, {**headers, "AUTHORIZATION": boss.token})
        assert answer.code == (400, 100)
        assert "too many parts" in answer.json()["description"]
        assert boss.call("POST", "/apps", body_of("many")).status == 302
        sent = boss.upload("many", {"a": b"1"}, many.decode())
        assert sent.code == (400, 100)
        assert "`resources` has too many parts" in sent.json()["description"]


def test_refusals_of_strangers_are_written_down_so_often_and_no_more(tmp_path: Path) -> None:
    with controller_in(tmp_path, allow_registration=False) as made, served(made) as vmc:
        boss = vmc.login(ADMIN, PASSWORD)
        for number in range(40):
            assert vmc.call("POST", "/users", {"email": f"x{number}@b.com", "password": "x"}).status == 403
        found = boss.call("GET", "/v2/events?limit=500").json()["events"]
        refused = [e for e in found if e["status"] == 403]
        # The bucket may have got a drop or two meanwhile.
        assert 30 <= len(refused) < 36
        assert {e["who"] for e in refused} == {"anonymous"}, "what is refused unread says nothing"
        assert boss.call("DELETE", "/apps/none").code == (404, 301)
        newest = boss.call("GET", "/v2/events?limit=1").json()["events"][0]
        assert (newest["who"], newest["method"]) == (ADMIN, "DELETE"), "users are written down"


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    def fill() -> str:
        with Path("/dev/full").open("wb", buffering=0) as disk:
            return str(disk.write(b"x"))

    with controller_in(tmp_path) as made:
        app = create_app(made)
        app.add_url_rule("/fill", view_func=fill)
        answer = app.test_client().get("/fill")
        assert answer.status_code == 500
        assert answer.get_json()["code"] == 111
        assert "disk is full" in answer.get_json()["description"]


def test_tokens_end(vmc: Vmc, admin: Vmc, controller: Controller) -> None:
    tokens = controller.tokens

    def _epoch(token: str) -> int:
        claim = tokens.read(token)
        assert claim is not None
        return claim[1]

    one = account(vmc, "token@b.com")
    again = vmc.login("token@b.com", "pw")
    assert again.call("DELETE", "/v2/users/token@b.com/tokens").status == 204
    for old in (one, again):
        assert old.call("GET", "/v2/me").code == (403, 200)
    one = vmc.login("token@b.com", "pw")
    assert one.call("DELETE", f"/v2/users/{ADMIN}/tokens").code == (403, 200)
    assert admin.call("DELETE", "/v2/users/none@b.com/tokens").code == (403, 201)
    assert admin.call("DELETE", "/v2/users/Token%40b.com/tokens").status == 204
    assert one.call("GET", "/v2/me").code == (403, 200)
    one = vmc.login("token@b.com", "pw")
    elsewhere = Vmc(vmc.port, tokens.make("token@b.com", _epoch(one.token), now=time.time() - 60))
    assert elsewhere.call("GET", "/v2/me").status == 200
    assert one.call("PUT", "/users/token@b.com", {"password": "pw2"}).status == 204
    assert elsewhere.call("GET", "/v2/me").code == (403, 200)
    assert one.call("GET", "/v2/me").status == 200, "clients of 2011 go on with the token they have"
    other = vmc.login("token@b.com", "pw2")
    assert admin.call("PUT", "/users/token@b.com", {"password": "pw3"}).status == 204
    for old in (one, other):
        assert old.call("GET", "/v2/me").code == (403, 200)
    assert admin.call("GET", "/v2/me").status == 200
    one = vmc.login("token@b.com", "pw3")
    assert one.call("PUT", "/users/token@b.com", {"password": "pw4"}).status == 204
    assert one.call("DELETE", "/v2/users/token@b.com/tokens").status == 204
    assert one.call("GET", "/v2/me").code == (403, 200)
    one = vmc.login("token@b.com", "pw4")
    assert admin.call("DELETE", "/users/token@b.com").status == 204
    fresh = account(vmc, "token@b.com")
    assert one.call("GET", "/v2/me").code == (403, 200), "of one who had the same address before"
    assert fresh.call("GET", "/v2/me").status == 200
    past = tokens.make("token@b.com", 0, now=1000.0)
    for bad in (past, tokens.make("token@b.com", 5), fresh.token[:-2] + "xx", "bearer " + fresh.token):
        assert Vmc(vmc.port, bad).call("GET", "/v2/me").code == (403, 200)


def test_limits_of_an_account(vmc: Vmc, admin: Vmc) -> None:
    one = account(vmc, "quota@b.com")
    path = "/v2/users/quota@b.com/quota"
    old = {"memory": 2048, "apps": 20, "app_uris": 4, "services": 16}
    standard = {**old, "instances": 64, "disk": 131_072, "routes": 40, "builds": 4, "storage": 20_480}
    assert one.call("GET", path).json() == admin.call("GET", path).json() == standard
    assert one.call("GET", f"/v2/users/{ADMIN}/quota").code == (403, 200)
    assert one.call("PUT", path, {"memory": 1}).code == (403, 200)
    assert vmc.call("GET", path).code == (403, 200)
    assert admin.call("PUT", path, {"apps": 1, "app_uris": 2}).json() == {
        **standard,
        "apps": 1,
        "app_uris": 2,
    }
    assert one.call("GET", "/info").json()["limits"] == {**old, "apps": 1, "app_uris": 2}, "as in 2011"
    uris = [f"{n}.ingot.localhost" for n in "abc"]
    assert one.call("POST", "/apps", body_of("many", uris=uris)).code == (403, 602)
    assert one.call("POST", "/apps", body_of("one")).status == 302
    assert one.call("POST", "/apps", body_of("two")).code == (403, 601)
    assert admin.call("PUT", path, {"apps": None, "memory": 0}).json()["apps"] == 20
    assert one.call("POST", "/apps", body_of("two")).status == 302
    assert one.call("PUT", "/apps/two", {"state": "STARTED"}).code == (403, 600)
    admin.call("PUT", path, {"services": 0})
    wish = {"name": "r1", "vendor": "redis", "version": "7.0", "tier": "free"}
    assert one.call("POST", "/services", wish).code == (403, 504)
    for bad in (
        {"memory": -1},
        {"memory": "1"},
        {"memory": True},
        {"apps": 1 << 40},
        {"colour": 1},
        {"apps": 1.5},
    ):
        answer = admin.call("PUT", path, bad)
        assert answer.code == (400, 100)
        assert next(iter(bad)) in answer.json()["description"]
    assert admin.call("PUT", path, [1]).code == (400, 100)
    assert admin.call("PUT", "/v2/users/none@b.com/quota", {}).code == (403, 201)


def pages(client: Vmc, path: str, key: str, limit: int) -> list[list[dict[str, object]]]:
    found, after = [], ""
    while True:
        sep = "&" if "?" in path else "?"
        answer = client.call("GET", f"{path}{sep}limit={limit}{after}").json()
        found.append(answer[key])
        if answer["next"] is None:
            return found
        after = f"&after={answer['next']}"


def test_pages_of_applications(vmc: Vmc, admin: Vmc) -> None:
    one, two = account(vmc, "pages@b.com"), account(vmc, "pages2@b.com")
    for name in ("c", "a", "d", "b", "e"):
        assert one.call("POST", "/apps", body_of(f"p{name}")).status == 302
    assert two.call("POST", "/apps", body_of("pa", uris=[])).status == 302
    shown = pages(one, "/v2/apps", "apps", 2)
    assert [[app["name"] for app in page] for page in shown] == [["pa", "pb"], ["pc", "pd"], ["pe"]]
    assert shown[0][0]["owner"] == "pages@b.com"
    assert shown[0][0] == {
        **one.call("GET", "/apps/pa").json(),
        "id": shown[0][0]["id"],
        "owner": "pages@b.com",
    }
    assert pages(two, "/v2/apps", "apps", 1) == pages(admin, "/v2/apps?owner=pages2@b.com", "apps", 50)
    every = [app for page in pages(admin, "/v2/apps?all=1", "apps", 2) for app in page]
    everybodys = [str(app["owner"]) for app in every if str(app["name"]).startswith("p")]
    assert sorted(everybodys) == ["pages2@b.com"] + ["pages@b.com"] * 5
    assert one.call("GET", "/v2/apps?all=1").code == (403, 200)
    assert one.call("GET", "/v2/apps?owner=pages2@b.com").code == (403, 200)
    assert admin.call("GET", "/v2/apps?owner=none@b.com").code == (403, 201)
    assert vmc.call("GET", "/v2/apps").code == (403, 200)
    users = [page[0] for page in pages(admin, "/v2/users", "users", 1)]
    emails = [str(user["email"]) for user in users]
    assert emails == sorted(emails)
    mine = users[emails.index("pages@b.com")]
    assert (mine["apps"], mine["admin"]) == (5, False)
    assert mine["usage"] == {"memory": 0, "apps": 0, "services": 0, "instances": 0, "disk": 0, "routes": 5}
    assert one.call("GET", "/v2/users").code == (403, 200)
    cursor = one.call("GET", "/v2/apps?limit=1").json()["next"]
    bad = {
        "after": [cursor[:-1], "x", cursor + "x", admin.call("GET", "/v2/users?limit=1").json()["next"]],
        "limit": ["0", "501", "x", "-1", "1.5", "9" * 40],
        "colour": ["red"],
    }
    for name, values in bad.items():
        for value in values:
            answer = one.call("GET", f"/v2/apps?{name}={value}")
            assert answer.code == (400, 100), (name, value)
            assert name in answer.json()["description"]


def test_usage_and_tasks_on_sqlite(vmc: Vmc, controller: Controller) -> None:
    one, tasks, taker = account(vmc, "small@b.com"), controller.tasks, controller.usage
    one.call("POST", "/apps", body_of("small"))
    id_ = one.call("GET", "/v2/apps").json()["apps"][0]["id"]
    now = int(time.time())
    for _ in range(3):
        taker.dea(
            DeaUsage(
                dea="0-a",
                at=now,
                seconds=60,
                samples=[UsageSample(droplet=id_, instance="i", reserved=60, used=6)],
            )
        )
        taker.router(RouterUsage(router="r", at=now, seconds=60, requests={str(id_): 7, "12345": 1}))
    (row,) = one.call("GET", "/v2/usage").json()["usage"]
    assert (row["reserved_mb_hours"], row["used_mb_hours"], row["requests"]) == (3.0, 0.3, 21)
    assert one.call("POST", "/v2/apps/small/tasks", {"command": "true"}).code == (400, 300)
    assert vmc.call("GET", "/v2/apps/small/tasks").code == (403, 200)
    with controller.db.session() as session:
        for name, age in (("t1", 0), ("t2", 100), ("t3", 200)):
            session.add(Task(id=name, app_id=id_, command="x", memory=8, timeout=60.0, state="running", dea="0-a", by="a",
                             created_at=now - age, started_at=float(now)))  # fmt: skip
    assert one.call("GET", "/info").json()["usage"]["memory"] == 24
    tasks.ended(TaskEnded(task="t1", dea="other", exit_status=0))
    tasks.ended(TaskEnded(task="t1", dea="0-a", exit_status=-(1 << 40), tail="a\0b" + "x" * 100_000))
    tasks.ended(TaskEnded(task="t2", dea="0-a", exit_status=0))
    tasks.ended(TaskEnded(task="t2", dea="0-a", exit_status=1, tail="late"))
    tasks.ended(TaskEnded(task="none", dea="0-a", exit_status=0))
    shown = one.call("GET", "/v2/apps/small/tasks").json()["tasks"]
    assert [(t["id"], t["state"]) for t in shown] == [
        ("t1", "failed"),
        ("t2", "succeeded"),
        ("t3", "running"),
    ]
    assert [line["text"] for line in one.call("GET", "/v2/apps/small/tasks/t2/logs").json()["lines"]] == [
        "late"
    ]
    tasks.prune(now + 8 * 86400.0)
    assert [t["id"] for t in one.call("GET", "/v2/apps/small/tasks").json()["tasks"]] == ["t3"]
    controller.housekeeping.prune(now + 801 * 86400.0)
    assert one.call("GET", "/v2/usage").json()["usage"] == []
    assert one.call("DELETE", "/apps/small").status == 200
    with controller.db.session() as session:
        assert session.get(Task, "t3") is None


def test_events(vmc: Vmc, admin: Vmc, controller: Controller) -> None:
    one = account(vmc, "events@b.com")
    one.call("POST", "/apps", body_of("seen", env=["KEY=hidden-1"]))
    one.call("PUT", "/apps/seen", {"env": ["hidden-2"]})
    vmc.call("POST", "/users/events@b.com/tokens", {"password": "hidden-3"})
    one.call("PUT", "/users/events@b.com", {"password": "hidden-4"})
    one = vmc.login("events@b.com", "hidden-4")
    admin.call("DELETE", "/apps/seen", PROXY_USER="events@b.com")
    one.call("DELETE", "/services/v1/binding_tokens/hidden-5")
    vmc.call("DELETE", "/apps/seen")
    one.call("GET", "/apps")
    found = one.call("GET", "/v2/events").json()["events"]
    told = [(e["method"], e["path"], e["app"], e["status"], e["outcome"]) for e in reversed(found)]
    assert told == [
        ("POST", "/users", None, 204, "succeeded"),
        ("POST", "/users/events@b.com/tokens", None, 200, "succeeded"),
        ("POST", "/apps", "seen", 302, "succeeded"),
        ("PUT", "/apps/seen", "seen", 400, "failed: 300 Invalid application description"),
        ("POST", "/users/events@b.com/tokens", None, 403, "failed: 200 Operation not permitted"),
        ("PUT", "/users/events@b.com", None, 204, "succeeded"),
        ("POST", "/users/events@b.com/tokens", None, 200, "succeeded"),
        ("DELETE", "/apps/seen", "seen", 200, "succeeded"),
        ("DELETE", "/services/v1/binding_tokens/***", None, 404, "failed: 502 Token not found"),
    ]
    assert {e["from"] for e in found} == {"127.0.0.1"}
    assert (found[1]["who"], found[1]["acting_for"]) == (ADMIN, "events@b.com")
    assert {e["who"] for e in found} == {ADMIN, "events@b.com"}
    assert "hidden" not in str(found)
    everything = admin.call("GET", "/v2/events?limit=500").json()["events"]
    assert ("anonymous", "DELETE", 403) in [(e["who"], e["method"], e["status"]) for e in everything]
    assert [e["id"] for page in pages(one, "/v2/events", "events", 2) for e in page] == [
        e["id"] for e in found
    ]
    seen = admin.call("GET", "/v2/events?app=seen&user=events@b.com").json()["events"]
    assert [e["method"] for e in seen] == ["PUT", "POST"]
    assert admin.call("GET", f"/v2/events?since={found[0]['at']}&user={ADMIN}").json()["events"] == []
    for bad in ("since=x", "limit=0", "after=x", "colour=1"):
        assert one.call("GET", f"/v2/events?{bad}").code == (400, 100)
    assert vmc.call("GET", "/v2/events").code == (403, 200)
    controller.housekeeping.prune(found[0]["at"] + 91 * 86400.0)
    assert one.call("GET", "/v2/events").json() == {"events": [], "next": None}

"""The REST wire of 2011 as `vmc` meets it: raw requests over sockets, no bus, SQLite."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.controller.composition import Controller
from components.controller.storage.store import Blocks
from tests.contract.vmc_client import ADMIN, Vmc, body_of, controller_in

# Variables that no instance can be given.
UNDELIVERABLE = ["VCAP_X=2", "vmc_x=2", "INGOT_X=2", "a.b=2", "a-b=2", "1X=2", "=2", " A=2", "A B=2"]


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller_in(tmp_path_factory.mktemp("controller")) as made:
        yield made


@pytest.fixture(scope="module")
def user(vmc: Vmc) -> Vmc:
    assert vmc.call("POST", "/users", {"email": "a@b.com", "password": "pw"}).status == 204
    return vmc.login("a%40b.com", "pw")


def test_info(vmc: Vmc, user: Vmc) -> None:
    anonymous = vmc.call("GET", "/info").json()
    assert set(anonymous) == {"name", "build", "support", "version", "description", "allow_debug"}
    assert all(anonymous[k] for k in ("name", "build", "support", "version"))
    assert anonymous["version"] == "0.999"
    mine = user.call("GET", "/info").json()
    assert mine["user"] == "a@b.com"
    assert mine["limits"] == {"memory": 2048, "app_uris": 4, "services": 16, "apps": 20}
    assert mine["usage"] == {"memory": 0, "apps": 0, "services": 0}
    assert mine["frameworks"]["wsgi"]["runtimes"][0]["name"] == "python3"
    assert "authorization_endpoint" not in mine
    assert "version" in vmc.call("GET", "/info/runtimes").json()["python3"]
    assert user.call("GET", "/info/services").json() == {}
    assert vmc.call("GET", "/info/services").code == (403, 200)
    assert vmc.raw("GET", "/").status == 200


def test_a_bad_token_is_anonymous(vmc: Vmc) -> None:
    stale = Vmc(vmc.port, "0408deadbeef")
    assert "user" not in stale.call("GET", "/info").json()
    assert stale.call("GET", "/apps").code == (403, 200)
    assert stale.login("a@b.com", "pw").token, "a stale token does not fail a login"


def test_users(vmc: Vmc, user: Vmc, admin: Vmc) -> None:
    assert vmc.call("POST", "/users", {"email": "a@b.com", "password": "x"}).code == (400, 100)
    assert vmc.call("POST", "/users", {"email": "nobody", "password": "x"}).code == (400, 100)
    assert vmc.call("POST", "/users", {"email": "x@y.z"}).code == (400, 100)
    assert vmc.raw("POST", "/users", b"{", {"Content-Type": "application/json"}).code == (400, 100)
    assert vmc.call("POST", "/users/a@b.com/tokens", {"password": "wrong"}).code == (403, 200)
    assert vmc.call("POST", "/users/no%40b.com/tokens", {"password": "pw"}).code == (403, 200)
    assert user.call("GET", "/users/a%40b.com").json() == {"email": "a@b.com"}
    assert user.call("GET", f"/users/{ADMIN}").code == (403, 200)
    assert admin.call("GET", "/users/none%40b.com").code == (403, 201)
    assert user.call("GET", "/users").code == (403, 200)
    assert {"email": "a@b.com", "admin": False, "apps": []} in admin.call("GET", "/users").json()
    assert admin.call("POST", "/users/a%40b.com/tokens", {}).json()["token"]
    # The quirk of 2011, that the path's email is ignored, is mended.
    assert user.call("PUT", f"/users/{ADMIN}", {"email": ADMIN, "password": "mine"}).code == (403, 200)
    assert user.call("PUT", "/users/a%40b.com", {"email": "a@b.com", "password": "pw2"}).status == 204
    assert vmc.call("POST", "/users/a@b.com/tokens", {"password": "pw"}).status == 403
    # The old client goes on with the token it has.
    assert user.call("PUT", "/users/a@b.com", {"email": "a@b.com", "password": "pw"}).status == 204


def test_proxy_user(user: Vmc, admin: Vmc) -> None:
    assert admin.call("GET", "/info", PROXY_USER="a@b.com").json()["user"] == "a@b.com"
    assert admin.call("GET", "/apps", PROXY_USER="none@b.com").code == (403, 201)
    assert user.call("GET", "/apps", PROXY_USER=ADMIN).code == (403, 200)


def test_deleting_a_user_takes_the_applications(vmc: Vmc, user: Vmc, admin: Vmc) -> None:
    vmc.call("POST", "/users", {"email": "gone@b.com", "password": "pw"})
    gone = vmc.login("gone@b.com", "pw")
    assert gone.call("POST", "/apps", body_of("theirs")).status == 302
    assert user.call("DELETE", "/users/gone%40b.com").code == (403, 200)
    assert admin.call("DELETE", "/users/gone%40b.com").status == 204
    assert gone.call("GET", "/apps").code == (403, 200)
    assert user.call("POST", "/apps", body_of("theirs")).status == 302, "name and route are free again"
    user.call("DELETE", "/apps/theirs")


def test_the_calls_of_a_push(user: Vmc) -> None:
    assert user.call("GET", "/apps/env").code == (404, 301)
    created = user.call("POST", "/apps", body_of("env", env=["A=1", *UNDELIVERABLE]))
    assert created.status == 302
    assert created.headers["Location"] == f"http://127.0.0.1:{user.port}/apps/env"
    assert created.json() == {"result": "success", "redirect": created.headers["Location"]}
    shown = user.call("GET", "/apps/env").json()
    created_at = shown["meta"].pop("created")
    assert isinstance(created_at, int)
    assert shown.pop("version").endswith("-0")
    assert shown == {
        "name": "env",
        "staging": {"model": "wsgi", "stack": "python3"},
        "uris": ["env.ingot.localhost"],
        "instances": 1,
        "runningInstances": 0,
        "resources": {"memory": 64, "disk": 2048, "fds": 256},
        "state": "STOPPED",
        "services": [],
        "env": ["A=1"],
        "meta": {"debug": None, "console": None, "version": 1},
    }
    uploaded = user.upload("env", {"app.py": b"application = None"})
    assert (uploaded.status, uploaded.body) == (200, b" ")
    assert user.call("POST", "/apps", body_of("env", uris=[])).code == (400, 300)
    assert user.call("POST", "/apps", body_of("other", uris=["ENV.ingot.localhost"])).code == (400, 701)
    assert user.call("GET", "/apps/other").code == (404, 301), "a refused creation leaves no row"
    assert user.call("PUT", "/apps/env", {**shown, "meta": {"version": 9}}).code == (400, 102)
    changed = user.call("PUT", "/apps/env", {**shown, "meta": {"version": 1}, "instances": 3})
    assert (changed.status, changed.body) == (200, b" ")
    after = user.call("GET", "/apps/env").json()
    assert (after["instances"], after["meta"]["version"]) == (3, 2)
    assert user.call("GET", "/apps/env/instances").json() == {"instances": []}
    assert user.call("GET", "/apps/env/stats").json() == {}
    assert user.call("GET", "/apps/env/crashes").json() == {"crashes": []}
    assert user.call("GET", "/apps/env/instances/0/files/%2F").code == (400, 305)
    assert user.call("GET", "/apps/env/update").json()["state"] == "CANARY_FAILED"
    assert user.call("PUT", "/apps/env/update", {}).code == (400, 305)
    assert [a["name"] for a in user.call("GET", "/apps").json()] == ["env"]
    # Without a bus nothing is staged: said in words, and the application stays stopped.
    package = user.raw("GET", "/apps/env/application")
    with zipfile.ZipFile(io.BytesIO(package.body)) as zipped:
        assert zipped.namelist() == ["app.py"]
    deleted = user.raw("DELETE", "/apps/env")
    assert (deleted.status, deleted.body) == (200, b" ")
    assert user.call("GET", "/apps/env").code == (404, 301)


def test_a_start_without_a_dea_says_so_and_changes_nothing(user: Vmc) -> None:
    user.call("POST", "/apps", body_of("nobus"))
    user.upload("nobus", {"app.py": b"x"})
    answer = user.call("PUT", "/apps/nobus", {"state": "STARTED"})
    assert answer.code == (404, 302)
    assert user.call("GET", "/apps/nobus").json()["state"] == "STOPPED"
    user.call("DELETE", "/apps/nobus")


@pytest.mark.parametrize("boundary", ["7", "41184", "999999"])
def test_upload_with_known_resources(user: Vmc, boundary: str) -> None:
    name = f"up{boundary}"
    user.call("POST", "/apps", body_of(name))
    assert user.upload(name, {"big.bin": b"b" * 1000, "zero": b""}, boundary=boundary).status == 200
    prints = [
        {"size": 1000, "sha1": hashlib.sha1(b"b" * 1000).hexdigest(), "fn": "/home/me/big.bin"},
        {"size": 0, "sha1": hashlib.sha1(b"").hexdigest(), "fn": "/home/me/zero", "more": [1]},
        {"size": 1, "sha1": hashlib.sha1(b"b" * 1000).hexdigest(), "fn": "/home/me/lies"},
        {"size": 5, "sha1": "f" * 40, "fn": "x"},
    ]
    assert user.call("POST", "/resources", prints).json() == prints[:2]
    assert user.call("POST", "/resources", {"no": "list"}).json() == []
    known = json.dumps([{**prints[0], "fn": "lib/big.bin"}])
    assert user.upload(name, {".__empty__": b""}, known, boundary).status == 200
    package = user.raw("GET", f"/apps/{name}/application")
    with zipfile.ZipFile(io.BytesIO(package.body)) as zipped:
        assert zipped.read("lib/big.bin") == b"b" * 1000
        assert ".__empty__" not in zipped.namelist()
    user.call("DELETE", f"/apps/{name}")


def test_bad_uploads(user: Vmc, controller: Controller) -> None:
    user.call("POST", "/apps", body_of("bad"))
    assert user.upload("bad", {"a": b"x"}, None).code == (400, 100)
    assert user.upload("bad", {"a": b"x"}, "{").code == (400, 100)
    assert user.upload("bad", {"../a": b"x"}).code == (500, 402)
    assert user.upload("bad", {"a": b"x"}, '[{"fn":"/abs","sha1":"x","size":1}]').code == (500, 111)
    assert user.upload("bad", {"a": b"x"}, json.dumps([{"fn": "b", "sha1": "f" * 40, "size": 1}])).code == (
        400,
        401,
    )
    assert user.upload("bad", {"a": b"\0" * (5 << 20)}).code == (500, 402)
    assert user.upload("none", {"a": b"x"}).code == (404, 301)
    huge = user.raw(
        "POST",
        "/apps/bad/application",
        b"",
        {"Content-Type": "multipart/form-data; boundary=1", "Content-Length": "0"},
    )
    assert huge.code == (400, 100)
    temp = Path(controller.config.temp_path)
    assert [p.name for p in temp.iterdir() if p.name.startswith("ingot-")] == [], "nothing is left behind"
    assert user.call("GET", "/apps/bad").json()["version"].endswith("-0")
    user.call("DELETE", "/apps/bad")


def test_a_field_of_resources_may_be_long(user: Vmc) -> None:
    user.call("POST", "/apps", body_of("long"))
    user.upload("long", {"f": b"data"})
    one = {"size": 4, "sha1": hashlib.sha1(b"data").hexdigest()}
    many = json.dumps([{**one, "fn": f"some/long/folder/name/file{n}"} for n in range(9000)])
    assert len(many) > 500_000
    assert user.upload("long", {"x": b""}, many).status == 200
    user.call("DELETE", "/apps/long")


def test_a_package_for_which_there_is_no_place_is_not_left_open(
    user: Vmc, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(Blocks, "close", lambda self: closed.append(self._file.close()))
    assert user.call("POST", "/apps", body_of("placeless", uris=[])).status == 302
    assert user.upload("placeless", {"a": b"1"}).status == 200
    places, taken = controller.held.bodies, 0
    while places.take():
        taken += 1
    try:
        assert user.call("GET", "/apps/placeless/application").code == (503, 104)
    finally:
        for _ in range(taken):
            places.give_back()
    assert closed == [None]
    assert user.call("GET", "/apps/placeless/application").body.startswith(b"PK")
    assert user.call("DELETE", "/apps/placeless").status == 200


def test_who_owns_what(user: Vmc, admin: Vmc) -> None:
    user.call("POST", "/apps", body_of("mine"))
    assert admin.call("GET", "/apps/mine").code == (404, 301)
    assert admin.call("GET", "/apps/mine", PROXY_USER="a@b.com").status == 200
    assert admin.call("POST", "/apps", body_of("mine", uris=["mine2.ingot.localhost"])).status == 302
    admin.call("DELETE", "/apps/mine")
    assert user.call("DELETE", "/apps/mine").status == 200


def test_services_of_a_platform_that_offers_none(user: Vmc) -> None:
    assert user.call("GET", "/services").json() == []
    assert user.call("GET", "/services/x").code == (404, 500)
    wish = {"name": "a", "vendor": "mysql", "version": "5.1", "tier": "free"}
    assert user.call("POST", "/services", wish).code == (404, 500)


def test_me(vmc: Vmc, user: Vmc, admin: Vmc) -> None:
    assert user.call("GET", "/v2/me").json() == {"email": "a@b.com", "admin": False}
    assert admin.call("GET", "/v2/me").json() == {"email": ADMIN, "admin": True}
    assert vmc.call("GET", "/v2/me").code == (403, 200)
    assert Vmc(vmc.port, "stale").call("GET", "/v2/me").code == (403, 200)


def test_routes_nobody_has(user: Vmc) -> None:
    for method, path in (
        ("GET", "/nothing"),
        ("POST", "/info"),
        ("GET", "/apps/a/b/c"),
        ("GET", "/v2/nothing"),
    ):
        answer = user.call(method, path)
        assert (answer.status, answer.body) == (404, b"")
    assert user.call("GET", "/apps/%00").status in (400, 404)


def test_staging_and_bulk_want_their_passwords(vmc: Vmc, user: Vmc) -> None:
    for path in ("/staging/app/1", "/bulk/apps", "/varz", "/metrics"):
        assert user.raw("GET", path).status == 401
    assert vmc.raw("POST", "/staging/droplet/1/abc", b"").status == 401
    assert vmc.call("PUT", "/v2/leases/x", {"holder": "a", "ttl": 1}).status == 401
    assert vmc.call("GET", "/v2/machines").code == (403, 200)
    assert vmc.call("GET", "/staged_droplets/1/..%2f..%2fetc").status == 404
    basic = {"Authorization": "Basic c3RhZ2luZzpzdGFnZQ=="}
    assert vmc.raw("GET", "/staging/app/999", headers=basic).code == (404, 301)
    assert vmc.raw("POST", "/staging/droplet/1/abc", b"", basic).code == (400, 100)

"""What accounts may take beyond memory, each and together: over HTTP, with SQLite and no bus."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from components.common.filesystem.share import ShareUnwellError
from components.common.states import AppState, PackageState
from components.controller.accounts import quotas
from components.controller.apps import storage_quota
from components.controller.apps.rows import built_from, by_id
from components.controller.apps.storage_quota import check_storage
from components.controller.composition import Controller
from components.controller.config import Capacity
from components.controller.db.models import AppRevision, Staging, StagingState
from components.controller.db.models_records import Task, TaskState
from components.controller.errors import ApiError
from components.controller.instances.dispatcher import Dispatcher
from components.controller.staging.stagings import ABANDONED_SECONDS
from tests.contract.vmc_client import ADMIN, PASSWORD, Answer, Vmc, body_of, controller_in, served


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller_in(tmp_path_factory.mktemp("controller")) as made:
        yield made


def account(vmc: Vmc, email: str) -> Vmc:
    assert vmc.call("POST", "/users", {"email": email, "password": "pw"}).status == 204
    return vmc.login(email, "pw")


def run(controller: Controller, user: Vmc, name: str, **columns: Any) -> int:
    """Have an application run as far as ccdb knows; return its id."""
    id_ = int(next(a["id"] for a in user.call("GET", "/v2/apps").json()["apps"] if a["name"] == name))
    with controller.db.session() as session:
        app = by_id(session, id_)
        assert app is not None
        app.state, app.package_state, app.package_hash, app.staged_package_hash = (
            AppState.STARTED,
            PackageState.STAGED,
            "a" * 40,
            "b" * 40,
        )
        app.staged_from = built_from(app)
        for column, value in columns.items():
            setattr(app, column, value)
    return id_


def put(user: Vmc, name: str, **changes: Any) -> Answer:
    """Change an application as old clients do: with all they got."""
    return user.call("PUT", f"/apps/{name}", {**user.call("GET", f"/apps/{name}").json(), **changes})


def limit(admin: Vmc, email: str, **limits: int | None) -> None:
    assert admin.call("PUT", f"/v2/users/{email}/quota", limits).status == 200


@pytest.mark.parametrize(
    ("limits", "code", "says"),
    [
        ({"instances": 3}, 603, "Too many instances: 4, you are allowed: 3"),
        ({"disk": 7000}, 604, "8192M, you are allowed: 7000M"),
    ],
)
def test_instances_and_their_disk_are_bounded(
    controller: Controller, limits: dict[str, int], code: int, says: str
) -> None:
    email = f"grows{code}@b.com"
    with served(controller) as vmc:
        bounded(controller, vmc, email, code=code, says=says, limits=limits)


def bounded(
    controller: Controller, vmc: Vmc, email: str, *, code: int, says: str, limits: dict[str, int]
) -> None:
    user, admin = account(vmc, email), vmc.login(ADMIN, PASSWORD)
    for name in ("one", "two"):
        assert user.call("POST", "/apps", body_of(f"{name}{code}", instances=1)).status == 302
    run(controller, user, f"one{code}", instances=3)
    limit(admin, email, **limits)
    for name, changes in ((f"one{code}", {"instances": 4}), (f"two{code}", {"state": "STARTED"})):
        refused = put(user, name, **changes)
        assert refused.code == (403, code)
        assert says in refused.json()["description"]
    limit(admin, email, instances=2, disk=4096)
    assert put(user, f"one{code}", env=["A=b"]).status == 200, (
        "what is over a new limit goes on, and may be changed"
    )
    assert put(user, f"one{code}", instances=4).code[1] in (603, 604)
    assert put(user, f"one{code}", instances=2).status == 200, "and may shrink"
    limit(admin, email, instances=None, disk=None)
    assert put(user, f"one{code}", instances=4).status == 200


def test_routes_of_all_applications_are_bounded(vmc: Vmc, admin: Vmc) -> None:
    user = account(vmc, "routes@b.com")
    limit(admin, "routes@b.com", routes=3)
    hosts = [f"route{n}.ingot.localhost" for n in range(5)]
    assert user.call("POST", "/apps", body_of("r1", uris=hosts[:2])).status == 302
    assert user.call("POST", "/apps", body_of("r2", uris=hosts[2:4])).code == (403, 605)
    assert user.call("POST", "/apps", body_of("r2", uris=hosts[2:3])).status == 302
    assert put(user, "r2", uris=hosts[2:4]).code == (403, 605)
    assert put(user, "r2", uris=hosts[3:4]).status == 200, "one for another"
    limit(admin, "routes@b.com", routes=1, app_uris=1)
    assert put(user, "r1", env=["A=b"]).status == 200, "what is over a new limit goes on"
    assert put(user, "r1", uris=[]).status == 200


def test_the_least_memory_is_named_and_old_applications_keep_theirs(vmc: Vmc, controller: Controller) -> None:
    user = account(vmc, "small@b.com")
    refused = user.call("POST", "/apps", body_of("tiny", resources={"memory": 1}))
    assert refused.code == (400, 300)
    assert "resources.memory: want 16 to" in refused.json()["description"]
    assert user.call("POST", "/apps", body_of("tiny", resources={"memory": 16})).status == 302
    run(controller, user, "tiny", memory=8, instances=1)
    assert put(user, "tiny", env=["A=b"]).status == 200, "a client sends back what it got"
    assert put(user, "tiny", resources={"memory": 4}).code == (400, 300)
    assert user.call("POST", "/v2/apps/tiny/tasks", {"command": "true", "memory": 8}).code == (400, 100)


def test_builds_at_a_time_are_bounded(vmc: Vmc, controller: Controller) -> None:
    user = account(vmc, "builds@b.com")
    ids = []
    for name in ("b1", "b2", "b3"):
        assert user.call("POST", "/apps", body_of(name, uris=[])).status == 302
        ids.append(run(controller, user, name))
    with controller.db.session() as session:
        for id_, age in ((ids[0], 0.0), (ids[1], 2 * ABANDONED_SECONDS)):
            session.add(
                Staging(
                    app_id=id_,
                    task="t",
                    built_from="",
                    state=StagingState.RUNNING,
                    started_at=100.0,
                    alive_at=100.0 - age,
                )
            )

    def judge(most: int) -> None:
        with controller.db.session() as session:
            app = by_id(session, ids[2])
            assert app is not None
            quotas.check_builds(session.connection(), app, most, 100.0 - ABANDONED_SECONDS)

    judge(2)
    with pytest.raises(ApiError) as refused:
        judge(1)
    assert (refused.value.code, refused.value.status) == (606, 403)


def test_a_push_that_may_not_be_built_now_leaves_no_files_behind(
    vmc: Vmc, admin: Vmc, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dispatcher, "has_deas", lambda *_: True)
    user = account(vmc, "pushes@b.com")
    assert user.call("POST", "/apps", body_of("pushed", uris=[])).status == 302
    id_ = run(controller, user, "pushed", started_package_hash="b" * 40)
    assert put(user, "pushed", env=["A=1"]).status == 200
    run(controller, user, "pushed", package_hash="c" * 40, package_state=PackageState.PENDING)
    limit(admin, "pushes@b.com", builds=0)
    assert put(user, "pushed", env=["A=2"]).code == (403, 606)
    found = user.call("GET", "/apps/pushed").json()
    assert (found["state"], found["env"]) == ("STARTED", ["A=1"])
    assert put(user, "pushed", env=["A=3"]).status == 200, "nothing waits to be built"
    with controller.db.session() as session:
        app = by_id(session, id_)
        assert app is not None
        assert (app.package_hash, app.package_state) == ("a" * 40, PackageState.STAGED)


def test_accounts_that_registered_themselves_have_a_limit_together(tmp_path: Path) -> None:
    most = {"accounts": 2, "memory": 256, "instances": 3}
    with controller_in(tmp_path, registered_limit=most) as made, served(made) as vmc:
        boss = vmc.login(ADMIN, PASSWORD)
        one, two = account(vmc, "one@b.com"), account(vmc, "two@b.com")
        refused = vmc.call("POST", "/users", {"email": "three@b.com", "password": "pw"})
        assert refused.code == (403, 607)
        assert "an account" in refused.json()["description"]
        assert boss.call("POST", "/users", {"email": "three@b.com", "password": "pw"}).status == 204
        three = vmc.login("three@b.com", "pw")
        for user, name in ((one, "a1"), (two, "a2"), (three, "a3")):
            assert (
                user.call("POST", "/apps", body_of(name, instances=1, resources={"memory": 64})).status == 302
            )
        run(made, one, "a1", instances=2)
        run(made, two, "a2", state=AppState.STOPPED)
        run(made, three, "a3", instances=1)
        assert put(two, "a2", instances=2, state="STARTED").code == (403, 607), "instances"
        assert put(two, "a2", resources={"memory": 160}, state="STARTED").code == (403, 607), "memory"
        assert put(one, "a1", instances=3).status == 200
        assert put(one, "a1", instances=4).code == (403, 607)
        assert put(one, "a1", instances=1).status == 200
        assert put(three, "a3", instances=9).status == 200, "an administrator has made that one"


def test_tasks_and_starts_at_once_keep_the_limit_that_accounts_have_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = {"accounts": 2, "memory": 1024, "instances": 3}
    with controller_in(tmp_path, registered_limit=most) as made, served(made) as vmc:
        one, two = account(vmc, "one@b.com"), account(vmc, "two@b.com")
        for user, name in ((one, "a1"), (two, "a2")):
            assert user.call("POST", "/apps", body_of(name, resources={"memory": 64})).status == 302
        first = run(made, one, "a1", instances=2)
        run(made, two, "a2", state=AppState.STOPPED, instances=1)
        with made.db.session() as session:
            session.add(open_task(first))
        assert put(two, "a2", state="STARTED").code == (403, 607), "a task counts"
        with made.db.session() as session:
            session.delete(session.get_one(Task, "t"))

        def meanwhile(*_: object) -> bool:
            run(made, one, "a1", instances=3)
            return True

        monkeypatch.setattr(Dispatcher, "has_deas", meanwhile)
        assert put(two, "a2", state="STARTED").code == (403, 607), "another was quicker"
        assert two.call("GET", "/apps/a2").json()["state"] == AppState.STOPPED


def open_task(app_id: int) -> Task:
    return Task(
        id="t",
        app_id=app_id,
        command="true",
        memory=64,
        timeout=60.0,
        state=TaskState.RUNNING,
        detail="",
        tail="",
        dea="",
        log_uri="",
        credentials=[],
        by="one@b.com",
        created_at=0.0,
    )


def test_storage_counts_what_an_owner_keeps(vmc: Vmc, controller: Controller) -> None:
    user = account(vmc, "keeps@b.com")
    limit(vmc.login(ADMIN, PASSWORD), "keeps@b.com", storage=2)
    for name in ("one", "two"):
        assert user.call("POST", "/apps", body_of(name)).status < 400
    rest = {"notes": b"n" * 100}
    assert user.upload("one", {"random": secrets.token_bytes(1_200_000), **rest}).status < 400
    refused_bytes = secrets.token_bytes(1_200_000)
    refused = user.upload("two", {"random": refused_bytes, **rest})
    assert refused.code == (403, 608)
    asked = [{"sha1": hashlib.sha1(refused_bytes).hexdigest(), "size": len(refused_bytes)}]
    assert user.call("POST", "/resources", asked).json() == [], "the pool has nothing of it"
    assert "3M, you are allowed: 2M" in refused.json()["description"]
    # A package takes the place of the one before.
    assert user.upload("one", {"random": secrets.token_bytes(1_300_000), **rest}).status < 400
    # An account that is over a new limit cannot grow, and may shrink.
    limit(vmc.login(ADMIN, PASSWORD), "keeps@b.com", storage=1)
    assert user.upload("one", {"random": secrets.token_bytes(1_250_000), **rest}).status < 400
    assert user.upload("one", {"random": secrets.token_bytes(1_260_000), **rest}).code == (403, 608)
    limit(vmc.login(ADMIN, PASSWORD), "keeps@b.com", storage=2)
    assert user.call("DELETE", "/apps/one").status < 400
    assert user.upload("two", {"random": secrets.token_bytes(1_200_000), **rest}).status < 400


def test_a_droplet_and_those_of_kept_revisions_count_as_storage(vmc: Vmc, controller: Controller) -> None:
    user = account(vmc, "built@b.com")
    assert user.call("POST", "/apps", body_of("built")).status < 400
    id_ = run(controller, user, "built", package_hash=None)
    store = controller.store
    for digest in ("b" * 40, "c" * 40):
        store.droplet(digest).write_bytes(bytes(600_000))
    with controller.db.session() as session, store.incoming() as scratch:
        app = by_id(session, id_)
        assert app is not None
        scratch.write_bytes(bytes(600_000))
        new = store.droplet("d" * 40)
        config = msgspec.structs.replace(controller.config, user_capacity=Capacity(storage=1))
        with pytest.raises(ApiError) as refused:
            check_storage(session, config, store, app, new=scratch, place=new)
        assert refused.value.code == 608
        config = msgspec.structs.replace(controller.config, user_capacity=Capacity(storage=2))
        check_storage(session, config, store, app, new=scratch, place=new)
        kept = {"framework": "wsgi", "runtime": "python3", "by": "a@b.com", "created_at": 1}
        session.add(AppRevision(app_id=id_, number=1, droplet="c" * 40, kept=True, **kept))
        session.flush()
        check_storage(session, config, store, app, new=scratch, place=store.droplet("c" * 40))
        scratch.write_bytes(bytes(1_000_000))
        with pytest.raises(ApiError):
            check_storage(session, config, store, app, new=scratch, place=new)


def test_ten_kept_revisions_do_not_keep_an_account_from_the_next(vmc: Vmc, controller: Controller) -> None:
    user = account(vmc, "full@b.com")
    assert user.call("POST", "/apps", body_of("full")).status < 400
    store, id_ = controller.store, run(controller, user, "full", package_hash=None, staged_package_hash=None)
    kept = {"framework": "wsgi", "runtime": "python3", "by": "a@b.com", "created_at": 1, "kept": True}
    config = msgspec.structs.replace(controller.config, user_capacity=Capacity(storage=10))
    with controller.db.session() as session, store.incoming() as scratch:
        scratch.write_bytes(bytes(1 << 20))
        new = store.droplet("e" * 40)
        for number in range(10):
            digest = f"{number}" * 40
            store.droplet(digest).write_bytes(bytes(1 << 20))
            session.add(AppRevision(app_id=id_, number=number, droplet=digest, **kept))
        session.flush()
        app = by_id(session, id_)
        assert app is not None
        check_storage(session, config, store, app, new=scratch, place=new)
        scratch.write_bytes(bytes((1 << 20) + 1))
        with pytest.raises(ApiError):
            check_storage(session, config, store, app, new=scratch, place=new)


def test_a_share_that_hangs_is_asked_within_its_deadline_alone(
    vmc: Vmc, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = account(vmc, "waits@b.com")
    assert user.call("POST", "/apps", body_of("waits")).status < 400
    id_ = run(controller, user, "waits")

    def unwell(_work: object) -> NoReturn:
        raise ShareUnwellError

    def touched(place: Path) -> NoReturn:
        raise AssertionError(f"{place} is read without a deadline")

    monkeypatch.setattr(controller.store, "run", unwell)
    monkeypatch.setattr(storage_quota, "_size", touched)
    with controller.db.session() as session:
        app = by_id(session, id_)
        assert app is not None
        place = controller.store.package("f" * 40)
        with pytest.raises(ShareUnwellError):
            check_storage(session, controller.config, controller.store, app, new=place, place=place)

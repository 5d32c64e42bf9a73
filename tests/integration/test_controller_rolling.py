"""Rolling updates under load, on real DEAs behind a real router: nobody who asks the application notices."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform_fixture import APPS, Person
from tests.integration.rolling_rig import Api, Load
from tests.support.waiting import until


@pytest.fixture
def api(person: Person) -> Iterator[Api]:
    speaker = Api(person.platform)
    yield speaker
    speaker.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(APPS / "hello", tmp_path / "app")
    return tmp_path / "app"


def change(folder: Path, text: str) -> None:
    path = folder / "wsgi.py"
    path.write_text(path.read_text() + f"\n{text}\n")


def versions(person: Person, name: str) -> set[str]:
    return {item["version"] for item in person.instances(name, 20).values()}


def test_new_bits_a_rollback_and_broken_bits_cost_no_request(person: Person, api: Api, folder: Path) -> None:
    first = api.push("rolling", folder, 2)
    assert api.json("/v2/apps/rolling/update")["to"] == first
    with Load(person.platform, "rolling") as load:
        change(folder, "# two")
        api.upload("rolling", folder)
        assert api.call("PUT", "/apps/rolling/update", {}).status_code == 204
        update = api.json("/v2/apps/rolling/update")
        assert update["from"] == first
        assert api.json("/apps/rolling/update").keys() == {"state", "since"}
        update = api.ended("rolling")
        assert (update["state"], update["replaced"], update["instances"], update["message"]) == (
            "SUCCEEDED",
            2,
            2,
            "",
        )
        second = update["to"]
        assert second not in (first, "")
        until(lambda: versions(person, "rolling") == {second}, "all are of the new version")

        back = api.call("POST", "/v2/apps/rolling/rollback", {})
        assert (back.status_code, back.json()["state"]) == (202, "UPDATING")
        update = api.ended("rolling")
        assert update["state"] == "SUCCEEDED"
        third = update["to"]
        # The same droplet, started once more.
        assert third.rpartition("-")[0] == first.rpartition("-")[0]
        until(lambda: versions(person, "rolling") == {third}, "all are of the version before")
        listed = api.json("/v2/apps/rolling/revisions")["revisions"]
        assert [(r["number"], r["current"], r["available"]) for r in listed] == [
            (2, False, True),
            (1, True, True),
        ]

        change(folder, "raise SystemExit(3)")
        api.upload("rolling", folder)
        assert api.call("PUT", "/apps/rolling/update", {}).status_code == 204
        update = api.ended("rolling")
        assert update["state"] == "CANARY_FAILED"
        assert update["message"].startswith("instance 0 crashed"), update
        assert api.json("/apps/rolling/update")["state"] == "CANARY_FAILED"
        app = api.json("/apps/rolling")
        assert (app["state"], app["version"]) == ("STARTED", third)
        assert versions(person, "rolling") == {third}
        until(lambda: len(person.units()) == 2, "no instance of the broken version is left")
    assert not load.failures
    assert set(load.said) == {first, second, third}


def test_what_is_asked_during_an_update_ends_in_a_clear_state(person: Person, api: Api, folder: Path) -> None:
    old = api.push("busy", folder, 2)
    with Load(person.platform, "busy") as load:
        change(folder, "# scaled meanwhile")
        api.upload("busy", folder)
        assert api.call("PUT", "/apps/busy/update", {}).status_code == 204
        assert api.call("PUT", "/apps/busy", {**api.json("/apps/busy"), "instances": 3}).status_code == 200
        update = api.ended("busy")
        assert (update["state"], update["instances"]) == ("SUCCEEDED", 3)
        until(lambda: len(person.units()) == 3, "three instances run")
        assert versions(person, "busy") == {update["to"]} != {old}
    assert not load.failures

    change(folder, "# stopped meanwhile")
    api.upload("busy", folder)
    assert api.call("PUT", "/apps/busy/update", {}).status_code == 204
    assert api.call("PUT", "/apps/busy", {**api.json("/apps/busy"), "state": "STOPPED"}).status_code == 200
    update = api.json("/v2/apps/busy/update")
    assert (update["state"], update["message"]) == ("CANARY_FAILED", "the application was stopped")
    until(lambda: not person.units(), "nothing runs")
    assert api.call("PUT", "/apps/busy/update", {}).json()["code"] == 305
    # A stopped application changes its droplet and nothing else.
    answer = api.call("POST", "/v2/apps/busy/rollback", {"revision": 1})
    assert (answer.status_code, api.json("/apps/busy")["state"]) == (200, "STOPPED")
    assert api.call("PUT", "/apps/busy", {**api.json("/apps/busy"), "state": "STARTED"}).status_code == 200
    assert api.json("/apps/busy")["version"].startswith(old.rpartition("-")[0])


def test_bits_that_cannot_be_staged_leave_what_runs(person: Person, api: Api, folder: Path) -> None:
    before = api.push("kept", folder)
    old = person.answer("kept")["instance_id"]
    (folder / "requirements.txt").write_text("flask==0.0.0.dev999999\n")
    api.upload("kept", folder)
    refused = api.call("PUT", "/apps/kept/update", {})
    assert (refused.status_code, refused.json()["code"]) == (500, 310)
    update = api.json("/v2/apps/kept/update")
    assert update["state"] == "CANARY_FAILED"
    assert "staging failed" in update["message"]
    assert person.answer("kept")["instance_id"] == old
    assert (api.json("/apps/kept")["state"], api.json("/apps/kept")["version"]) == ("STARTED", before)

"""Lines, one-off tasks and the platform's own log with the real DEAs: nothing stood in for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.platform_fixture import Person
from tests.support.waiting import until


@pytest.fixture
def api(person: Person) -> Iterator[httpx.Client]:
    settings, platform = person.platform.settings, person.platform
    host = {"Host": f"api.{settings.domain}:{platform.port}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{platform.port}", headers=host, trust_env=False, timeout=60
    ) as client:
        answer = client.post(
            f"/users/{settings.admin_email}/tokens", json={"password": platform.admin_password}
        )
        client.headers["AUTHORIZATION"] = answer.json()["token"]
        yield client


def texts(page: dict[str, Any]) -> list[str]:
    return [line["text"] for line in page["lines"]]


@pytest.mark.drill
def test_lines_tasks_and_the_platforms_log(person: Person, api: httpx.Client) -> None:
    person.push("hello", "hello")
    person.ingot("scale", "hello", "--instances", "2")
    person.answer("hello")

    def spoke() -> dict[str, Any] | None:
        page = dict(api.get("/v2/apps/hello/logs?tail=500").json())
        return page if {line["instance"] for line in page["lines"]} == {0, 1} else None

    page = until(spoke, "lines of both instances")
    assert page["missed"] == []
    numbers = [line["n"] for line in page["lines"] if line["instance"] == 0]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    command = "echo $PWD; echo to-stderr >&2; env | grep -c VCAP; exit 3"
    task = api.post("/v2/apps/hello/tasks", json={"command": command, "memory": 64, "timeout": 60})
    assert task.status_code == 202, task.text
    path = f"/v2/apps/hello/tasks/{task.json()['id']}"
    ended = until(lambda: (t := api.get(path).json())["ended"] and t, "the task ends", 30)
    assert (ended["state"], ended["exit_status"]) == ("failed", 3)
    said = api.get(f"{path}/logs").json()
    assert said["state"] == "failed"
    assert "to-stderr" in texts(said)

    cursor = api.get(f"{path}/logs?tail=0").json()["cursor"]
    assert texts(api.get(f"{path}/logs", params={"cursor": cursor, "wait": 10}).json()) == []

    slow = api.post("/v2/apps/hello/tasks", json={"command": "echo begun; sleep 300", "memory": 64}).json()
    path = f"/v2/apps/hello/tasks/{slow['id']}"
    until(lambda: texts(api.get(f"{path}/logs").json()) == ["begun"], "it writes")
    assert _named(person, slow["id"]) == 1
    assert api.delete(path).json()["detail"].startswith("stopped by ")
    until(lambda: _named(person, slow["id"]) == 0, "nothing of it is left", 30)
    person.ingot("delete", "hello", "--force")

    log = api.get("/v2/logs?limit=2000").json()
    assert log["silent"] == []
    heard = {line["component"] for line in log["lines"]}
    assert {"controller", "dea", "stager", "health_manager", "router"} <= heard
    assert person.platform.admin_password not in str(log)


def _named(person: Person, task: str) -> int:
    """Count the units of DEAs that are a task's and live."""
    state = person.platform.settings.state
    units = (state / dea / "units" for dea in person.platform.settings.dea_names)
    records = [json.loads(path.read_text()) for folder in units for path in folder.glob(f"*{task}*.json")]
    return sum(not record["ended"] for record in records)

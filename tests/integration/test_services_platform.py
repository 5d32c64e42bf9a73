"""What a person sees: an application counts its visits in a Redis of theirs, until it is unbound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform_fixture import Person
from tests.integration.services_rig import ServicesRig, opens
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def redis(person: Person, tmp_path: Path) -> Iterator[ServicesRig]:
    plan = person.platform.plan
    rig = ServicesRig(
        tmp_path,
        [f"http://127.0.0.1:{plan.ports['controller']}"],
        f"nats://127.0.0.1:{plan.ports['nats']}",
        bus_password=plan.secrets["bus_services"],
    )
    try:
        rig.node.start()
        rig.gateway.start()
        until(rig.node.ready, "the node is ready")
        until(rig.gateway.ready, "the gateway is registered")
        yield rig
    finally:
        for app in person.json("apps"):
            person.ingot("delete", app["name"], "--force")
        rig.close()


def asked(person: Person, path: str = "/") -> Any:
    return person.platform.get("visits", path).json()


def test_an_application_counts_its_visits_until_it_is_unbound(person: Person, redis: ServicesRig) -> None:
    person.push("visits")
    assert person.platform.get("visits").status_code == 503
    person.ingot("create-service", "redis", "counter")
    person.ingot("bind-service", "counter", "visits")
    assert [asked(person)["visits"] for _ in range(3)] == [1, 2, 3]
    credentials = asked(person, "/credentials")
    assert opens(credentials)
    # What it counted is not the application's: it survives every one of its processes, and the server's own.
    redis.node.end()
    redis.node.start()
    until(redis.node.ready, "the node is back")
    person.ingot("restart", "visits")
    assert asked(person)["visits"] == 4

    person.ingot("unbind-service", "counter", "visits")
    assert not opens(credentials)
    assert not opens(credentials, named=True)
    assert person.platform.get("visits").status_code == 503

    person.ingot("bind-service", "counter", "visits")
    assert asked(person)["visits"] == 5
    assert asked(person, "/credentials")["password"] != credentials["password"]
    person.ingot("delete-service", "counter", "--unbind", "--force")
    until(lambda: redis.records() == {}, "the server is gone")

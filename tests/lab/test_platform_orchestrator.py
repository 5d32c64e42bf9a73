"""The orchestrator on the platform that `test_platform.py` raised: the pool grows and shrinks, a service is bound."""

from __future__ import annotations

import socket
import time

import pytest

from tests.lab.conftest import LAB, ROOT, LabPlatform, live, traffic, until

APPS = ROOT / "tests" / "apps"

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]


def pool(platform: LabPlatform) -> dict[str, dict[str, object]]:
    """Return the machines of the pool by their names."""
    return {m["name"]: m for m in platform.json("pool", "show", "dea")["machines"]}


def redis_says(credentials: dict[str, object]) -> bytes:
    """Log in to a Redis with a binding's password alone; return the server's answer."""
    with socket.create_connection(
        (str(credentials["host"]), int(str(credentials["port"]))), 10
    ) as connection:
        connection.sendall(f"AUTH {credentials['password']}\r\n".encode())
        return connection.recv(200).strip()


def test_pool_grows_and_instances_land_on_the_new_machine(platform: LabPlatform) -> None:
    done = platform.json("pool", "scale", "dea", "--size", "3")
    assert done["state"] == "succeeded"
    print(f"one more DEA after {done['total_seconds']:.1f} s: {done['phases']}")
    new = pool(platform)["dea3"]
    assert new["state"] == "ready"
    platform.ingot("scale", "hello", "--instances", "6")
    assert new["address"] in live(platform, "hello", 6).values()
    platform.ingot("scale", "hello", "--instances", "4")


def test_second_make_up_changes_nothing_and_knows_the_new_machine(platform: LabPlatform) -> None:
    started = time.monotonic()
    done = platform.make("up")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert platform.report()["changed_tasks"] == 0, (platform.folder / "site.log").read_text()[-6000:]
    assert "dea3" in {m["name"] for m in platform.report()["machines"]}
    print(f"the second make up took {time.monotonic() - started:.0f} s")


def test_refused_sizes_name_the_remedy_and_change_nothing(platform: LabPlatform) -> None:
    before = set(pool(platform))
    for arguments, words in (
        (("dea", "--size", "1"), "2 of its machines are fixed"),
        (("dea", "--size", "99"), "must be 2 to 8"),
        (("nobody", "--size", "3"), "nobody"),
    ):
        done = platform.ingot("pool", "scale", *arguments, check=False)
        assert done.returncode != 0
        assert words in (done.stdout + done.stderr)
    assert set(pool(platform)) == before


def test_pool_shrinks_under_load_without_a_failed_request(platform: LabPlatform) -> None:
    with traffic(platform, "hello") as failures:
        done = platform.json("pool", "scale", "dea", "--size", "2")
        assert done["state"] == "succeeded"
        print(f"one DEA less after {done['total_seconds']:.1f} s: {done['phases']}")
    assert failures == []
    assert set(pool(platform)) == {"dea1", "dea2"}
    assert "dea3" not in platform.lab("list", "--json")
    live(platform, "hello", 4)


def test_application_counts_in_a_redis_of_its_own(platform: LabPlatform) -> None:
    vendors = {s["vendor"] for s in platform.json("services")["offerings"]}
    assert "redis" in vendors
    platform.ingot("create-service", "redis", "visits-db")
    platform.ingot("push", "visits", "--path", str(APPS / "visits"))
    assert platform.get("visits").status_code >= 500
    platform.ingot("bind-service", "visits-db", "visits")
    first = until(lambda: platform.get("visits").json(), "it counts")
    second = platform.get("visits").json()
    assert second["visits"] == first["visits"] + 1
    given = platform.get("visits", "/credentials").json()
    assert redis_says(given) == b"+OK"
    platform.ingot("unbind-service", "visits-db", "visits")
    until(lambda: platform.get("visits").status_code >= 500, "it has no Redis any more")
    assert redis_says(given).startswith(b"-WRONGPASS")
    platform.ingot("delete", "visits", "--force")
    platform.ingot("delete-service", "visits-db", "--force")
    assert platform.ingot("bind-service", "visits-db", "hello", check=False).returncode == 1


def test_machine_added_before_the_end(platform: LabPlatform) -> None:
    """`test_platform_removed.py` takes it down with the rest."""
    assert platform.json("pool", "scale", "dea", "--size", "3")["state"] == "succeeded"
    assert "dea3" in platform.lab("list", "--json")
    assert LAB in platform.lab("list", "--json")

"""The whole way, on real machines: from `make up` to an application that survives the faults of data centres.

The tests share one platform with `test_platform_orchestrator.py` and `test_platform_removed.py`, and run in this order.
"""

from __future__ import annotations

import time

import pytest

from tests.lab.conftest import LAB, ROOT, LabPlatform, live, traffic, until

APPS = ROOT / "tests" / "apps"
DAEMONS = {
    "ctl1": ("ingot-controller", "ingot-stager", "ingot-health-manager"),
    "router1": ("ingot-router",),
    "dea1": ("ingot-dea",),
    "dea2": ("ingot-dea",),
}

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def test_make_up_reports_machines_versions_and_phases(platform: LabPlatform) -> None:
    report = platform.report()
    assert {p["name"] for p in report["phases"]} >= {
        "images",
        "machines",
        "release",
        "converge",
        "application",
    }
    assert report["total_seconds"] > 0
    assert {m["name"] for m in report["machines"]} == {
        "core1",
        "ctl1",
        "ctl2",
        "router1",
        "router2",
        "dea1",
        "dea2",
        "svc1",
    }
    for machine in report["machines"]:
        assert machine["components"], machine
        for component in machine["components"]:
            assert component["state"] == "ok", machine
            assert component["version"], machine
    print(f"make up took {platform.seconds:.0f} s: {report['phases']}")


def test_hello_says_who_answers(platform: LabPlatform) -> None:
    answer = platform.get("hello").json()
    assert answer["app"] == "hello"
    assert {"instance", "instance_id", "dea"} <= set(answer)


def test_unknown_host_is_404(platform: LabPlatform) -> None:
    assert platform.get("nobody").status_code == 404


def test_scale_spreads_over_instances_and_machines(platform: LabPlatform) -> None:
    platform.ingot("scale", "hello", "--instances", "4")
    answers = platform.answers("hello", 40)
    assert {a["instance"] for a in answers} == {0, 1, 2, 3}
    assert len({a["dea"] for a in answers}) == 2


@pytest.mark.parametrize("app", ["flask", "node", "static", "standalone"])
def test_pushed_folder_gives_a_working_url(platform: LabPlatform, app: str) -> None:
    platform.ingot("push", f"my-{app}", "--path", str(APPS / app))
    assert platform.get(f"my-{app}").status_code == 200
    platform.ingot("delete", f"my-{app}", "--force")
    until(lambda: platform.get(f"my-{app}").status_code == 404, "the route is gone")


@pytest.mark.parametrize(
    ("app", "stage"),
    [("unknown", "framework"), ("broken_requirements", "compile"), ("never_listens", "start")],
)
def test_bad_push_names_its_stage_and_leaves_nothing(platform: LabPlatform, app: str, stage: str) -> None:
    name = app.replace("_", "-")
    droplets = platform.on("core1", "ls", "/srv/ingot/share/droplets")
    done = platform.ingot("push", name, "--path", str(APPS / app), "--timeout", "20", check=False)
    assert done.returncode == 1, done.stdout
    assert stage in (done.stdout + done.stderr).lower()
    assert platform.get(name).status_code == 404
    apps = {a["name"]: a for a in platform.json("apps")}
    assert apps.get(name, {"state": "STOPPED"})["state"] == "STOPPED"
    if stage != "start":
        assert platform.on("core1", "ls", "/srv/ingot/share/droplets") == droplets
    platform.ingot("delete", name, "--force", check=False)


def test_killed_instance_is_back(platform: LabPlatform) -> None:
    before = live(platform, "hello", 4)
    victim = platform.on("dea1", "systemctl", "list-units", "--plain", "--no-legend", "ingot-app-*").split()[
        0
    ]
    started = time.monotonic()
    with traffic(platform, "hello") as failures:
        platform.on("dea1", "systemctl", "kill", "--kill-whom=all", "--signal=KILL", victim)
        gone = victim.removeprefix("ingot-app-").removesuffix(".service")
        until(lambda: gone not in live(platform, "hello", 4), "another instance took its place")
    assert len(set(live(platform, "hello", 4)) - set(before)) == 1
    print(f"killed instance replaced after {time.monotonic() - started:.1f} s; failed requests: {failures}")
    assert failures == []


def test_agent_restart_harms_no_instance(platform: LabPlatform) -> None:
    before = live(platform, "hello", 4)
    with traffic(platform, "hello") as failures:
        platform.on("dea1", "systemctl", "restart", "ingot-dea")
        until(lambda: platform.machine("dea1")["state"] == "up", "the agent beats again")
        assert live(platform, "hello", 4) == before
    assert failures == []


def test_router_process_restart_harms_no_request(platform: LabPlatform) -> None:
    with traffic(platform, "hello") as failures:
        platform.on("router1", "systemctl", "kill", "--signal=KILL", "ingot-router")
        until(
            lambda: (
                platform.on("router1", "systemctl", "is-active", "ingot-router", check=False).strip()
                == "active"
            ),
            "the router process is back",
        )
        live(platform, "hello", 4)
    assert failures == []


def test_lost_machine_is_shown_replaced_and_used_again(platform: LabPlatform) -> None:
    address = platform.machine("dea2")["address"]
    assert address in live(platform, "hello", 4).values()
    started = time.monotonic()
    platform.lab("machine", "kill", LAB, "dea2")
    until(lambda: platform.machine("dea2")["state"] == "lost", "the lost machine is shown as lost")
    until(
        lambda: set(live(platform, "hello", 4).values()) == {platform.machine("dea1")["address"]},
        "all on dea1",
    )
    print(f"every lost instance runs again after {time.monotonic() - started:.1f} s")
    platform.lab("machine", "start", LAB, "dea2")
    until(lambda: platform.machine("dea2")["state"] == "up", "the machine is back")
    platform.ingot("scale", "hello", "--instances", "6")
    assert address in live(platform, "hello", 6).values()
    platform.ingot("scale", "hello", "--instances", "4")


def test_restarted_bus_ends_nobody_and_everything_reconciles(platform: LabPlatform) -> None:
    def pids() -> dict[str, str]:
        return {
            f"{machine}/{unit}": platform.on(machine, "systemctl", "show", "-P", "MainPID", unit).strip()
            for machine, units in DAEMONS.items()
            for unit in units
        }

    before = pids()
    with traffic(platform, "hello") as failures:
        platform.on("core1", "systemctl", "restart", "nats-server")
        until(
            lambda: platform.machine("dea1")["state"] == "up" and platform.machine("dea2")["state"] == "up",
            "beats",
        )
    assert failures == []
    assert pids() == before
    victim = platform.on("dea1", "systemctl", "list-units", "--plain", "--no-legend", "ingot-app-*").split()[
        0
    ]
    platform.on("dea1", "systemctl", "kill", "--kill-whom=all", "--signal=KILL", victim)
    gone = victim.removeprefix("ingot-app-").removesuffix(".service")
    until(lambda: gone not in live(platform, "hello", 4), "restarts work as before")


def test_push_and_repair_go_on_without_the_first_controller(platform: LabPlatform) -> None:
    platform.lab("machine", "kill", LAB, "ctl1")
    try:
        platform.ingot("push", "survivor", "--path", str(APPS / "static"))
        assert platform.get("survivor").status_code == 200
        until(
            lambda: (
                "lease_taken" in platform.on("ctl2", "journalctl", "-u", "ingot-health-manager", "-o", "cat")
            ),
            "the health manager of ctl2 leads",
        )
        victim = platform.on(
            "dea1", "systemctl", "list-units", "--plain", "--no-legend", "ingot-app-*"
        ).split()[0]
        gone = victim.removeprefix("ingot-app-").removesuffix(".service")
        platform.on("dea1", "systemctl", "kill", "--kill-whom=all", "--signal=KILL", victim)
        until(
            lambda: gone not in live(platform, "hello", 4) and platform.get("survivor").status_code == 200,
            "repair goes on",
        )
        platform.ingot("delete", "survivor", "--force")
    finally:
        platform.lab("machine", "start", LAB, "ctl1")

"""Machines as the API shows them."""

import yaml

from orchestrator.api import machines
from tests.unit.orchestrator.api_rig import Rig


def test_a_fixed_dea_is_known_by_the_address_that_it_announces(tmp_path, monkeypatch):
    rig = Rig(tmp_path, [], [])
    try:
        look(rig, monkeypatch)
    finally:
        rig.close()


def look(rig, monkeypatch):
    monkeypatch.setattr(machines, "LISTEN_SECONDS", -1.0)
    monkeypatch.setattr(type(rig.services.bus.bus), "connected", True)
    file = rig.inventory / "10-fixed.yml"
    tree = yaml.safe_load(file.read_text())
    # SSH goes by another network than the platform's traffic.
    tree["all"]["children"]["lab"]["hosts"]["dea2"]["ingot_address"] = "10.9.9.2"
    file.write_text(yaml.safe_dump(tree))
    rig.beat("10.9.9.2")
    _, pool = rig.call("GET", "/v2/pools/dea")
    assert {m["name"]: m["state"] for m in pool["machines"]} == {"dea1": "lost", "dea2": "ready"}

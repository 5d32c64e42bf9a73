"""A data service among peers of 2011: the subjects of protocol 6.4, member by member, at its node and its gateway; and what is no message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.common_rig import NatsServer
from tests.integration.services_rig import ServicesRig, Stub
from tests.integration.wire_peer import BROKEN, Peer, break_all, get_text, kinds, peer_on
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(120)
NODE = "redis_node_1"
ANNOUNCED = {
    "id": "str",
    "plan": "str",
    "available_capacity": "int",
    "capacity_unit": "int",
    "available_memory": "int",
}
CREDENTIALS = {
    "hostname": "str",
    "host": "str",
    "port": "int",
    "password": "str",
    "name": "str",
    "username": "str",
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ServicesRig]:
    stub, nats = Stub(), NatsServer(tmp_path)
    nats.start()
    made = ServicesRig(tmp_path, [stub.url], nats.url)
    try:
        made.node.start()
        made.gateway.start()
        until(made.node.ready, "the node is ready")
        until(made.gateway.ready, "the gateway is ready")
        yield made
    finally:
        made.close()
        stub.shutdown()
        stub.server_close()
        nats.stop()


async def test_a_data_service_among_peers_of_2011(rig: ServicesRig) -> None:
    async with peer_on(rig.bus["urls"][0]) as peer:
        await peer.listen("RaaS.announce", "RaaS.node_handles")
        await _life(rig, peer)
        node, gateway = (f"http://127.0.0.1:{d.port}/metrics" for d in (rig.node, rig.gateway))
        at_node = [f"RaaS.unprovision.{NODE}", f"RaaS.bind.{NODE}", f"RaaS.unbind.{NODE}"]
        await break_all(peer, at_node, lambda: get_text(node, "status", "watching"))
        await break_all(
            peer, ["RaaS.announce", "RaaS.node_handles"], lambda: get_text(gateway, "status", "watching")
        )
        # What has no member that must be there: only what is not a message at all.
        for subject in (
            f"RaaS.provision.{NODE}",
            f"RaaS.purge_orphan.{NODE}",
            "RaaS.discover",
            "RaaS.check_orphan",
        ):
            for name in ("half", "text", "every-byte", "list", "wrong-kinds", "deep-lists"):
                await peer.say(subject, BROKEN[name])
        await _life(rig, peer)
        answer = await asyncio.to_thread(rig.provision)
        assert answer.status_code == 200, answer.text


async def _life(rig: ServicesRig, peer: Peer) -> None:
    """What a gateway of 2011 asks of a node."""
    mark = len(peer.heard)
    assert {
        k: "int" if v == "float" else v
        for k, v in kinds(await peer.hears("RaaS.announce", lambda b: isinstance(b, dict), mark)).items()
    } == ANNOUNCED
    found = await peer.ask("RaaS.discover")
    assert found["id"] == NODE
    made = await peer.ask(f"RaaS.provision.{NODE}", {"plan": "free"}, timeout=30)
    assert kinds(made) == {"success": "bool", "credentials": "dict"}, made
    assert kinds(made["credentials"]) == {**CREDENTIALS, "node_id": "str"}
    name = made["credentials"]["name"]
    bound = await peer.ask(f"RaaS.bind.{NODE}", {"name": name, "bind_opts": {}}, timeout=30)
    assert kinds(bound["credentials"]) == CREDENTIALS
    mark = len(peer.heard)
    await peer.say("RaaS.check_orphan")
    listed = await peer.hears("RaaS.node_handles", lambda b: name in b.get("instances_list", []), mark)
    assert kinds(listed) == {"instances_list": "list", "bindings_list": "list", "node_id": "str"}
    assert "password" not in str(listed)
    assert await peer.ask(f"RaaS.unbind.{NODE}", {"credentials": bound["credentials"]}, timeout=30) == {
        "success": True
    }
    gone = await peer.ask(f"RaaS.unprovision.{NODE}", {"name": name, "bindings": []}, timeout=30)
    assert gone == {"success": True}
    missing = await peer.ask(f"RaaS.bind.{NODE}", {"name": name, "bind_opts": {}}, timeout=30)
    assert missing["success"] is False
    assert kinds(missing["error"]) == {"status": "int", "msg": "dict"}
    assert kinds(missing["error"]["msg"]) == {"code": "int", "description": "str"}
    other = (await peer.ask(f"RaaS.provision.{NODE}", {"plan": "free"}, timeout=30))["credentials"]["name"]
    await peer.say(f"RaaS.purge_orphan.{NODE}", {"orphan_ins_list": [other], "orphan_binding_list": []})
    await asyncio.to_thread(until, lambda: rig.records() == {}, "the orphan is ended")

"""Data services on the wire: protocol 1.14, 6.2 and 6.4, and that gateway and controller mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from components.common.bus import service_messages as messages
from components.common.bus.client import Bus
from components.common.bus.subjects import COMPONENTS, CONTRACT, SERVICE_NAMES, SERVICES, permissions
from components.common.config import BusConfig, parse
from components.common.identity import Identity
from components.controller.services.gateway_client import Handle as ControllersHandle
from components.controller.services.gateway_client import Instance
from components.controller.services.offerings import OfferingRequest
from components.services.base.config import GatewayConfig
from components.services.base.errors import ServiceError
from components.services.base.handles import HandlesReply
from components.services.redis.gateway import RedisGateway, RedisProvisioner
from components.services.redis.node import RedisNode
from orchestrator.inventory.platform_secrets import SERVICES as SERVICES_WITH_TOKENS

ROOT = Path(__file__).resolve().parents[2]
VERBS = (
    "announce", "bind.*", "check_orphan", "discover", "node_handles", "provision.*", "purge_orphan.*", "unbind.*", "unprovision.*"
)  # fmt: skip


def wire(message: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(message))


@pytest.mark.parametrize(
    ("message", "shape"),
    [
        (messages.ServiceDiscover(), {}),
        (messages.ServiceDiscover(plan="free"), {"plan": "free"}),
        (
            messages.ServiceAnnouncement(id="n", plan="free", available_capacity=5, capacity_unit=1),
            {"id": "n", "plan": "free", "available_capacity": 5, "capacity_unit": 1},
        ),
        (messages.ServiceProvision(plan="free"), {"plan": "free"}),
        (messages.ServiceUnprovision(name="i"), {"name": "i"}),
        (
            messages.ServiceBind(name="i", bind_opts={"a": 1}, credentials={"password": "p"}),
            {"name": "i", "bind_opts": {"a": 1}, "credentials": {"password": "p"}},
        ),
        (messages.ServiceUnbind(credentials={"name": "i"}), {"credentials": {"name": "i"}}),
        (messages.ServiceReply(success=True), {"success": True}),
        (
            messages.ServiceReply(success=False, error=ServiceError((30300, 404), "no").wire()),
            {
                "success": False,
                "error": {"status": 404, "msg": {"code": 30300, "description": "no"}},
            },
        ),
        (
            messages.NodeHandles(node_id="n", instances_list=["i"], bindings_list=[{"name": "i"}]),
            {"node_id": "n", "instances_list": ["i"], "bindings_list": [{"name": "i"}]},
        ),
        (
            messages.PurgeOrphan(orphan_ins_list=["i"], orphan_binding_list=[{"name": "i"}]),
            {"orphan_ins_list": ["i"], "orphan_binding_list": [{"name": "i"}]},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, msgspec.Struct) else "",
)
def test_messages_have_the_contracts_members(message: object, shape: object) -> None:
    assert wire(message) == shape


def test_announcements_of_2011_and_2012_are_understood() -> None:
    for said in (
        {"id": "a", "available_memory": 512},
        {"id": "a", "available_storage": 1},
        {"id": "a", "plan": "free", "available_capacity": 3, "capacity_unit": 1, "supported_versions": ["x"]},
    ):
        assert msgspec.convert(said, messages.ServiceAnnouncement).id == "a"


def test_each_service_has_rows_of_its_own_and_no_pattern_reaches_beyond_them() -> None:
    rows = {s.name for s in CONTRACT if s.publishers == {SERVICES}}
    assert rows == {f"{name}.{verb}" for name in SERVICE_NAMES for verb in VERBS}
    for user in COMPONENTS:
        allowed = [*permissions(user).publish, *permissions(user).subscribe]
        assert not [s for s in allowed if s.startswith(("*", ">"))]
        if user != SERVICES:
            assert not [s for s in allowed if s.split(".")[0] in SERVICE_NAMES], user


def test_a_services_two_ends_have_one_name_and_a_token() -> None:
    assert RedisNode.service_name == RedisProvisioner.service_name
    assert RedisNode.service_name in SERVICE_NAMES
    assert RedisGateway.name in SERVICES_WITH_TOKENS


async def gateway(folder: Path) -> RedisGateway:
    config = parse(
        {
            "bus": {"urls": ["nats://127.0.0.1:1"]},
            "status": {"port": 9081},
            "controllers": ["http://127.0.0.1:1"],
            "token": "long enough",
            "version": "7.0",
            "base_dir": str(folder),
        },
        GatewayConfig,
    )
    return RedisGateway(config, Bus(config.bus, "test"), Identity.fresh("RaaS-Provisioner", 0))


async def test_what_a_gateway_offers_is_what_a_controller_takes(tmp_path: Path) -> None:
    made = await gateway(tmp_path)
    for active in (True, False):
        body = wire(made._offering(active=active))
        taken = msgspec.convert(body, OfferingRequest)
        assert (taken.label, taken.active, taken.url) == ("redis-7.0", active, "http://127.0.0.1:9081")
    offered = wire(made._offering(active=True))
    assert {
        "label",
        "url",
        "plans",
        "tags",
        "active",
        "description",
        "plan_options",
        "acls",
        "timeout",
    } <= set(offered)


def test_what_a_gateway_answers_is_what_a_controller_reads() -> None:
    credentials = {"name": "i", "password": "p"}
    made = {"service_id": "i", "data": {"plan": "free"}, "credentials": credentials}
    assert msgspec.convert(made, Instance).service_id == "i"
    bound = {"service_id": "h", "configuration": {"plan": "free"}, "credentials": credentials}
    assert msgspec.convert(bound, ControllersHandle).service_id == "h"
    assert msgspec.convert({"handles": [bound]}, HandlesReply).handles[0].instance == "i"


def test_the_role_writes_what_the_daemons_read() -> None:
    defaults = yaml.safe_load((ROOT / "roles/service_redis/defaults/main.yml").read_text())
    page = (ROOT / "docs/platform.md").read_text()
    assert (
        f"| {defaults['service_redis_gateway_port']}, {defaults['service_redis_node_port']} | services |"
        in page
    )
    assert (
        f"| {defaults['service_redis_first_port']}\u2013{defaults['service_redis_last_port']} | services |"
        in page
    )
    assert defaults["service_redis_aliases"] == ["redis-2.2"]


def test_a_bus_user_of_the_services_is_known() -> None:
    assert SERVICES in COMPONENTS
    assert BusConfig(urls=["nats://h:4222"], user=SERVICES).problems() == []

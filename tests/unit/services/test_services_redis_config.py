"""Problems of the configurations of nodes and gateways."""

import pytest

from components.common.config import parse
from components.common.errors import ConfigError
from components.services.base.config import GatewayConfig
from components.services.redis.config import RedisNodeConfig
from tests.unit.services.redis_samples import NODE

GATEWAY = {
    "bus": {"urls": ["nats://h:4222"]},
    "status": {"port": 9081},
    "controllers": ["http://h:9022"],
    "token": "long enough",
    "version": "7.0",
    "base_dir": "/var/lib/x",
}


def wrong(kind, given, **changes: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse({**given, **changes}, kind)
    return " ".join(caught.value.problems)


def test_a_good_configuration_has_no_problems():
    parse(NODE, RedisNodeConfig)
    parse(GATEWAY, GatewayConfig)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"node_id": "a.b"}, "node_id"),
        ({"node_id": ""}, "node_id"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": 2000}, "capacity"),
        ({"ports": {"first": 9, "last": 5}}, "ports.first"),
        ({"capacity": 200}, "the number of uids"),
        ({"uids": {"first": 48009, "last": 48000}}, "uids.first"),
        ({"uids": {"first": 0, "last": 48000}}, "uids.first"),
        ({"bind": "everywhere"}, "bind"),
        ({"memory_mb": 1}, "memory_mb"),
        ({"sandbox": "none"}, "sandbox"),
        ({"base_dir": "here"}, "base_dir"),
        ({"announce_interval": 0}, "announce_interval"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_nodes_problems_are_named(changes, named):
    assert named in wrong(RedisNodeConfig, NODE, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"controllers": []}, "controllers"),
        ({"controllers": ["h:9022"]}, "controllers"),
        ({"token": "short"}, "token"),
        ({"version": "7-0"}, "version"),
        ({"plans": []}, "plans"),
        ({"status": {"port": 0}}, "status.port"),
        ({"timeout": 10, "node_timeout": 10}, "timeout"),
        ({"late_timeout": 1}, "late_timeout"),
        ({"check_orphan_interval": 0}, "check_orphan_interval"),
    ],
)
def test_a_gateways_problems_are_named(changes, named):
    assert named in wrong(GatewayConfig, GATEWAY, **changes)

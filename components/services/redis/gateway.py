"""`ingot-service-redis-gateway`: the gateway of Redis."""

from __future__ import annotations

from components.common.daemon import run
from components.services.base import Gateway, GatewayConfig, Provisioner


class RedisProvisioner(Provisioner):
    """The requests to the Redis nodes."""

    service_name = "RaaS"


class RedisGateway(Gateway):
    """The Redis gateway."""

    name = "redis"
    tags = ("key-value", "nosql")
    provisioner_type = RedisProvisioner


def main() -> None:
    """Run the gateway."""
    run("service_redis_gateway", "RaaS-Provisioner", GatewayConfig, RedisGateway)


if __name__ == "__main__":
    main()

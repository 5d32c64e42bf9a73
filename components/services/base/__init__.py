"""The common base of data services: a provider subclasses `Provisioner`, `Gateway` and `Node`."""

from components.services.base.config import GatewayConfig, NodeConfig
from components.services.base.errors import ServiceError
from components.services.base.gateway import Gateway
from components.services.base.node import Node
from components.services.base.provisioner import Provisioner

__all__ = ["Gateway", "GatewayConfig", "Node", "NodeConfig", "Provisioner", "ServiceError"]

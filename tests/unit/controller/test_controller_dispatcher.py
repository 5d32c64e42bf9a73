"""What controllers tell DEAs, and which of them."""

from __future__ import annotations

from typing import Any

from components.common.bus.messages import DeaStart
from components.controller.instances.dispatcher import Dispatcher
from components.controller.pool.registry import Pool


class Said:
    """A bus that remembers what is published."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def publish(self, subject: str, message: dict[str, Any]) -> bool:
        self.messages.append((subject, message))
        return True


def test_what_every_dea_hears_has_the_keys_of_a_start_message_and_no_secret() -> None:
    bus = Said()
    start = DeaStart(
        droplet=12,
        name="shop",
        version="v-1",
        uris=["shop.x"],
        services=[{"name": "r1", "credentials": {"password": "sesame"}}],
        env=["API_KEY=sesame"],
    )
    assert Dispatcher(bus, Pool()).update(start)  # type: ignore[arg-type]
    ((subject, said),) = bus.messages
    assert subject == "dea.update"
    assert "sesame" not in str(said)
    assert (said["env"], said["services"]) == ([], [])
    assert (said["droplet"], said["uris"], said["version"]) == (12, ["shop.x"], "v-1")
    wanted = "droplet name uris runtime framework sha1 executableFile executableUri version services limits env users index debug console"
    assert set(wanted.split()) <= set(said)

"""What a DEA says of itself when it takes nothing more."""

from __future__ import annotations

from typing import Any, cast

import pytest

from components.common.bus.client import Bus, Incoming
from components.dea.agent_state import AgentState
from components.dea.bus.announcer import Announcer
from components.dea.bus.replies import Replies
from components.dea.instances.registry import Bounds, Registry


class Heard:
    """A bus that keeps what is said on it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    async def publish(self, subject: str, message: Any) -> bool:
        self.said.append((subject, message))
        return True


@pytest.mark.parametrize(
    ("flag", "state"), [("", None), ("evacuating", "SHUTTING_DOWN"), ("stopping", "SHUTTING_DOWN")]
)
async def test_a_dea_that_takes_nothing_more_says_so(flag: str, state: str | None) -> None:
    heard = Heard()
    bus, registry = cast("Bus", heard), Registry(Bounds(512, 4096, 8))
    agent = AgentState("0-a", "10.0.0.5", files_port=12345)
    announcer = Announcer(bus, agent, registry, zone="z", interval=1.0, index=0)
    if flag:
        setattr(agent, flag, True)
    replies = Replies(registry, agent, cast("Any", None), ["user", "password"])
    await replies.on_status(Incoming(bus, "dea.status", None, "_INBOX.x"))
    await announcer.say_advertise()
    (subject, hello), *advertised = heard.said
    assert (subject, hello.state) == ("_INBOX.x", state)
    assert [name for name, _ in advertised] == ([] if state else ["dea.advertise"])
    assert replies.varz().get("state") == state

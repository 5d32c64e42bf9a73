"""Alerts on their way out: posted once, in order, by who speaks; repeated where that helps; never in the way. A real HTTP server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from components.common.config import parse
from components.common.errors import ConfigError
from components.health_manager import webhooks
from components.health_manager.alerts import APP_FLAPPING, DEA_LOST, Alert, Alerts
from components.health_manager.config import HealthManagerConfig, Webhook
from components.health_manager.lease import LeaseState
from components.health_manager.webhooks import Webhooks


class Receiver:
    """A server that keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        await self.hold.wait()
        status = self.statuses.pop(0) if self.statuses else 204
        self.headers.append(dict(request.headers))
        if status < 300:
            self.got.append(await request.json())
        return web.Response(status=status)

    async def until(self, number: int, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while len(self.got) < number:
            assert time.monotonic() < deadline, self.got
            await asyncio.sleep(0.01)

    def states(self) -> list[tuple[str, str]]:
        return [(g["key"], g["state"]) for g in self.got]


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    monkeypatch.setattr(webhooks, "_FIRST_PAUSE", 0.02)
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook/T0P", made.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook/T0P"
    yield made
    made.hold.set()
    await runner.cleanup()


@pytest.fixture
async def sender(receiver: Receiver) -> AsyncIterator[Webhooks]:
    made = Webhooks([Webhook(url=receiver.url, header="X-Key", secret="s3cret")], "198.18.0.3", 10.0)
    await made.start()
    yield made
    await made.stop()


async def test_the_beginning_and_the_end_are_posted_once(receiver: Receiver, sender: Webhooks) -> None:
    flags = Alerts(sender.tell)
    sender.speak(speaks=True)
    for _ in range(3):
        flags.set(DEA_LOST, "dea1", on=True, instances=7)
    flags.set(DEA_LOST, "dea1", on=False)
    flags.set(DEA_LOST, "dea1", on=False)
    await receiver.until(2)
    await asyncio.sleep(0.05)
    assert receiver.states() == [("dea_lost/dea1", "begun"), ("dea_lost/dea1", "over")]
    first = receiver.got[0]
    assert first["alert"] == "dea_lost"
    assert first["subject"] == "dea1"
    assert first["facts"] == {"instances": 7}
    assert first["sender"] == "198.18.0.3"
    assert abs(first["since"] - time.time()) < 60
    assert receiver.headers[0]["X-Key"] == "s3cret"


async def test_one_that_does_not_speak_is_silent_and_says_the_last_when_it_does(
    receiver: Receiver, sender: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.speak(speaks=False)
    now = time.monotonic()
    with monkeypatch.context() as patched:
        # What was long before is taken to have been said by who spoke then.
        patched.setattr("components.health_manager.webhooks.time.monotonic", lambda: now - 11)
        sender.tell(Alert(DEA_LOST, "long ago", 0))
    sender.tell(Alert(DEA_LOST, "just now", 0))
    await asyncio.sleep(0.05)
    assert receiver.got == []
    sender.speak(speaks=True)
    await receiver.until(1)
    assert receiver.states() == [("dea_lost/just now", "begun")]


async def test_a_receiver_that_fails_is_asked_again(receiver: Receiver, sender: Webhooks) -> None:
    receiver.statuses = [500, 503, 429, 204, 204]
    sender.speak(speaks=True)
    sender.tell(Alert(DEA_LOST, "a", 0))
    sender.tell(Alert(APP_FLAPPING, "b", 0, over=True))
    await receiver.until(2)
    assert receiver.states() == [("dea_lost/a", "begun"), ("app_flapping/b", "over")]
    assert len(receiver.headers) == 5


async def test_what_is_refused_is_not_repeated(receiver: Receiver, sender: Webhooks) -> None:
    receiver.statuses = [403, 302]
    sender.speak(speaks=True)
    for name in ("a", "b", "c"):
        sender.tell(Alert(DEA_LOST, name, 0))
    await receiver.until(1)
    assert receiver.states() == [("dea_lost/c", "begun")]
    assert len(receiver.headers) == 3


async def test_a_receiver_that_hangs_is_in_nobodys_way_and_its_queue_is_bounded(
    receiver: Receiver, sender: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_LIMIT", 10)
    receiver.hold.clear()
    sender.speak(speaks=True)
    began = time.monotonic()
    for number in range(1000):
        sender.tell(Alert(DEA_LOST, str(number), 0))
    assert time.monotonic() - began < 5
    receiver.hold.set()
    await receiver.until(10)
    # The newest are left; the one that was on its way may have come through.
    assert [k for k, _ in receiver.states()][-10:] == [f"dea_lost/{n}" for n in range(990, 1000)]


async def test_nobody_at_the_address_is_tried_again_and_the_address_stays_out_of_the_log(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Webhooks([Webhook(url="http://127.0.0.1:9/hook/T0P"), Webhook(url=receiver.url)], "x", 10.0)
    await gone.start()
    gone.speak(speaks=True)
    gone.tell(Alert(DEA_LOST, "a", 0))
    await receiver.until(1)
    deadline = time.monotonic() + 10
    said = ""
    while "webhook_failed" not in said:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
        said += capsys.readouterr().out
    assert "T0P" not in said
    await gone.stop()


def test_who_led_last_speaks_also_while_nobody_can_lead() -> None:
    state = LeaseState("me", 5.0)
    assert not state.speaks
    state.granted(1, 0.0, 0.1)
    assert state.speaks
    # The controllers are away: the lease ends, and what is wrong must be said all the same.
    assert not state.leads(10.0)
    assert state.speaks
    state.refused("other", 2, 5.0, 11.0)
    assert not state.speaks
    state.granted(3, 20.0, 20.1)
    state.released()
    assert not state.speaks


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://x y"}, "url"),
        ({"url": "http://x", "header": "A: b"}, "header"),
        ({"url": "http://x", "header": ""}, "header"),
        ({"url": "http://x", "secret": "a\nb"}, "secret"),
        ({"url": "http://x", "sekret": "a"}, "sekret"),
    ],
)
def test_a_wrong_webhook_is_refused_without_being_shown(hook: dict[str, str], problem: str) -> None:
    raw = {"bus": {"urls": ["nats://x:1"]}, "controllers": ["http://x"], "webhooks": [hook]}
    with pytest.raises(ConfigError) as raised:
        parse(raw, HealthManagerConfig)
    assert problem in str(raised.value)
    assert "ftp://x" not in str(raised.value)

"""Who hears a question, and who may answer it, against a real nats-server (docs/decisions/0025)."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from common_rig import NatsServer, bus_of, up
from nats import connect
from prometheus_client import REGISTRY

from components.common.bus.client import Bus, Incoming
from components.common.bus.connection import Connection
from components.common.bus.messages import DropletRef
from tests.support.waiting import until_async


def refused_replies() -> float:
    return REGISTRY.get_sample_value("ingot_bus_refused_replies_total", {"subject": "test.ask"}) or 0.0


async def test_nobody_guesses_where_the_next_answer_goes(nats: NatsServer, closing: AsyncExitStack) -> None:
    asked, asker = bus_of(closing, nats), bus_of(closing, nats)
    inboxes: list[str] = []

    async def answer(message: Incoming[Any]) -> None:
        inboxes.append(message.reply)
        await message.respond(DropletRef(droplet=1))

    asked.subscribe("test.ask", None, answer)
    await up(asked)
    await up(asker)
    for _ in range(3):
        await asker.request("test.ask", None, DropletRef)
        await asker.request_many("test.ask", None, DropletRef, timeout=20, expected=1)
    prefixes, names = zip(*(inbox.rsplit(".", 1) for inbox in inboxes), strict=True)
    # One subscription has them all. Each is 128 random bits of its own: those that were seen say nothing about the next.
    assert len(set(prefixes)) == 1
    assert len(set(names)) == 6
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)
    assert len({name[:12] for name in names}) == 6


async def test_an_answer_goes_to_an_inbox_and_nowhere_else(nats: NatsServer, closing: AsyncExitStack) -> None:
    asked, asker = bus_of(closing, nats), bus_of(closing, nats)
    before = refused_replies()
    heard: list[str] = []

    async def answer(message: Incoming[Any]) -> None:
        assert message.wants_reply is message.reply.startswith("_INBOX")
        heard.append(f"answered {await message.respond(DropletRef(droplet=1))}")

    async def hear(message: Incoming[Any]) -> None:
        heard.append(message.subject)

    asked.subscribe("test.ask", None, answer)
    asker.subscribe("dea.stop", None, hear)
    asker.subscribe("_INBOXES", None, hear)
    asker.subscribe("_INBOX.mine", None, hear)
    asker.subscribe("_INBOX_controller.mine", None, hear)
    await up(asked)
    await up(asker)
    bare = await connect(nats.url)
    closing.push_async_callback(bare.close)
    for reply in ("dea.stop", "_INBOXES", "_INBOX.mine", "_INBOX_controller.mine"):
        await bare.publish("test.ask", b"{}", reply=reply)
    await until_async(lambda: len(heard) == 6, "all four are handled, two are answered")
    assert sorted(heard) == sorted(
        ["answered False"] * 2 + ["answered True"] * 2 + ["_INBOX.mine", "_INBOX_controller.mine"]
    )
    assert refused_replies() - before == 2


async def test_an_answer_arrives_by_the_connection_after_the_one_of_the_question(
    nats: NatsServer, closing: AsyncExitStack
) -> None:
    asked, asker = bus_of(closing, nats), bus_of(closing, nats)
    questions: list[Incoming[Any]] = []

    async def keep(message: Incoming[Any]) -> None:
        questions.append(message)

    asked.subscribe("test.ask", None, keep)
    await up(asked)
    await up(asker)
    answer = asyncio.create_task(asker.request("test.ask", None, DropletRef, timeout=60))
    closing.callback(answer.cancel)
    await until_async(lambda: bool(questions), "the question is heard")
    nats.stop()
    await until_async(lambda: not asked.connected and not asker.connected, "the loss is noticed")
    nats.start()
    await until_async(lambda: asked.connected and asker.connected, "connected again")
    assert await questions[0].respond(DropletRef(droplet=1))
    assert (await answer).droplet == 1


async def test_who_unsubscribes_while_it_connects_is_no_deaf_member_of_a_group(
    nats: NatsServer, closing: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaver, member, asker = (bus_of(closing, nats) for _ in range(3))
    settle = Connection._settle

    async def answer(message: Incoming[Any]) -> None:
        await message.respond(DropletRef(droplet=1))

    async def settle_and_leave(self: Connection) -> None:
        await settle(self)
        await leaver.unsubscribe("test.ask")

    leaver.subscribe("test.ask", None, answer, queue="group")
    member.subscribe("test.ask", None, answer, queue="group")
    announced = asyncio.Event()

    async def announce() -> None:
        announced.set()

    leaver.on_connect(announce)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_settle", settle_and_leave)
        await up(leaver)
    await announced.wait()
    await up(member)
    await up(asker)
    await until_async(lambda: _heard(leaver) == ["_INBOX"], "it has left")
    for _ in range(20):
        await asker.request("test.ask", None, DropletRef, timeout=20)


def _heard(bus: Bus) -> list[str]:
    assert bus._connection is not None
    return [listening.subject.partition(".")[0] for listening, _ in bus._connection._live]


async def test_a_question_to_one_of_many_is_not_overheard(tmp_path: Path, closing: AsyncExitStack) -> None:
    server = NatsServer(tmp_path, users=True)
    closing.callback(server.stop)
    server.start()
    stager, thief, controller = (bus_of(closing, server, user) for user in ("stager", "stager", "controller"))
    heard: list[str] = []

    async def hear(message: Incoming[Any]) -> None:
        heard.append("thief")

    async def stage(message: Incoming[Any]) -> None:
        heard.append("stager")
        await message.respond(DropletRef(droplet=1))

    stager.subscribe("staging", None, stage, queue="staging")
    thief.subscribe("staging", None, hear)
    thief.subscribe("staging", None, hear, queue="mine")
    for bus in (stager, thief, controller):
        await up(bus)
    for _ in range(5):
        await controller.request("staging", {"environment": ["A=secret"]}, DropletRef, timeout=20)
    assert heard == ["stager"] * 5

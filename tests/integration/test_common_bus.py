"""The bus that every daemon is on, and its permissions, against a real nats-server."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from common_rig import NatsServer, bus_of, up
from nats import connect
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import REGISTRY

from components.common.bus.client import BusNoAnswerError, Incoming
from components.common.bus.messages import DropletRef, HealthReply
from components.common.bus.subjects import COMPONENTS, CONTRACT, OPERATOR, PEER, inbox_prefix
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from components.common.errors import BusUnavailableError, MessageError
from tests.support.waiting import until_async


def malformed(subject: str) -> float:
    return REGISTRY.get_sample_value("ingot_bus_malformed_total", {"subject": subject}) or 0.0


# The bus.


async def test_it_reconnects_announces_again_and_hears_again(
    nats: NatsServer, closing: AsyncExitStack
) -> None:
    listener, speaker = bus_of(closing, nats), bus_of(closing, nats)
    heard: list[int] = []
    announced = 0

    async def hear(message: Incoming[DropletRef]) -> None:
        heard.append(message.body.droplet)

    async def announce() -> None:
        nonlocal announced
        announced += 1

    listener.subscribe("droplet.updated", DropletRef, hear)
    listener.on_connect(announce)
    await up(listener)
    await up(speaker)
    await speaker.publish("droplet.updated", DropletRef(droplet=1))
    await until_async(lambda: heard == [1], "first message")
    assert announced == 1
    nats.stop()
    await until_async(lambda: not listener.connected and not speaker.connected, "the loss is noticed")
    # Hints are not queued.
    assert not await speaker.publish("droplet.updated", DropletRef(droplet=2))
    with pytest.raises(BusUnavailableError):
        await speaker.request("droplet.updated", None, DropletRef)
    nats.start()
    await until_async(lambda: listener.connected and speaker.connected, "connected again")
    await until_async(lambda: announced == 2, "announced again")
    await speaker.publish("droplet.updated", DropletRef(droplet=3))
    await until_async(lambda: heard == [1, 3], "hears again")


async def test_who_publishes_much_to_a_silent_server_is_let_go(
    nats: NatsServer, closing: AsyncExitStack
) -> None:
    bus = bus_of(closing, nats)
    await up(bus)
    nats.hang()
    held = 0.0
    while bus.connected and held < 1:
        began = time.monotonic()
        # The buffers of two sockets, and the client's own.
        await asyncio.wait_for(bus.publish("test.bulk", b"." * 1_000_000), 60)
        held = time.monotonic() - began
    # Given up by the bus, not by this test.
    assert 1 <= held < 59
    nats.stop()
    await until_async(lambda: not bus.connected, "the loss is noticed")


async def test_it_starts_before_its_server(tmp_path: Path, closing: AsyncExitStack) -> None:
    late = NatsServer(tmp_path)
    closing.callback(late.stop)
    bus = bus_of(closing, late)
    await bus.start()
    assert not await bus.wait_connected(0.2)
    late.start()
    await until_async(lambda: bus.connected, "connected")


async def test_what_breaks_the_contract_is_dropped_and_counted(
    nats: NatsServer, closing: AsyncExitStack
) -> None:
    listener, speaker = bus_of(closing, nats), bus_of(closing, nats)
    heard: list[int] = []

    async def hear(message: Incoming[DropletRef]) -> None:
        if message.body.droplet == 13:
            raise RuntimeError("a handler's own trouble")
        heard.append(message.body.droplet)

    listener.subscribe("test.refs", DropletRef, hear)
    await up(listener)
    await up(speaker)
    junk = (b"", b"{", b"null", b"[1]", b'{"droplet":"x"}', b"{}", b"\xff\xfe\x00")
    for body in junk:
        await speaker.publish("test.refs", body)
    await speaker.publish("test.refs", DropletRef(droplet=13))
    await speaker.publish("test.refs", b'{"droplet":7,"from_a_newer_peer":true}')
    await until_async(lambda: heard == [7], "the good one after the bad ones")
    assert malformed("test.refs") == len(junk)
    failed = REGISTRY.get_sample_value("ingot_bus_handler_errors_total", {"subject": "test.refs"})
    assert failed == 1


async def test_a_question_is_answered_refused_or_in_vain(nats: NatsServer, closing: AsyncExitStack) -> None:
    asked, asker = bus_of(closing, nats), bus_of(closing, nats)

    async def answer(message: Incoming[DropletRef]) -> None:
        if message.body.droplet < 9:
            await message.respond(HealthReply(droplet=message.body.droplet, version="v", healthy=1))
        else:
            await message.respond({"nonsense": True})

    asked.subscribe("test.ask", DropletRef, answer)
    await up(asked)
    await up(asker)
    reply = await asker.request("test.ask", DropletRef(droplet=5), HealthReply)
    assert (reply.droplet, reply.healthy) == (5, 1)
    with pytest.raises(MessageError, match=r"test\.ask"):
        await asker.request("test.ask", DropletRef(droplet=9), HealthReply)
    with pytest.raises(BusNoAnswerError):
        await asker.request("test.nobody", None, HealthReply, timeout=0.5)


async def test_everybody_is_asked_and_whoever_breaks_the_contract_is_left_out(
    nats: NatsServer, closing: AsyncExitStack
) -> None:
    for number in range(4):
        member = bus_of(closing, nats)

        async def answer(message: Incoming[Any], number: int = number) -> None:
            await message.respond(
                b"junk" if number == 3 else HealthReply(droplet=number, version="v", healthy=number)
            )

        member.subscribe("test.all", None, answer)
        await up(member)
    asker = await up(bus_of(closing, nats))
    replies = await asker.request_many("test.all", None, HealthReply, timeout=10, expected=3)
    assert sorted(r.droplet for r in replies) == [0, 1, 2]
    enough = await asker.request_many(
        "test.all", None, HealthReply, timeout=10, enough=lambda found: len(found) == 2
    )
    assert len(enough) == 2
    assert await asker.request_many("test.nobody", None, HealthReply, timeout=10) == []


async def test_questions_asked_at_once_get_their_own_answers(
    nats: NatsServer, closing: AsyncExitStack
) -> None:
    asked, asker = bus_of(closing, nats), bus_of(closing, nats)
    held: list[Incoming[DropletRef]] = []

    async def answer(message: Incoming[DropletRef]) -> None:
        held.append(message)
        if len(held) == 3:
            # The last one first, and one answer more than is wanted.
            for one in (*reversed(held), *held):
                await one.respond(one.body)

    asked.subscribe("test.ask", DropletRef, answer)
    await up(asked)
    await up(asker)
    asks = (
        asker.request_many("test.ask", DropletRef(droplet=n), DropletRef, timeout=20, expected=1)
        for n in range(3)
    )
    found = await asyncio.gather(*asks)
    assert [[r.droplet for r in replies] for replies in found] == [[0], [1], [2]]


async def test_who_waits_for_answers_is_let_go_when_the_bus_is_closed(
    nats: NatsServer, closing: AsyncExitStack
) -> None:
    silent, asker = bus_of(closing, nats), bus_of(closing, nats)
    reached = asyncio.Event()

    async def hear(_message: Incoming[Any]) -> None:
        reached.set()

    silent.subscribe("test.silent", None, hear)
    await up(silent)
    await up(asker)
    waiting = asyncio.create_task(asker.request_many("test.silent", None, DropletRef, timeout=3600))
    await asyncio.wait_for(reached.wait(), 20)
    await asker.close()
    assert await asyncio.wait_for(waiting, 20) == []


async def test_one_of_a_queue_group_answers(nats: NatsServer, closing: AsyncExitStack) -> None:
    heard: list[int] = []
    for number in range(3):
        member = bus_of(closing, nats)

        async def hear(_message: Incoming[Any], number: int = number) -> None:
            heard.append(number)

        member.subscribe("test.queue", None, hear, queue="cc")
        member.subscribe("test.end", None, hear)
        await up(member)
    speaker = await up(bus_of(closing, nats))
    for _ in range(30):
        await speaker.publish("test.queue")
    await until_async(lambda: len(heard) == 30, "thirty messages")
    await speaker.publish("test.end")
    await until_async(lambda: len(heard) == 33, "and no more of them")


async def test_an_unsubscribed_subject_is_not_heard_again(nats: NatsServer, closing: AsyncExitStack) -> None:
    listener, speaker = bus_of(closing, nats), bus_of(closing, nats)
    heard: list[str] = []

    async def hear(message: Incoming[Any]) -> None:
        heard.append(message.subject)

    listener.subscribe("test.a", None, hear)
    listener.subscribe("test.b", None, hear)
    await up(listener)
    await up(speaker)
    await listener.unsubscribe("test.a")
    for subject in ("test.a", "test.b"):
        await speaker.publish(subject)
    await until_async(lambda: heard == ["test.b"], "only the other")
    nats.stop()
    await until_async(lambda: not listener.connected, "lost")
    nats.start()
    await until_async(lambda: listener.connected and speaker.connected, "back")
    for subject in ("test.a", "test.b"):
        await speaker.publish(subject)
    await until_async(lambda: heard == ["test.b", "test.b"], "still only the other")


def test_synchronous_programs_use_it_from_their_threads(nats: NatsServer) -> None:
    config = BusConfig(urls=[nats.url])
    one, two = BusThread(config, "one"), BusThread(config, "two")

    async def answer(message: Incoming[DropletRef]) -> None:
        await message.respond(DropletRef(droplet=message.body.droplet + 1))

    heard: list[int] = []
    last = asyncio.Event()

    async def hear(message: Incoming[DropletRef]) -> None:
        heard.append(message.body.droplet)
        if len(heard) == 200:
            last.set()

    one.subscribe("test.sync", DropletRef, answer)
    one.subscribe("test.heard", DropletRef, hear)
    try:
        one.start()
        two.start()
        assert one.run(one.bus.wait_connected(20))
        assert two.run(two.bus.wait_connected(20))
        assert two.request("test.sync", DropletRef(droplet=1), DropletRef).droplet == 2
        assert len(two.request_many("test.sync", DropletRef(droplet=1), DropletRef, expected=1)) == 1
        # Nobody waits for what is published, and it arrives in the order of the calls.
        assert all(two.publish("test.heard", DropletRef(droplet=n)) for n in range(200))
        assert two.request("test.sync", DropletRef(droplet=1), DropletRef).droplet == 2
        assert one.run(asyncio.wait_for(last.wait(), 20))
        assert heard == list(range(200))
    finally:
        one.close()
        two.close()
    two.close()


# Permissions.


async def test_the_contracts_permissions_hold(tmp_path: Path, closing: AsyncExitStack) -> None:
    server = NatsServer(tmp_path, users=True)
    closing.callback(server.stop)
    server.start()
    dea, controller, spy = (bus_of(closing, server, user) for user in ("dea", "controller", "stager"))
    heard: list[str] = []

    async def hear(message: Incoming[Any]) -> None:
        heard.append(message.subject)
        await message.respond(DropletRef(droplet=1))

    dea.subscribe("dea.stop", None, hear)
    dea.subscribe("dea.status", None, hear)
    dea.subscribe("dea.7.start", None, hear)
    spy.subscribe("dea.stop", None, hear)
    spy.subscribe("_INBOX_controller.>", None, hear)
    for bus in (dea, controller, spy):
        await up(bus)
    # Allowed: a controller's word to the DEAs, and the DEA's answer to the controller's own inbox.
    await controller.publish("dea.stop", {"droplet": 1})
    await controller.publish("dea.7.start", {"droplet": 1})
    assert (await controller.request("dea.status", None, DropletRef)).droplet == 1
    # Refused: anybody else's word, and anybody else's ear.
    await spy.publish("dea.stop", {"droplet": 2})
    await dea.publish("dea.stop", {"droplet": 3})
    assert (await controller.request("dea.status", None, DropletRef)).droplet == 1
    await until_async(lambda: heard.count("dea.status") == 2, "what was allowed")
    assert sorted(heard) == ["dea.7.start", "dea.status", "dea.status", "dea.stop"]


async def test_every_user_may_answer_every_user_that_may_ask_it(
    tmp_path: Path, closing: AsyncExitStack
) -> None:
    server = NatsServer(tmp_path, users=True)
    closing.callback(server.stop)
    server.start()
    clients: dict[str, Client] = {}
    for user in (*COMPONENTS, OPERATOR, PEER):
        clients[user] = await connect(
            server.url, user=user, password=user, inbox_prefix=inbox_prefix(user).encode()
        )
        closing.push_async_callback(clients[user].close)
    for row in (s for s in CONTRACT if s.reply is not None):
        subject = row.name.replace("*", "x")
        peer = set() if row.ours else {PEER}
        for replier in row.subscribers | peer:

            async def answer(message: Msg, name: str = replier) -> None:
                await message.respond(name.encode())

            group = row.queue or "" if row.heard_as(replier) != row.name else ""
            heard = await clients[replier].subscribe(subject, queue=group, cb=answer)
            await settled(clients[replier])
            for asker in row.publishers | peer:
                reply = await clients[asker].request(subject, b"{}", timeout=20)
                assert reply.data.decode() == replier, f"{row.name}: {replier} answers {asker}"
            await heard.unsubscribe()
            await settled(clients[replier])


async def settled(client: Client) -> None:
    """Wait until the server has what the client said: a first PING may overtake what is queued, a second follows it."""
    await client.flush()
    await client.flush()


async def test_a_wrong_password_connects_nobody(tmp_path: Path, closing: AsyncExitStack) -> None:
    server = NatsServer(tmp_path, users=True)
    closing.callback(server.stop)
    server.start()
    bus = bus_of(closing, server, "dea", password="wrong")
    await bus.start()
    assert not await bus.wait_connected(1.5)

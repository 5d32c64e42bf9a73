"""The database's clock is set back or forward: no holder keeps for ever what it does not hold any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.bus.messages import Capacity, DeaBeat
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from components.common.states import AppState
from components.controller.config import ControllerConfig
from components.controller.db import leases
from components.controller.db.database import Database
from components.controller.db.models import (
    App,
    AppUpdate,
    Base,
    Lease,
    Machine,
    Staging,
    StagingState,
    UpdateState,
    User,
)
from components.controller.errors import ApiError
from components.controller.instances.dispatcher import Dispatcher
from components.controller.pool import machines
from components.controller.pool.registry import Pool
from components.controller.rolling_updates.runner import HOLD_SECONDS, RollingUpdates, _Memory
from components.controller.services.broker import ServiceBroker
from components.controller.services.gateway_client import GatewayClient
from components.controller.staging import stagings
from components.controller.staging.stagings import ABANDONED_SECONDS, Stagings, silent
from components.controller.storage.store import Store
from components.controller.tasks.watch import NEVER_STARTED, PENDING_SECONDS, Open, TaskWatch
from components.controller.upkeep.sweeper import Sweeper

HOURS = 5 * 3600.0


class World:
    """One application, and a database whose clock is set at will."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        self.db = Database(f"sqlite:///{folder}/ccdb.sqlite", 2)
        Base.metadata.create_all(self.db.engine)
        monkeypatch.setattr(self.db, "now", lambda _session: time.time() + self.ahead)
        self.store = Store(folder / "share")
        self.store.prepare()
        self.config = ControllerConfig(
            bus=BusConfig(urls=["nats://127.0.0.1:1"]),
            database_url="sqlite:///x",
            share_path=str(folder / "share"),
            temp_path=str(folder),
            token_keys=["0123456789abcdef"],
            bulk_password="b",
            staging_password="s",
            max_staging_seconds=1,
        )
        self.bus = BusThread(self.config.bus, "test")
        self.bus.start()
        self.stagings = Stagings(self.config, self.db, self.store, self.bus, threading.Event())
        with self.db.session() as session:
            owner = User(email="o@example.org", crypted_password="x", created_at=0)
            session.add(App(id=1, owner=owner, name="a", framework="wsgi", created_at=0, updated_at=0))

    def take(self, holder: str, ttl: float = 60.0) -> str:
        with self.db.session() as session:
            return leases.take(self.db, session, "leader", holder, ttl).holder

    def staged(self, alive_at: float) -> None:
        with self.db.session() as session:
            session.merge(
                Staging(
                    app_id=1,
                    task="t",
                    built_from="x",
                    state=StagingState.RUNNING,
                    started_at=alive_at,
                    alive_at=alive_at,
                )
            )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    yield made
    made.bus.close()
    made.db.close()


def nothing(*_: object) -> None:
    """Nothing belongs to the end of these stagings."""


def test_a_lease_of_a_clock_that_was_set_back_is_free(world: World) -> None:
    assert world.take("a") == "a"
    assert world.take("b", ttl=5) == "a", "it was taken for longer than the other asks"
    world.ahead = -HOURS
    assert world.take("b") == "b"
    with world.db.session() as session:
        assert leases.give_back(world.db, session, "leader", "a") is not None
    world.ahead = -2 * HOURS
    with world.db.session() as session:
        assert leases.give_back(world.db, session, "leader", "a") is None


def test_a_lease_that_an_older_controller_wrote_holds_for_as_long_as_one_may(world: World) -> None:
    with world.db.session() as session:
        session.add(Lease(name="leader", holder="old", token=1, expires_at=time.time() + 3000))
    assert world.take("b") == "old"
    world.ahead = -HOURS
    assert world.take("b") == "b"


def test_a_staging_of_the_future_is_taken_over(world: World) -> None:
    callbacks = stagings.StagingCallbacks(nothing)
    world.staged(time.time())
    waiting = world.stagings._claim(1, callbacks)
    assert waiting is not None
    assert waiting.request is None
    world.ahead = -HOURS
    taken = world.stagings._claim(1, callbacks)
    assert taken is not None
    assert taken.request is not None
    assert not silent(0.0, ABANDONED_SECONDS - 1)
    assert silent(0.0, ABANDONED_SECONDS)
    assert silent(ABANDONED_SECONDS, 0.0)


def test_who_waits_for_another_staging_has_a_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.staged(time.time())
    claim = world.stagings._claim(1, stagings.StagingCallbacks(nothing))
    assert claim is not None
    # The other stays alive, as far as the row tells.
    monkeypatch.setattr(world.db, "now", lambda session: session.get_one(Staging, 1).alive_at)
    monkeypatch.setattr(stagings, "ABANDONED_SECONDS", 0.5)
    begun = time.monotonic()
    with pytest.raises(ApiError, match="no result within 1 seconds"):
        world.stagings._await(claim)
    assert time.monotonic() - begun < 30


def test_a_sweep_frees_stagings_of_the_future(world: World) -> None:
    world.staged(time.time())
    sweeper = Sweeper(world.config, world.db, world.store)
    sweeper.sweep()
    with world.db.session() as session:
        assert session.get_one(Staging, 1).state == StagingState.RUNNING
    world.ahead = -HOURS
    sweeper.sweep()
    with world.db.session() as session:
        assert session.get_one(Staging, 1).state == StagingState.FAILED


def updates_of(world: World) -> RollingUpdates:
    services = ServiceBroker(world.config, world.db, GatewayClient({}, broker=""))
    dispatcher = Dispatcher(world.bus, Pool())
    return RollingUpdates(
        world.config, world.db, world.store, world.bus, dispatcher=dispatcher, services=services
    )


def test_an_update_of_the_future_is_taken(world: World) -> None:
    runner = updates_of(world)
    now = time.time()
    with world.db.session() as session:
        session.add(
            AppUpdate(
                app_id=1,
                serial="s",
                state=UpdateState.UPDATING,
                from_version="a-0",
                to_version="b-0",
                holder="dead",
                alive_until=now + HOLD_SECONDS,
                started_at=now,
                changed_at=now,
            )
        )
    assert runner._take() == []
    world.ahead = -HOURS
    assert runner._take() == [1]


def test_what_was_asked_for_in_an_update_was_asked_for_as_long_ago_as_before() -> None:
    memory = _Memory()
    assert memory.jump(1000.0, 10.0) == 0.0
    assert memory.jump(1000.9, 10.5) == 0.0
    assert memory.jump(1000.9 + HOURS, 10.5) == HOURS
    assert memory.jump(1001.9 + HOURS, 11.5) == 0.0
    assert memory.jump(1002.9, 12.5) == pytest.approx(-HOURS)


def test_an_update_moves_its_times_with_the_clock(world: World) -> None:
    runner = updates_of(world)
    now = time.time()
    with world.db.session() as session:
        app = session.get_one(App, 1)
        app.state = AppState.STARTED
        session.add(
            AppUpdate(
                app_id=1,
                serial="s",
                state=UpdateState.UPDATING,
                from_version="a-0",
                to_version="b-0",
                asked={"0": now},
                holder=runner._holder,
                started_at=now,
                changed_at=now,
            )
        )
    memory = _Memory()
    assert runner._read(1, memory) is not None
    memory.sent = {0: now}
    world.ahead = HOURS
    facts = runner._read(1, memory)
    assert facts is not None
    assert facts.goal.asked == facts.goal.sent == {0: pytest.approx(now + HOURS, abs=1)}
    with world.db.session() as session:
        assert session.get_one(AppUpdate, 1).asked == {"0": pytest.approx(now + HOURS, abs=1)}


def test_a_pending_task_of_the_future_is_given_up() -> None:
    watch, task = TaskWatch(), Open("t", "", pending=True, age=-HOURS)
    assert watch.look([task], {}, 0).over == {}
    assert watch.look([task], {}, PENDING_SECONDS - 1).over == {}
    assert watch.look([task], {}, PENDING_SECONDS + 1).over == {"t": NEVER_STARTED}


def test_a_machine_of_the_future_is_written_anew(world: World) -> None:
    now, pool = time.time(), Pool()
    with world.db.session() as session:
        session.add(Machine(id="0-a", beat={}, last_seen=now + HOURS))
    pool.observe(DeaBeat(id="0-a", address="127.0.0.2", capacity=Capacity(memory=1)), time.monotonic(), now)
    machines.save(world.db, pool)
    with world.db.session() as session:
        assert session.get_one(Machine, "0-a").last_seen == pytest.approx(now)

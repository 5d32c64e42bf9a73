"""What killed controllers left is found and removed; what is in use is not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from components.common.config import BusConfig
from components.controller import leftovers
from components.controller.config import ControllerConfig
from components.controller.database import Database
from components.controller.models import FAILED, RUNNING, App, Base, Staging, Upload, User
from components.controller.store import Store
from components.controller.sweep import Sweeper

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/ccdb.sqlite", 2)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def sweeper(db: Database, tmp_path: Path) -> Sweeper:
    store = Store(tmp_path / "share")
    store.prepare()
    (tmp_path / "temp").mkdir()
    config = ControllerConfig(
        bus=BusConfig(urls=["nats://127.0.0.1:1"]),
        database_url="sqlite:///x",
        share_path=str(tmp_path / "share"),
        temp_path=str(tmp_path / "temp"),
        token_keys=["0123456789abcdef"],
        bulk_password="b",
        staging_password="s",
    )
    return Sweeper(msgspec.structs.replace(config, sweep_seconds=1.0), db, store)


def gone_pid() -> int:
    """The number of a process that is no more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_a_dead_process_left_on_this_machine_goes(tmp_path: Path) -> None:
    dead, mine = gone_pid(), os.getpid()
    (tmp_path / f"ingot-upload-{dead}-x").write_text("")
    folder = tmp_path / f"ingot-package-{dead}-y"
    (folder / "deep").mkdir(parents=True)
    kept = [tmp_path / f"ingot-upload-{mine}-x", tmp_path / "ingot-other-1-x", tmp_path / "upload-1-x"]
    for path in kept:
        path.write_text("")
    assert sorted(leftovers.clear_local(tmp_path)) == [f"ingot-package-{dead}-y", f"ingot-upload-{dead}-x"]
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_was_being_written_to_the_share_goes_when_its_writer_is_dead(tmp_path: Path) -> None:
    dead, here = gone_pid(), platform.node()
    names = {
        "mine": f"new-{here}-{dead}-a",
        "fresh": f"new-{here}-{dead}-b",
        "busy": f"new-{here}-{os.getpid()}-c",
        "other": f"new-else-where-{dead}-d",
        "forgotten": f"new-else-where-{dead}-e",
    }
    for what, name in names.items():
        path = tmp_path / name
        path.write_text("")
        age = {"fresh": 0, "forgotten": 2 * leftovers.FOREIGN_SECONDS}.get(what, 100)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert set(leftovers.clear_shared(tmp_path)) == {names["mine"], names["forgotten"]}


def test_rows_and_files_that_nobody_waits_for_go(db: Database, sweeper: Sweeper, tmp_path: Path) -> None:
    store = Store(tmp_path / "share")
    with db.session() as session:
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        now = db.now(session)
        for number, age in ((1, 100.0), (2, 0.0)):
            session.add(
                App(id=number, owner=owner, name=f"a{number}", framework="wsgi", created_at=0, updated_at=0)
            )
            session.flush()
            session.add(
                Staging(
                    app_id=number,
                    task="t",
                    built_from="x",
                    state=RUNNING,
                    started_at=now - age,
                    alive_at=now - age,
                )
            )
            digest = OLD if number == 1 else NEW
            session.add(Upload(id=str(number), app_id=number, droplet_hash=digest, created_at=now - age))
            store.droplet(digest).write_bytes(b"")
    store.package(OLD).write_bytes(b"")
    (store.packages / "README").write_text("not one of ours")
    sweeper.sweep()
    with db.session() as session:
        assert session.get_one(Staging, 1).state == FAILED
        assert "repeat" in session.get_one(Staging, 1).error
        assert session.get_one(Staging, 2).state == RUNNING
        assert session.get(Upload, "1") is None
        assert session.get(Upload, "2") is not None
    assert sorted(p.name for p in store.root.rglob("*") if p.is_file()) == ["README", NEW]

"""What killed controllers left is found and removed; what is in use is not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from components.common.config import BusConfig
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App, Base, Staging, StagingState, Upload, User
from components.controller.db.models_records import Identity
from components.controller.storage import references, resource_pool, scratch_names
from components.controller.storage.store import Store, sha1_of
from components.controller.upkeep.sweeper import ANYWAY, LEAST_AGE_SECONDS, TRASH_SECONDS, Sweeper, too_many

OLD, NEW = "a" * 40, "b" * 40
OWNER = 7


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
    assert sorted(scratch_names.clear_local(tmp_path)) == [
        f"ingot-package-{dead}-y",
        f"ingot-upload-{dead}-x",
    ]
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
        age = {"fresh": 0, "forgotten": 2 * scratch_names.FOREIGN_SECONDS}.get(what, 100)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert set(scratch_names.clear_shared(tmp_path, time.time())) == {names["mine"], names["forgotten"]}


@pytest.fixture
def store(sweeper: Sweeper, tmp_path: Path) -> Store:
    return Store(tmp_path / "share")


def add_app(session: Session, owner: User, number: int, droplet: str | None = None) -> None:
    session.add(
        App(
            id=number,
            owner=owner,
            name=f"a{number}",
            framework="wsgi",
            staged_package_hash=droplet,
            package_hash=droplet,
            created_at=0,
            updated_at=0,
        )
    )
    session.flush()


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def fill(db: Database, store: Store, count: int = 10) -> list[str]:
    """So many applications, each with a droplet and a package of its own, all written long ago."""
    digests = [f"{number:040x}" for number in range(1, count + 1)]
    with db.session() as session:
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        for number, digest in enumerate(digests, 1):
            add_app(session, owner, number, digest)
            for place in (store.droplet(digest), store.package(digest)):
                place.write_bytes(b"")
                age(place, 2 * LEAST_AGE_SECONDS)
    return digests


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_rows_that_nobody_waits_for_go(db: Database, sweeper: Sweeper, store: Store) -> None:
    with db.session() as session:
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        now = db.now(session)
        for number, silent in ((1, 100.0), (2, 0.0)):
            add_app(session, owner, number)
            session.add(
                Staging(
                    app_id=number,
                    task="t",
                    built_from="x",
                    state=StagingState.RUNNING,
                    started_at=now - silent,
                    alive_at=now - silent,
                )
            )
            digest = OLD if number == 1 else NEW
            session.add(Upload(id=str(number), app_id=number, droplet_hash=digest, created_at=now - silent))
            store.droplet(digest).write_bytes(b"")
    sweeper.sweep()
    with db.session() as session:
        assert session.get_one(Staging, 1).state == StagingState.FAILED
        assert "repeat" in session.get_one(Staging, 1).error
        assert session.get_one(Staging, 2).state == StagingState.RUNNING
        assert session.get(Upload, "1") is None
        assert session.get(Upload, "2") is not None


def test_a_file_that_nobody_refers_to_goes_into_the_trash_when_it_is_a_day_old(
    db: Database, sweeper: Sweeper, store: Store
) -> None:
    used = fill(db, store)
    for place in (store.droplet(OLD), store.package(OLD), store.droplet(NEW)):
        place.write_bytes(b"")
    age(store.droplet(OLD), LEAST_AGE_SECONDS + 60)
    age(store.package(OLD), LEAST_AGE_SECONDS + 60)
    age(store.droplet(NEW), LEAST_AGE_SECONDS - 60)
    (store.packages / "README").write_text("not one of ours")
    sweeper.sweep()
    assert names(store.droplets) == sorted([*used, NEW])
    assert names(store.packages) == sorted([*used, "README"])
    trash = [folder / OLD for folder in store.trash]
    assert all(path.exists() for path in trash)
    # The day in the trash begins when a file comes there, however old it is.
    age(trash[0], TRASH_SECONDS - 60)
    age(trash[1], TRASH_SECONDS + 60)
    sweeper.sweep()
    assert [path.exists() for path in trash] == [True, False]


def test_an_empty_database_removes_nothing(
    db: Database, sweeper: Sweeper, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used = fill(db, store)
    sweeper.sweep()
    wrong = Database(f"sqlite:///{tmp_path}/wrong.sqlite", 2)
    Base.metadata.create_all(wrong.engine)
    other = Sweeper(sweeper._config, wrong, store)
    trashed = store.trash[0] / OLD
    trashed.write_bytes(b"")
    age(trashed, TRASH_SECONDS + 60)
    # Not even what would not be too many.
    with wrong.session() as session:
        owner = User(email="o@example.org", crypted_password="x", created_at=0)
        for number, digest in enumerate(used[1:], 1):
            add_app(session, owner, number, digest)
    other.sweep()
    assert names(store.droplets) == names(store.packages) == used
    assert trashed.exists(), "the trash is the other's as well"
    said = capsys.readouterr().out
    assert "sweep_held" in said
    assert f"remove {store.owner}" in said
    # What the log says helps: the share becomes the other's.
    store.owner.unlink()
    other.sweep()
    assert names(store.droplets) == used[1:]
    wrong.close()


def test_a_database_that_has_lost_its_rows_removes_nothing_until_an_operator_says_so(
    db: Database, sweeper: Sweeper, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    used = fill(db, store)
    sweeper.sweep()
    with db.session() as session:
        for number in range(1, 6):
            session.delete(session.get_one(App, number))
    for place in (store.trash[0] / OLD, store.trash[0] / NEW):
        place.write_bytes(b"")
    age(store.trash[0] / OLD, TRASH_SECONDS + 60)
    sweeper.sweep()
    assert names(store.droplets) == names(store.packages) == used
    assert "the database has no row for 5 of 10 packages, 5 of 10 droplets" in capsys.readouterr().out
    assert names(store.trash[0]) == [NEW], "what has been in the trash for its day goes all the same"
    (store.notes / ANYWAY).touch()
    sweeper.sweep()
    assert names(store.droplets) == names(store.packages) == used[5:]
    assert not (store.notes / ANYWAY).exists()


def test_a_small_platform_is_swept(db: Database, sweeper: Sweeper, store: Store) -> None:
    used = fill(db, store, count=2)
    store.droplet(OLD).write_bytes(b"")
    age(store.droplet(OLD), LEAST_AGE_SECONDS + 60)
    sweeper.sweep()
    assert names(store.droplets) == used
    assert names(store.trash[0]) == [OLD]


def test_what_a_restored_database_refers_to_comes_back_from_the_trash(
    db: Database, sweeper: Sweeper, store: Store
) -> None:
    used = fill(db, store)
    with db.session() as session:
        session.delete(session.get_one(App, 1))
    # As the deletion of an application does.
    references.release(db, store, packages=[used[0]], droplets=[used[0]])
    assert names(store.droplets) == names(store.packages) == used[1:]
    with db.session() as session:
        add_app(session, session.scalars(select(User)).one(), 1, used[0])
    sweeper.sweep()
    assert names(store.droplets) == names(store.packages) == used
    assert not any(names(folder) for folder in store.trash)


def test_the_trash_goes_first_where_the_share_is_full(
    db: Database, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = fill(db, store)
    store.remove(store.droplet(used[0]))
    with store.incoming():
        assert names(store.trash[0]) == [used[0]]
    # No disk is empty enough.
    monkeypatch.setattr("components.controller.storage.store.LOW_PART", 1.0)
    monkeypatch.setattr("components.controller.storage.store.LOW_BYTES", 1 << 62)
    with store.incoming():
        assert names(store.trash[0]) == []
    assert names(store.droplets) == used[1:]


def test_a_write_that_finds_no_room_empties_the_trash(db: Database, store: Store) -> None:
    used = fill(db, store)
    store.remove(store.droplet(used[0]))
    with (
        pytest.raises(OSError, match="No space left"),
        store.incoming(),
        Path("/dev/full").open("wb", buffering=0) as disk,
    ):
        disk.write(b"x")
    assert names(store.trash[0]) == []


def put(store: Store, tmp_path: Path, content: bytes, used: float) -> Path:
    """Put a file into the pool that was last used so many seconds ago."""
    source = tmp_path / "source"
    source.write_bytes(content)
    digest = sha1_of(source)
    store.add_resource(OWNER, source, digest)
    age(store.owned(OWNER, digest), used)
    return store.resource(digest)


def test_files_that_an_earlier_release_let_everybody_read_are_closed(
    db: Database, sweeper: Sweeper, store: Store, tmp_path: Path
) -> None:
    fill(db, store)
    packages = [path for path in store.packages.iterdir() if path.is_file()]
    droplets = [path for path in store.droplets.iterdir() if path.is_file()]
    old = [*packages, put(store, tmp_path, b"common", 60)]
    assert packages
    assert droplets
    for path in (*old, *droplets):
        path.chmod(0o644)
    sweeper.sweep()
    assert {path.stat().st_mode & 0o777 for path in old} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in droplets} == {0o644}, "DEAs read them"


def test_what_nobody_uses_leaves_the_pool_and_what_is_used_stays(
    sweeper: Sweeper, store: Store, tmp_path: Path
) -> None:
    days = sweeper._config.resources_days * 86_400.0
    unused, asked, sent = (put(store, tmp_path, c, days + 60) for c in (b"unused", b"asked", b"sent"))
    lately = put(store, tmp_path, b"lately", days - 60)
    assert store.has_resource(OWNER, asked.name, len(b"asked"))
    assert not store.has_resource(OWNER, unused.name, 1)
    store.add_resource(OWNER, tmp_path / "source", lately.name)
    (tmp_path / "source").write_bytes(b"sent")
    store.add_resource(OWNER, tmp_path / "source", sent.name)
    sweeper.sweep()
    assert [path.exists() for path in (unused, asked, sent, lately)] == [False, True, True, True]
    mine = [store.owned(OWNER, path.name).exists() for path in (unused, asked, sent, lately)]
    assert mine == [False, True, True, True]


def test_what_was_used_least_lately_leaves_a_pool_that_is_too_large(
    sweeper: Sweeper, store: Store, tmp_path: Path
) -> None:
    hours = [put(store, tmp_path, bytes([n]) * 100, n * 3600.0 + 60) for n in range(6)]
    swept = resource_pool.sweep(store.resources, time.time(), keep_seconds=1e9, most_bytes=lambda _: 350)
    assert [path.exists() for path in hours] == [True] * 3 + [False] * 3
    assert swept == resource_pool.Swept(3, 300)
    # What a push of this hour may count on stays, and all that there is room for.
    swept = resource_pool.sweep(store.resources, time.time(), keep_seconds=1e9, most_bytes=lambda _: 0)
    assert [path.exists() for path in hours] == [True] + [False] * 5
    swept = resource_pool.sweep(
        store.resources, time.time(), keep_seconds=1e9, most_bytes=lambda there: there
    )
    assert swept == resource_pool.Swept(0, 100)


def test_a_full_share_makes_the_pool_smaller(
    sweeper: Sweeper, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = [put(store, tmp_path, bytes([n]) * 100, n * 7200.0) for n in range(8)]
    sweeper.sweep()
    assert all(path.exists() for path in hours)
    monkeypatch.setattr("components.controller.storage.store.LOW_PART", 1.0)
    monkeypatch.setattr("components.controller.storage.store.LOW_BYTES", 1 << 62)
    monkeypatch.setattr("components.controller.upkeep.sweeper.SOON_SECONDS", 0.0)
    sweeper.sweep()
    assert [path.exists() for path in hours] == [True] * 6 + [False] * 2


@pytest.mark.parametrize(
    ("going", "there", "found"),
    [
        (0, 0, False),
        (1, 1, False),
        (4, 4, False),
        (5, 5, True),
        (5, 24, True),
        (5, 25, False),
        (100, 499, True),
    ],
)
def test_a_fifth_or_a_handful_may_go(going: int, there: int, *, found: bool) -> None:
    assert too_many(going, there) == found


def test_a_database_keeps_its_name(db: Database, sweeper: Sweeper, store: Store) -> None:
    sweeper.sweep()
    sweeper.sweep()
    with db.session() as session:
        assert session.get_one(Identity, 1).name == store.owner.read_text()
    assert len(store.owner.read_text()) == 32

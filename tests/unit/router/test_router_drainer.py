"""When nginx is told that WebSockets are to go elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.router.drainer import Drainer
from components.router.errors import NginxError


class FakeNginx:
    def __init__(self) -> None:
        self.told: list[float] = []
        self.silent = False

    async def tell(self, seconds: float) -> None:
        if self.silent:
            raise NginxError("nginx does not answer")
        self.told.append(seconds)


def flag_of(folder: Path, since: float) -> Path:
    flag = folder / "drain"
    flag.touch()
    os.utime(flag, (since, since))
    return flag


async def test_those_in_front_notice_first(tmp_path: Path) -> None:
    nginx = FakeNginx()
    drainer = Drainer(tmp_path / "drain", nginx, 30, 20)
    await drainer.step(999)
    assert not drainer.draining
    flag_of(tmp_path, 1000)
    await drainer.step(1029)
    assert (drainer.draining, nginx.told) == (True, [])
    # Said again and again: nginx forgets, and may be another one.
    await drainer.step(1030)
    await drainer.step(1031)
    assert nginx.told == [20, 20]


async def test_a_clock_that_was_set_back_keeps_nobody_waiting(tmp_path: Path) -> None:
    nginx = FakeNginx()
    await Drainer(flag_of(tmp_path, 8200), nginx, 30, 20).step(1000)
    assert nginx.told == [20]


async def test_undrain_ends_it_at_once_and_once(tmp_path: Path) -> None:
    nginx = FakeNginx()
    flag = flag_of(tmp_path, 1000)
    drainer = Drainer(flag, nginx, 0, 20)
    await drainer.step(1000)
    flag.unlink()
    nginx.silent = True
    with pytest.raises(NginxError):
        await drainer.step(1001)
    nginx.silent = False
    await drainer.step(1002)
    await drainer.step(1003)
    assert nginx.told == [20, 0]


async def test_a_new_process_does_not_begin_anew(tmp_path: Path) -> None:
    nginx = FakeNginx()
    await Drainer(flag_of(tmp_path, 1000), nginx, 30, 20).step(1500)
    assert nginx.told == [20]

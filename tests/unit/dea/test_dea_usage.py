"""What instances use, what is too much, and the sums that are sent."""

from __future__ import annotations

import os

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.dea.instances.instance import Instance
from components.dea.limits.accounting import UsageAccounting
from components.dea.limits.procfs import (
    Process,
)
from components.dea.limits.usage import Usage, excess, overcrowded, sample

TICKS = os.sysconf("SC_CLK_TCK")


def test_samples_count_processor_time_since_the_last() -> None:
    own = [Process(2, 1, 2, 3 * TICKS, 1000), Process(3, 1, 2, 0, 24)]
    first = sample(own, 5, 100.0, 7.0, None)
    assert (first.cpu, first.mem, first.disk) == (0.0, 1024.0, 5)
    later = sample([Process(2, 1, 2, 4 * TICKS, 1000)], 5, 102.0, 9.0, first)
    assert later.cpu == 50.0
    assert sample([], 0, 104.0, 11.0, later).cpu == 0.0


@pytest.mark.parametrize(
    ("memory_kb", "disk_mb", "words"),
    [
        (64 * 1024, 10, None),
        (64 * 1024 + 1, 10, "memory over 64 MB (64 MB)"),
        (80 * 1024, 10, "memory over 64 MB (80 MB)"),
        (0, 11, "disk over 10 MB (11 MB)"),
    ],
)
def test_excess_is_told_in_words(memory_kb: float, disk_mb: int, words: str | None) -> None:
    assert excess(memory_kb, disk_mb * 1024 * 1024, Limits(mem=64, disk=10)) == words


@pytest.mark.parametrize(
    ("threads", "refused", "words"),
    [
        (10, 0, None),
        # It met the limit and came off it: that is its own affair.
        (10, 5, None),
        (95, 0, None),
        (95, 1, "too many tasks (100)"),
        (100, 0, "too many tasks (100)"),
    ],
)
def test_who_stands_at_the_limit_of_tasks_is_told(threads: int, refused: int, words: str | None) -> None:
    assert overcrowded(threads, refused, 100) == words


def test_usage_is_added_up_between_samples() -> None:
    accounting = UsageAccounting()
    message = DeaStart(droplet=7, name="a", version="v", limits=Limits(mem=64))
    one = Instance.of(message, "a" * 32, 0)
    first = Usage(100.0, 0, 10 * 1024, 0, 5 * TICKS)
    accounting.note(one, first, None)
    accounting.note(one, Usage(102.0, 50, 20 * 1024, 0, 6 * TICKS), first)
    (found,) = accounting.samples()
    assert (found.droplet, found.reserved, found.used, found.cpu, found.restarted) == (7, 64, 15, 1.0, False)
    accounting.reset()
    assert accounting.samples() == []
    accounting.crashed(one)
    assert [(s.used, s.restarted) for s in accounting.samples()] == [(0.0, True)]

"""The bound of the cache of droplets."""

from __future__ import annotations

from pathlib import Path

from components.dea.folders.droplet_cache import evicted


def test_the_longest_unused_goes_first() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    entries = [(b, 10, 2.0), (a, 10, 1.0), (c, 10, 3.0)]
    assert evicted(entries, 30) == []
    assert evicted(entries, 25) == [a]
    assert evicted(entries, 5) == [a, b, c]

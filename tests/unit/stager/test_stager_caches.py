"""The cache of packages, as it is handed to the next build."""

from __future__ import annotations

import os
from pathlib import Path

from components.common.filesystem.trees import hand_over


def test_a_cache_is_handed_over_without_what_leads_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("root's")
    cache = tmp_path / "cache"
    (cache / "deep").mkdir(parents=True)
    (cache / "deep" / "wheel").write_text("w")
    (cache / "link").symlink_to(outside)
    (cache / "dirlink").symlink_to(tmp_path)
    os.link(outside, cache / "deep" / "hard")
    os.mkfifo(cache / "pipe")
    hand_over(cache, os.getuid(), 100)
    assert sorted(p.name for p in cache.rglob("*")) == ["deep", "wheel"]
    assert outside.read_text() == "root's"

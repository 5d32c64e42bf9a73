"""Who may read what lies on the share."""

from __future__ import annotations

from pathlib import Path

from components.controller.storage.store import Store


def test_sources_are_the_controllers_own_and_droplets_are_read_by_deas(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    digest = "ab" * 20
    places = {"droplet": store.droplet(digest), "package": store.package(digest)}
    for place in places.values():
        with store.incoming() as scratch:
            scratch.write_bytes(b"x")
            store.keep(scratch, place)
    source = tmp_path / "file"
    source.write_bytes(b"x")
    store.add_resource(1, source, digest)
    places["resource"] = store.resource(digest)
    modes = {name: place.stat().st_mode & 0o777 for name, place in places.items()}
    assert modes == {"droplet": 0o644, "package": 0o640, "resource": 0o640}

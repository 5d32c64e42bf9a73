"""Layouts: the default one, words of the command line, files."""

from pathlib import Path

import pytest

from orchestrator.lab import layout
from orchestrator.lab.errors import BadRequestError


def test_default_layout_is_the_platforms() -> None:
    groups = {m.name: m.groups for m in layout.DEFAULT.machines}
    assert list(groups) == ["core1", "ctl1", "ctl2", "router1", "router2", "dea1", "dea2", "svc1"]
    assert set().union(*groups.values()) == {
        "nats", "ccdb", "share", "controller", "stager", "health_manager", "router", "dea", "orchestrator", "services",
    }  # fmt: skip
    assert layout.DEFAULT.routers() == ["router1", "router2"]


def test_share_is_writable_where_it_is_written_and_deas_see_droplets_alone() -> None:
    rights = {m.name: [(b.target, b.read_only) for b in m.binds] for m in layout.DEFAULT.machines}
    writable, readable = [("/srv/ingot/share", False)], [("/srv/ingot/share/droplets", True)]
    assert rights == {
        "core1": writable, "ctl1": writable, "ctl2": writable, "router1": [], "router2": [],
        "dea1": readable, "dea2": readable, "svc1": [],
    }  # fmt: skip


def test_an_orchestrator_sees_its_part_of_the_checkout_and_the_lab() -> None:
    core, other, *_ = layout.DEFAULT.machines
    seen = {b.target: (b.below, b.source, b.read_only) for b in core.all_binds()}
    assert seen == {
        "/srv/ingot/share": ("lab", "share", False),
        "/srv/ingot/control/inventories/lab": ("project", "inventories/lab", True),
        "/srv/ingot/control/build/releases": ("project", "build/releases", True),
        "/srv/ingot/control/build/labs/{lab}": ("lab", ".", False),
        "/run/ingot-lab": ("run", ".", False),
    }
    assert other.all_binds() == other.binds


def test_words() -> None:
    found = layout.parse_words(["a:nats,router", "b"], "trixie")
    assert [(m.name, m.groups) for m in found.machines] == [("a", ("nats", "router")), ("b", ())]
    assert found.image_of(found.machines[0]) == "trixie"
    assert found.routers() == ["a"]


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "layout.yml"
    path.write_text(
        "image: bookworm-bare\n"
        "machines:\n"
        "  a: {groups: [nats], binds: [{source: share, target: /srv, read_only: true}]}\n"
        "  b: {image: trixie}\n"
        "  c:\n"
    )
    found = layout.load(path)
    assert [found.image_of(m) for m in found.machines] == ["bookworm-bare", "trixie", "bookworm-bare"]
    assert found.machines[0].binds == (layout.PlannedBind("share", "/srv", read_only=True),)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "must be a map"),
        ({"machines": {}}, "at least one machine"),
        ({"machine": {"a": {}}}, "unknown machine"),
        ({"machines": {"a": {"group": []}}}, "a: unknown group"),
        ({"machines": {"A": {}}}, "machine 'A'"),
        ({"machines": {"a": {"image": "sid"}}}, "image 'sid'"),
        ({"machines": {"a": {"binds": [{"source": "x"}]}}}, "wants source and target"),
    ],
)
def test_bad_files_are_refused_with_the_place(raw: object, said: str) -> None:
    with pytest.raises(BadRequestError, match=said):
        layout.parse(raw)


def test_a_machine_given_twice_is_refused() -> None:
    with pytest.raises(BadRequestError, match="twice"):
        layout.parse_words(["a", "a"])

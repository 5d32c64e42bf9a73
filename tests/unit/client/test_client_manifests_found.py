"""Manifests as they are found: their forms over the years, and their problems all at once."""

import pytest

from components.client.errors import PackageError
from components.client.manifest import Settings, find, load


@pytest.mark.parametrize(
    ("text", "memory", "name"),
    [
        ("name: a\nmem: 64M\n", 64, "a"),
        ("applications:\n- name: a\n  memory: 64M\n- name: b\n  memory: 1G\n", 64, "a"),
        ("memory: 64\napplications:\n- name: a\n", 64, "a"),
        (
            "applications:\n  .:\n    name: a\n    mem: 64M\n    framework: {name: wsgi, info: {x: y}}\n",
            64,
            "a",
        ),
    ],
)
def test_manifests_of_three_eras(tmp_path, text, memory, name):
    path = tmp_path / "manifest.yml"
    path.write_text(text)
    assert find(tmp_path) == path
    read = load(path, "a")
    assert (read.memory, read.name) == (memory, name)


def test_manifest_reports_every_problem_at_once(tmp_path):
    path = tmp_path / "ingot.yml"
    path.write_text("memroy: 1G\nmemory: lots\ninstances: 0\nenv: [A]\n")
    with pytest.raises(PackageError) as caught:
        load(path)
    assert all(word in caught.value.message for word in ("memroy", "lots", "instances", "env"))


def test_manifest_with_several_applications_wants_a_name(tmp_path):
    path = tmp_path / "manifest.yml"
    path.write_text("applications: [{name: a}, {name: b}]\n")
    with pytest.raises(PackageError, match="a, b"):
        load(path)
    path.write_text("a: [\n")
    with pytest.raises(PackageError, match="not YAML at line"):
        load(path)


def test_said_settings_win_and_are_completed():
    said = Settings(name="x", env={"A": "1"})
    merged = said.over(Settings(name="y", memory=64, env={"A": "0", "B": "2"}))
    assert (merged.name, merged.memory, merged.env) == ("x", 64, {"A": "1", "B": "2"})

"""What a manifest may say beyond the keys of 2011: health, services, several applications; and what is refused."""

import pytest

from components.client.errors import PackageError
from components.client.manifest import ServiceWish, Settings, health, load, load_all


def read(tmp_path, text, name=None):
    path = tmp_path / "ingot.yml"
    path.write_text(text)
    return load(path, name)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("health: /up", {"path": "/up"}),
        ("health: {path: /up, timeout: 90}", {"path": "/up", "timeout": 90}),
        ("health: {timeout: 5}", {"path": None, "timeout": 5}),
        ("name: a", None),
    ],
)
def test_health(tmp_path, text, want):
    assert read(tmp_path, text).health == want


@pytest.mark.parametrize(
    ("path", "timeout"),
    [("up", None), ("/a b", None), (7, None), (None, 0), (None, 601), (None, True), ("/", "9")],
)
def test_health_that_is_none(path, timeout):
    with pytest.raises(ValueError, match=r"health\."):
        health(path, timeout)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("services: [a, b]", (ServiceWish("a"), ServiceWish("b"))),
        ("services: {a: redis}", (ServiceWish("a", "redis"),)),
        (
            "services: {a: , b: {vendor: redis, plan: large}}",
            (ServiceWish("a"), ServiceWish("b", "redis", "large")),
        ),
        ("services: {a: {type: redis, version: 7.0}}", (ServiceWish("a", "redis-7.0"),)),
        ("services: {a: {type: database, vendor: mysql, tier: free}}", (ServiceWish("a", "mysql", "free"),)),
        ("services: {a: {vendor: mysql, type: database}}", (ServiceWish("a", "mysql"),)),
    ],
)
def test_services(tmp_path, text, want):
    assert read(tmp_path, text).services == want


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memroy: 1G", ("memroy", "did you mean memory?")),
        ("instnaces: 1", ("instnaces", "did you mean instances?")),
        ("xyzzy: 1", ("xyzzy", "known are command, env")),
        ("health: {pth: /}", ("health.pth", "did you mean path?")),
        ("health: [a]", ("health: must be",)),
        ("health: {path: up}", ("begins with /",)),
        ("services: {a: {vendro: redis}}", ("services.a.vendro", "did you mean vendor?")),
        ("services: {a: [1]}", ("services.a: must be",)),
        ("services: redis", ("services: must be",)),
    ],
)
def test_what_is_refused_names_the_key_and_the_nearest_known_one(tmp_path, text, words):
    with pytest.raises(PackageError) as caught:
        read(tmp_path, text)
    assert all(word in caught.value.message for word in words)


def test_all_applications_of_a_manifest(tmp_path):
    path = tmp_path / "manifest.yml"
    path.write_text("memory: 64M\napplications:\n- name: a\n- {name: b, memory: 1G}\n")
    assert [(s.name, s.memory) for s in load_all(path)] == [("a", 64), ("b", 1024)]
    path.write_text("applications:\n- name: a\n- path: b\n")
    with pytest.raises(PackageError, match="no name"):
        load_all(path)
    path.write_text("applications: [1]\n")
    with pytest.raises(PackageError, match="list of mappings"):
        load_all(path)
    path.write_text("")
    assert load_all(path) == [Settings()]


def test_what_is_said_wins_and_what_is_not_is_kept():
    said = Settings(health={"path": "/a"})
    other = Settings(health={"path": "/b"}, services=(ServiceWish("s"),))
    assert said.over(other).health == {"path": "/a"}
    assert said.over(other).services == (ServiceWish("s"),)


@pytest.mark.parametrize(
    "text",
    [
        "env: {DEBUG: true, VER: 1.10, MODE: 0755, RATIO: 22:22, ID: 00012, HEX: 0x1f, BIG: 1_000, DAY: 2026-08-01}",
        "environment: {DEBUG: true, VER: 1.10, MODE: 0755, RATIO: 22:22, ID: '00012', HEX: 0x1f, BIG: 1_000, DAY: 2026-08-01}",
        (
            "env:\n  <<: &more {DEBUG: true, VER: 1.10, MODE: 0755, RATIO: 22:22}\n  ID: 00012\n  HEX: 0x1f\n  BIG: 1_000\n"
            "  DAY: 2026-08-01"
        ),
        (
            "applications:\n- name: a\n  env:\n    DEBUG: true\n    VER: 1.10\n    MODE: 0755\n    RATIO: 22:22\n    ID: 00012\n"
            "    HEX: 0x1f\n    BIG: 1_000\n    DAY: 2026-08-01"
        ),
    ],
)
def test_variables_are_the_texts_that_were_written(tmp_path, text):
    assert read(tmp_path, text).env == {
        "DEBUG": "true",
        "VER": "1.10",
        "MODE": "0755",
        "RATIO": "22:22",
        "ID": "00012",
        "HEX": "0x1f",
        "BIG": "1_000",
        "DAY": "2026-08-01",
    }


def test_a_value_that_a_variable_shares_by_an_alias_stays_what_it_is(tmp_path):
    found = read(tmp_path, "instances: &n 2\nenv: {WORKERS: *n}")
    assert (found.instances, found.env) == (2, {"WORKERS": "2"})


def test_a_folder_may_be_named_as_the_environment_is(tmp_path):
    found = read(tmp_path, "applications: {env: {instances: 2, env: {A: 1.10}}}")
    assert (found.instances, found.env) == (2, {"A": "1.10"})


def test_names_of_variables_are_texts_and_nothing_is_empty(tmp_path):
    text = "memory: 64\nenv: {NO: 1, y: , E: ~, Q: '~', L: \"a\\r\\nb\"}"
    found = read(tmp_path, text)
    assert (found.memory, found.env) == (64, {"NO": "1", "y": "", "E": "", "Q": "~", "L": "a\r\nb"})


@pytest.mark.parametrize("value", ["{a: 1}", "[1, 2]"])
def test_a_variable_that_is_no_text_is_refused_by_name(tmp_path, value):
    with pytest.raises(PackageError, match=r"env\.MAP: must be a text"):
        read(tmp_path, f"env: {{MAP: {value}}}")


@pytest.mark.parametrize("name", ["a.b", "my-key", "1X", "A B", "", "VCAP_X", "Vmc_x", "INGOT_X"])
def test_a_variable_that_cannot_be_is_refused_by_name(tmp_path, name):
    with pytest.raises(PackageError, match=rf"env\.{name}: "):
        read(tmp_path, f"env: {{'{name}': 1}}")
